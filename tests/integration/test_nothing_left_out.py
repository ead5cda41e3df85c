"""In CI a test that did not run fails the session, but for those in tests/gpu: conftest.py, in real sessions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]

SUITE = {
    "unit/test_a.py": "def test_it_runs():\n    pass\n",
    "gpu/test_b.py": "import pytest\n\ndef test_it_needs_a_gpu():\n    pytest.skip('no GPU')\n",
}
SKIPS = {"unit/test_c.py": "import pytest\n\ndef test_c():\n    pytest.skip('later')\n"}
PROCESS = ["-p", "xdist", "-n", "1"]
IS_SKIPPED = {"unit/test_d.py": "import pytest\npytest.importorskip('no_such_module')\n"}
SUITES: dict[str, tuple[dict[str, str], list[str], str, int]] = {
    "as it is": ({}, [], "1", 0),
    "all selected": ({}, ["-k", "needs_a_gpu or runs"], "1", 0),
    "one left out": ({}, ["-k", "needs_a_gpu"], "1", 1),
    "a test that skips itself": (SKIPS, [], "1", 1),
    "a module that is skipped": (IS_SKIPPED, [], "1", 1),
    "one left out, and not in CI": ({}, ["-k", "needs_a_gpu"], "", 0),
    "as it is, in a process": ({}, PROCESS, "1", 0),
    "one left out in a process": ({}, [*PROCESS, "-k", "needs_a_gpu"], "1", 1),
}
"""What is added, the words for pytest, CUDABUILD_CI, and the exit code: in CI only GPU tests may be left out."""
RUN_ALL = """
import json, os, sys
import pytest
children = {}
for name, (folder, strict, words) in json.load(sys.stdin).items():
    children[name] = os.fork()
    if children[name] == 0:
        os.chdir(folder)
        os.environ["CUDABUILD_CI"] = strict
        os.dup2(2, 1)
        os._exit(pytest.main(words))
print(json.dumps({name: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for name, child in children.items()}))
"""
"""Runs pytest in each folder, all at once: to load it takes longer than all else."""


@pytest.fixture(scope="module")
def exit_codes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How each suite ended."""
    asked = {}
    for name, (extra, words, strict, _code) in SUITES.items():
        folder = tmp_path_factory.mktemp("suite")
        copy_suite(folder, extra)
        asked[name] = (str(folder), strict, ["-p", "no:cacheprovider", "-q", *words])
    plain = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    told = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command, text = [sys.executable, "-c", RUN_ALL], json.dumps(asked)
    done = subprocess.run(command, env={**told, **plain}, input=text, capture_output=True, text=True, check=True)
    codes: dict[str, int] = json.loads(done.stdout)
    return codes


@pytest.mark.parametrize("name", SUITES)
def test_in_ci_only_gpu_tests_may_be_left_out(exit_codes: dict[str, int], name: str) -> None:
    assert exit_codes[name] == SUITES[name][-1]


def copy_suite(folder: Path, extra: dict[str, str]) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", folder / "conftest.py")
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name, text in {**SUITE, **extra}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
