"""Real builds of a small C project, looked at while they run, after they were killed, failed or done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from broker_bench import runtime_folder
from jsonschema import Draft202012Validator

from buildkit.guard.trace import read_trace
from buildkit.store.traces import Traces
from tests.integration.conftest import TORCH, Cudabuild, clean_environment

pytestmark = pytest.mark.integration

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"
WORDS = ("--device", "cpu", "--torch", TORCH, "--require", "built", "--json")
SETUP = """
import os, time
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

class Patient(build_ext):
    def build_extension(self, extension):
        if extension.name.endswith("_second"):
            while not os.path.exists({latch!r}):
                time.sleep(0.05)
        super().build_extension(extension)

names = ["_first", "_second"]
extensions = [Extension("patient." + name, ["csrc/" + name + ".c"]) for name in names]
setup(name={name!r}, version="1.0", packages=["patient"], ext_modules=extensions, cmdclass={{"build_ext": Patient}})
"""
MODULE = """
#include <Python.h>
static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "{name}", 0, -1, 0, 0, 0, 0, 0}};
PyMODINIT_FUNC PyInit_{name}(void) {{ return PyModule_Create(&module); }}
"""


@pytest.fixture
def alone(cudabuild: Cudabuild) -> Iterator[dict[str, str]]:
    """The variables of somebody whose broker is his alone: none of another checkout, with builds of its own."""
    with runtime_folder() as folder:
        yield {"XDG_RUNTIME_DIR": str(folder)}


@pytest.fixture
def latch(tmp_path: Path) -> Path:
    """When this exists, the second extension is compiled."""
    return tmp_path / "latch"


@pytest.fixture
def project(tmp_path: Path, latch: Path) -> Path:
    """A project of a name of its own, so that its builds are found by it."""
    folder = tmp_path / "patient"
    (folder / "csrc").mkdir(parents=True)
    (folder / "patient").mkdir()
    (folder / "patient" / "__init__.py").write_text("")
    name = f"patient-{os.getpid()}-{time.time_ns()}"
    (folder / "setup.py").write_text(SETUP.format(latch=str(latch), name=name))
    requires = '[build-system]\nrequires = ["setuptools>=64"]\nbuild-backend = "setuptools.build_meta"\n'
    (folder / "pyproject.toml").write_text(requires)
    for module in ("_first", "_second"):
        (folder / "csrc" / f"{module}.c").write_text(MODULE.format(name=module))
    return folder


def validated(answer: Mapping[str, Any], schema: str) -> Mapping[str, Any]:
    Draft202012Validator(json.loads((DOCS / schema).read_text("utf-8"))).validate(answer)
    return answer


def until(look: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What a look finds, once it finds something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    return found


@pytest.fixture
def building(
    project: Path,
    console_script: Path,
    cache: Path,
    plain_environment: Path,
    tmp_path: Path,
    alone: dict[str, str],
) -> Iterator[subprocess.Popen[bytes]]:
    """A build that waits for the latch after its first compilation and its first link."""
    own = {"CUDABUILD_CACHE": str(cache), "VIRTUAL_ENV": str(plain_environment), **alone}
    environment = clean_environment(own)
    command = [str(console_script), str(project), *WORDS]
    with (
        (tmp_path / "said").open("wb") as said,
        subprocess.Popen(command, env=environment, stdout=said, stderr=said) as running,
    ):
        yield running
        running.kill()


def test_a_build_is_seen_while_it_runs_after_it_was_killed_and_when_it_is_done(
    building: subprocess.Popen[bytes],
    project: Path,
    latch: Path,
    cudabuild: Cudabuild,
    cache: Path,
    tmp_path: Path,
    alone: dict[str, str],
) -> None:
    def seen() -> Mapping[str, Any] | None:
        assert building.poll() is None, (tmp_path / "said").read_text()
        builds = validated(cudabuild("monitor", "--json", env=alone).json, "monitor.schema.json")["builds"]
        return next((one for one in builds if one["pid"] == building.pid and (one["done"] or 0) >= 2), None)

    build = until(seen)
    assert (build["admitted"], build["units"], build["done"]) == (True, [], 2)
    assert build["build"] in cudabuild("monitor", "--once", env=alone).out

    def known() -> Mapping[str, Any] | None:
        found = validated(cudabuild("report", build["build"], "--json").json, "report.schema.json")
        return found if found["trace"] and len(found["trace"]["units"]) >= 2 else None

    report = until(known)
    assert (report["status"], report["trace"]["complete"]) == ("running", False)
    assert report["trace"]["units"][0]["name"] == "_first.c"
    assert "is running" in cudabuild("report", build["build"]).out

    building.send_signal(signal.SIGKILL)
    building.wait(30)
    report = validated(cudabuild("report", build["build"], "--json").json, "report.schema.json")
    assert (report["status"], report["summary"]["done"]) == ("killed", 2)

    latch.touch()
    answer = cudabuild(str(project), *WORDS, env=alone, timeout=300).json
    assert "error" not in answer, answer
    picture = tmp_path / "trace.json"
    ran = cudabuild("report", answer["build"], "--json", "--trace", str(picture))
    report = validated(ran.json, "report.schema.json")
    assert (report["build"], report["status"], report["key"]) == (answer["build"], "succeeded", answer["key"])
    units = report["trace"]["units"]
    assert {"_second.c"} <= {unit["name"] for unit in units}
    guard = answer["guard"]
    assert guard["kept"] == 1, "the first file of the build that was killed"
    assert len(units) == report["summary"]["done"] == guard["units"] - guard["kept"]
    for unit in units:
        (run,) = unit["runs"]
        assert 0 <= run["queued"] <= run["start"] <= run["end"] <= report["trace"]["seconds"]
        assert run["outcome"] == "done"
        assert run["cpu"] > 0
        assert run["peak"] > 0
    assert report["summary"]["longest"]["name"] in {unit["name"] for unit in units}
    events = json.loads(picture.read_text())["traceEvents"]
    assert {one["name"] for one in events if one["ph"] == "X" and one["pid"] == 1} == {one["name"] for one in units}

    # What a copy of the store keeps of it: the entry and the trace, without records and build folders.
    kept = read_trace(Traces(cache / "store").read(answer["build"]) or b"")
    assert kept is not None
    assert kept.complete
    assert not (cache / "builds" / answer["key"]).exists()
    assert f"build {answer['build']}" in cudabuild("report", answer["key"][:20]).out


@pytest.mark.parametrize("guard", ["on", "off"])
def test_the_report_of_a_build_that_failed(
    project: Path, latch: Path, cudabuild: Cudabuild, alone: dict[str, str], guard: str
) -> None:
    latch.touch()
    (project / "csrc" / "_second.c").write_text("#error not this one\n")
    environment = {**alone, "CUDABUILD_GUARD": guard}
    answer = cudabuild(str(project), *WORDS, env=environment, timeout=300).json
    assert answer["error"]["kind"] == "build-failed", answer
    report = validated(cudabuild("report", answer["build"], "--json").json, "report.schema.json")
    assert (report["status"], report["cause"]) == ("failed", "build-failed")
    trace = report["trace"]
    assert trace["complete"]
    assert trace["tree"]
    outcomes = {unit["name"]: unit["runs"][-1]["outcome"] for unit in trace["units"]}
    if guard == "off":
        assert (trace["admitted"], outcomes) == (False, {})
    else:
        assert (outcomes["_first.c"], outcomes["_second.c"]) == ("done", "failed")
    page = cudabuild("report", answer["build"], env={"COLUMNS": "60"}).out
    assert "failed (build-failed)" in page
    assert max(len(line) for line in page.splitlines()[1:]) <= 60


def test_the_monitor_goes_on_in_a_pipe_until_ctrl_c(cache: Path) -> None:
    environment = clean_environment({"CUDABUILD_CACHE": str(cache)})
    command = [sys.executable, "-m", "buildkit", "monitor"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        blocks = 0
        for line in running.stdout:
            blocks += line.startswith("cudabuild monitor")
            if blocks == 3:
                break
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert (blocks, running.returncode, err) == (3, 0, "")
