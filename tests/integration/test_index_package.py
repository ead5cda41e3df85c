"""One package of the index by its recipe in every run, as the README's first command builds it.

The others take a night: tests/integration/test_packages.py.
"""

from __future__ import annotations

from pathlib import Path

from tests.integration.conftest import TORCH, Cudabuild


def test_the_main_job_builds_a_package_of_the_index_and_proves_it(cudabuild: Cudabuild, person: dict[str, str]) -> None:
    words = ("diso", "--target", "12.0", "--torch", TORCH, "--json")
    built = cudabuild(*words, "--refresh", "--no-canary", env=person, timeout=1500)
    assert built.code == 0, built.err
    answer = built.json
    assert (answer["cache"], answer["verdict"]["grade"], answer["plan"]["targets"]) == ("miss", "imported", ["12.0"])
    stages = {stage["name"]: stage for stage in answer["verdict"]["stages"]}
    assert stages["probe"]["outcome"] == "not-executed"
    assert [held["elf"] for held in stages["audit"]["evidence"]["objects"] if held["units"]] == [["12.0"]]
    assert Path(answer["wheel"]["path"]).name.startswith("diso-0.1.4+pt2.13.cu130.sm120-")
    again = cudabuild(*words, env=person)
    assert (again.code, again.json["cache"]) == (0, "hit"), again.err
