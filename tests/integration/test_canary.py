"""A toolchain that is broken is told by the canary, in seconds and by the tool's own line, before a package compiles.

Each toolkit here is a folder of links to the real one with one thing changed; no table of cudabuild's knows any of
these faults.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import FAULTS, LIES, linked, lying_compiler, remove_ptxas

from buildkit.machine.toolkit import Toolkit

pytestmark = pytest.mark.integration

PACKAGE = Path(__file__).parents[1] / "packages" / "fastcuda"
OPTIONS = ("--target", "12.0", "--torch", "2.13.0+cu130", "--json")
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Projects that compile in seconds, which no store has seen; the last one is only built with what is broken."""
    found = []
    for name in ("one", "two", "never"):
        folder = tmp_path_factory.mktemp("packages") / name
        shutil.copytree(PACKAGE, folder)
        with (folder / "setup.py").open("a", encoding="utf-8") as file:
            file.write(f"# {folder} {time.time_ns()}\n")
        found.append(folder)
    return found


@pytest.fixture(scope="module")
def sound(wheel_toolkit: Toolkit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound toolkit that no canary was built with: it has a header of its own."""
    home = linked(wheel_toolkit, tmp_path_factory.mktemp("sound") / "cuda")
    (home / "include" / "cuda_stamp.h").write_text(f"// {home} {time.time_ns()}\n", encoding="utf-8")
    return home


def build(cudabuild: Callable[..., Any], package: Path, home: Path, *more: str, **options: Any) -> Any:
    environment = {**NO_GPU, **options.pop("env", {})}
    return cudabuild("build", f"{package}/", "--cuda-home", str(home), *OPTIONS, *more, env=environment, **options)


def planned(cudabuild: Callable[..., Any], package: Path, home: Path, *more: str) -> str:
    """What the plan says of the canary."""
    done = cudabuild("plan", f"{package}/", "--cuda-home", str(home), *OPTIONS, *more, env=NO_GPU)
    assert done.code == 0, done.err
    return str(done.json["plan"]["canary"])


def stages(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {stage["name"]: stage for stage in answer["verdict"]["stages"]}


def test_one_canary_serves_every_package_of_a_toolchain(
    cudabuild: Callable[..., Any], packages: list[Path], sound: Path
) -> None:
    one, two, _never = packages
    # Before torch is installed and the build requirements are resolved, nothing can be said of a key.
    fetched = cudabuild("fetch", f"{one}/", "--cuda-home", str(sound), *OPTIONS, env=NO_GPU)
    assert fetched.code == 0, fetched.err
    assert planned(cudabuild, one, sound) == "miss"
    assert planned(cudabuild, one, sound, "--no-canary") == "off"
    first = build(cudabuild, one, sound)
    assert first.code == 0, first.err
    assert list(stages(first.json))[:4] == ["canary", "build", "audit", "import"]
    built = stages(first.json)["canary"]
    assert (built["outcome"], built["evidence"]["cache"]) == ("passed", "miss")
    assert built["evidence"]["checks_on_cpu"] > 10
    assert first.json["plan"]["canary"] == "miss"
    assert planned(cudabuild, two, sound) == "hit"
    second = build(cudabuild, two, sound)
    assert second.code == 0, second.err
    served = stages(second.json)["canary"]
    assert (served["outcome"], served["evidence"]["cache"]) == ("passed", "hit")
    assert served["evidence"]["key"] == built["evidence"]["key"]
    assert second.json["plan"]["canary"] == "hit"
    hit = build(cudabuild, two, sound)
    assert (hit.code, hit.json["cache"], hit.json["build"]) == (0, "hit", second.json["build"])


def test_nothing_of_torch_is_in_the_canary(cudabuild: Callable[..., Any], packages: list[Path], sound: Path) -> None:
    done = build(cudabuild, packages[0], sound)
    key = stages(done.json)["canary"]["evidence"]["key"]
    shown = cudabuild("cache", "show", key, "--json")
    assert shown.code == 0, shown.err
    entry = shown.json
    assert (entry["inputs"]["torch"], entry["inputs"]["torch_closure"], entry["inputs"]["variant"]) == ("", "", [])
    assert not [name for name in entry["inputs"]["environment"] if "TORCH" in name]
    assert re.fullmatch(r"cudabuild_mcubes-[\d.]+\+cu130\.sm120-cp3\d+-cp3\d+-linux_\w+\.whl", entry["filename"])
    assert entry["verdict"]["torch"] == ""
    proven = {stage["name"]: stage["outcome"] for stage in entry["verdict"]["stages"]}
    assert proven == {"build": "passed", "audit": "passed", "import": "passed", "smoke": "passed"}


@pytest.mark.parametrize("name", FAULTS)
def test_a_damaged_toolkit_is_told_by_the_canary(
    cudabuild: Callable[..., Any],
    packages: list[Path],
    wheel_toolkit: Toolkit,
    tmp_path: Path,
    cache: Path,
    name: str,
) -> None:
    fault = FAULTS[name]
    home = linked(wheel_toolkit, tmp_path / "cuda")
    fault.damage(home)
    done = build(cudabuild, packages[-1], home)
    check_told(done, fault.message, fault.line)
    assert Path(done.json["error"]["log"]).is_file()
    assert not (cache / "builds" / done.json["key"]).exists(), "nothing of the package was unpacked"
    assert planned(cudabuild, packages[-1], home) == "miss", "a failure is not remembered as anything else"


def check_told(done: Any, message: str, line: str) -> None:
    """It failed by the canary, and says why."""
    assert done.code == 5, done.err
    error, verdict = done.json["error"], stages(done.json)
    assert error["kind"] == "canary-failed"
    assert re.search(message, error["message"]), error
    assert re.search(line, error["evidence"]), error
    assert "--no-canary" in error["hint"]
    assert (verdict["canary"]["outcome"], verdict["build"]["outcome"]) == ("failed", "not-executed")
    assert done.json["verdict"]["grade"] == "none"


@pytest.mark.parametrize(
    ("said", "options"),
    LIES.values(),
    ids=LIES,
)
def test_a_compiler_that_lies_is_told_by_the_canary(
    cudabuild: Callable[..., Any], packages: list[Path], sound: Path, tmp_path: Path, said: str, options: str
) -> None:
    done = build(cudabuild, packages[-1], sound, env=lying_compiler(tmp_path, said, options))
    check_told(done, rf"g\+\+ says that it is gcc {said}, and compiles as another one", r"#define __GNUC__ \d+")


def test_a_compiler_that_says_it_is_too_new_is_taken_at_its_word(
    cudabuild: Callable[..., Any], packages: list[Path], sound: Path, tmp_path: Path
) -> None:
    done = build(cudabuild, packages[-1], sound, env=lying_compiler(tmp_path, "16.1.0"))
    assert (done.code, done.json["error"]["kind"]) == (5, "no-compiler")


def test_without_the_canary_the_package_is_the_first_to_fail(
    cudabuild: Callable[..., Any], packages: list[Path], wheel_toolkit: Toolkit, tmp_path: Path
) -> None:
    home = linked(wheel_toolkit, tmp_path / "cuda")
    remove_ptxas(home)
    done = build(cudabuild, packages[-1], home, "--no-canary")
    assert (done.code, done.json["error"]["kind"]) == (6, "build-failed")
    assert done.json["error"]["rule"], "its log says which tool is gone"
    assert done.json["plan"]["canary"] == "off"
