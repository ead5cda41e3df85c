"""A matrix of small wheels, really run: killed in the middle, gone on with, all hits afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sysconfig
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buildkit.cli.matrix_schema import RUN, SHOWN
from buildkit.errors import UsageError
from buildkit.guard.sampling import all_processes
from buildkit.matrix.changed import changed_since
from buildkit.matrix.packages import Wanted
from tests.integration.conftest import clean_environment

pytestmark = pytest.mark.integration

PACKAGE = Path(__file__).parents[1] / "packages" / "plainc"


class Project:
    """A folder with a matrix of wheels that no store has: as many recipes without torch, for the CPU."""

    def __init__(self, folder: Path, cache: Path, environment: Path) -> None:
        self.mark = f"m{uuid.uuid4().hex[:10]}"
        self.folder = folder
        self.names = [f"{self.mark}{letter}" for letter in "abc"]
        self._environment = clean_environment({"CUDABUILD_CACHE": str(cache), "VIRTUAL_ENV": str(environment)})
        self._script = Path(sysconfig.get_path("scripts")) / "cudabuild"
        self.states = cache / "matrix"
        for name in self.names:
            self._package(name)
        folder.joinpath("cudabuild.toml").write_text(
            f'[matrix]\nrecipes = {json.dumps(self.names)}\ntorch = ["2.13.0+cu130"]\ndevice = "cpu"\n'
            '[[matrix.include]]\ntargets = ["5.0"]\ndevice = "cuda"\n',
            encoding="utf-8",
        )

    def _package(self, name: str) -> None:
        source = self.folder / "sources" / name
        shutil.copytree(PACKAGE, source)
        pyproject = source / "pyproject.toml"
        pyproject.write_text(pyproject.read_text("utf-8").replace('name = "plainc"', f'name = "{name}"'), "utf-8")
        recipe = self.folder / "recipes" / name
        recipe.mkdir(parents=True)
        recipe.joinpath("recipe.toml").write_text(
            f'edition = 1\nname = "{name}"\nsummary = "x"\nlicense = {{ spdx = "MIT", redistributable = true }}\n'
            f'[[version]]\nversion = "1.0"\nfolder = "{source}"\n[build]\ntorch = false\n'
            '[verify]\nimports = ["plainc"]\n',
            encoding="utf-8",
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self._script), "matrix", *words], cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def run(self, *words: str, code: int = 0) -> dict[str, Any]:
        done = self.start(*words, "--json")
        out, err = done.communicate(timeout=240)
        assert done.returncode == code, err
        value: dict[str, Any] = json.loads(out)
        return value

    def state(self) -> dict[str, Any]:
        """The document of this project's run; empty while there is none."""
        for path in self.states.glob("*.json"):
            with contextlib.suppress(OSError, ValueError):
                value: dict[str, Any] = json.loads(path.read_text("utf-8"))
                if value["file"] == str(self.folder / "cudabuild.toml"):
                    return value
        return {}

    def left(self) -> list[int]:
        """Live processes that name one of its wheels."""
        found = []
        for process in all_processes():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{process.pid}/cmdline").read_bytes()
                if not process.ended and self.mark.encode() in words:
                    found.append(process.pid)
        return found


@pytest.fixture
def project(tmp_path: Path, cache: Path, plain_environment: Path) -> Iterator[Project]:
    made = Project(tmp_path, cache, plain_environment)
    yield made
    for pid in made.left():
        os.kill(pid, signal.SIGKILL)


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def statuses(state: dict[str, Any]) -> list[str]:
    return [cell["status"] for cell in state.get("cells", ())]


def test_a_run_that_was_ended_goes_on_and_the_next_one_is_all_hits(project: Project, tmp_path: Path) -> None:
    interrupted = project.start("run", "--cells", "1")
    wait_until(lambda: statuses(project.state()) == ["running", "waiting", "waiting"] and len(project.left()) > 0)
    interrupted.send_signal(signal.SIGINT)
    _, said = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130, said
    assert not project.left()
    assert (project.state()["status"], statuses(project.state())) == ("interrupted", ["waiting"] * 3)

    killed = project.start("run", "--cells", "1")
    wait_until(lambda: statuses(project.state()) == ["succeeded", "running", "waiting"] and len(project.left()) > 0)
    killed.kill()
    killed.communicate()
    wait_until(lambda: not project.left())

    shown = project.run("status")
    RUN.validate_python(shown)
    assert (shown["status"], shown["counts"]["left"]) == ("interrupted", 2)

    done = project.run("run", "--cells", "2", "--junit", "junit.xml", "--report", "run.json", "--out", "dist")
    RUN.validate_python(done)
    assert done["run"] == shown["run"]
    assert done["counts"] == {
        "cells": 3, "built": 3, "hits": 0, "failed": 0, "left": 0, "dropped": 3, "grades": {"imported": 3}, "retries": 2
    }  # fmt: skip
    assert done["cells"][0]["attempts"] == shown["cells"][0]["attempts"], "it was not built again"
    assert "CUDA 13.0 makes nothing below 7.5" in done["dropped"][0]["reason"]
    assert json.loads(tmp_path.joinpath("run.json").read_text("utf-8")) == done
    assert 'tests="6" failures="0" skipped="3"' in " ".join(tmp_path.joinpath("junit.xml").read_text("utf-8").split())
    assert len(list(tmp_path.joinpath("dist").glob("*.whl"))) == 3

    again = project.run("run")
    assert again["run"] != done["run"]
    assert again["counts"]["hits"] == 3
    seen = project.run("show")
    SHOWN.validate_python(seen)
    assert seen["totals"]["states"] == {"stored": 3}

    recipe = tmp_path / "recipes" / project.names[0] / "recipe.toml"
    recipe.write_text(recipe.read_text("utf-8").replace("torch = false", "torch = false\nenv = { A = '1' }"), "utf-8")
    stale = project.run("show", "--only", f"{project.names[0]}-*")["cells"][0]
    assert (stale["state"], stale["grade"], stale["expected_from"]) == ("stale", "imported", "same")
    assert any("recipe_build" in line for line in stale["differs"])
    assert stale["expected_seconds"] > 0


def test_what_has_changed_since_a_revision(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        names = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main")
        subprocess.run(["git", *names, *words], cwd=tmp_path, check=True, capture_output=True)

    for name in ("same", "edited", "committed", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.toml").write_text("1", encoding="utf-8")
    git("init", ".")
    git("add", "same", "edited", "committed")
    git("commit", "-m", "first")
    (tmp_path / "committed" / "recipe.toml").write_text("2", encoding="utf-8")
    git("commit", "-a", "-m", "second")
    (tmp_path / "edited" / "recipe.toml").write_text("2", encoding="utf-8")
    packages = [Wanted(name, "1", name, tmp_path / name) for name in ("same", "edited", "committed", "new")]
    outside = Wanted("outside", "1", "outside", tmp_path.parent)
    found = changed_since("HEAD~1", [*packages, outside, Wanted("pypi:x", "1", "x")])
    assert {name for name, _ in found} == {"edited", "committed", "new"}
    assert {name for name, _ in changed_since("HEAD", packages)} == {"edited", "new"}
    with pytest.raises(UsageError, match="git does not know it"):
        changed_since("-x", packages)
    # A checkout that git does not read has not stayed as it was.
    (tmp_path / "new" / ".git").write_text(f"gitdir: {tmp_path}/gone\n", encoding="utf-8")
    with pytest.raises(UsageError, match="git cannot read") as caught:
        changed_since("HEAD", packages)
    assert "not a git repository" in caught.value.evidence
