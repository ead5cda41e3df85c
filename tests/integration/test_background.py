"""Builds that do not come to an end by themselves: ended by the deadline, by ``cancel``, and whoever is killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from buildkit.build.running import find_running, is_running
from buildkit.cli.schema import ANSWER, CancelObject, DetachedObject
from buildkit.errors import CannotCancel
from buildkit.guard.sampling import all_processes, descendants
from buildkit.store.builds import BuildRecords

pytestmark = pytest.mark.integration

PACKAGE = Path(__file__).parents[1] / "packages" / "restless"
WORDS = ("--device", "cpu", "--torch", "2.13.0+cu130", "--json")


class Restless:
    """A project that no store has, and how to build it."""

    def __init__(self, folder: Path, script: Path, cache: Path, environment: Path, runtime: Path) -> None:
        self.mark = f"restless{uuid.uuid4().hex[:12]}"
        self.cache = cache
        self.records = BuildRecords(cache / "store")
        self.started: list[subprocess.Popen[str]] = []
        self._script = script
        self._folder = folder
        self.runtime = runtime
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CUDABUILD_") and k != "CONDA_PREFIX"}
        own = {"CUDABUILD_CACHE": cache, "VIRTUAL_ENV": environment, "XDG_RUNTIME_DIR": runtime}
        self._environment = {**kept, **{name: str(path) for name, path in own.items()}}
        shutil.copytree(PACKAGE, folder / self.mark)
        pyproject = folder / self.mark / "pyproject.toml"
        pyproject.write_text(pyproject.read_text("utf-8").replace('"restless"\nversion', f'"{self.mark}"\nversion'))

    def words(self, way: str, *more: str) -> list[str]:
        passed = [f"--pass-env=RESTLESS={way}", f"--pass-env=RESTLESS_MARK={self.mark}"] if way else []
        return ["build", f"./{self.mark}", *WORDS, *passed, *more]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """In a process group of its own, as a shell starts it."""
        process = subprocess.Popen(
            [str(self._script), *words], env=self._environment, cwd=self._folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, *words: str) -> tuple[int, dict[str, Any], str]:
        """To its end: exit code, object, what was said."""
        done = self.start(*words)
        out, err = done.communicate(timeout=120)
        return done.returncode, json.loads(out) if out.startswith("{") else {"text": out}, err

    def left(self) -> list[int]:
        """Live processes of the build, however they got away: by what stands in their command lines."""
        found = []
        for process in all_processes():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{process.pid}/cmdline").read_bytes()
                if not process.ended and self.mark.encode() in words and b"cudabuild" not in words.split(b"\0")[1]:
                    found.append(process.pid)
        return found

    def is_busy(self) -> bool:
        """The build runs, ``gcc`` or what takes its place is there, and both of those that got away."""
        return len(self.left()) >= 2

    def folder(self, key: str) -> Path:
        """Where the build lies."""
        return self.cache / "builds" / key


@pytest.fixture
def restless(tmp_path: Path, console_script: Path, cache: Path, plain_environment: Path) -> Iterator[Restless]:
    runtime = Path(tempfile.mkdtemp(prefix="cb-"))  # a socket's path is short
    project = Restless(tmp_path, console_script, cache, plain_environment, runtime)
    yield project
    for process in project.started:
        with process:  # closes its streams
            process.kill()
    for pid in project.left():
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(runtime)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


@pytest.mark.parametrize("way", ["bomb", "write"])
def test_the_deadline_ends_it_and_gives_back_the_disk(restless: Restless, way: str) -> None:
    build = restless.start(*restless.words(way, "--timeout", "5s"))
    if way == "write":
        wait_until(restless.is_busy)
        sources = restless.folder(find_running(restless.records, restless.mark).key or "") / "src"
        wait_until(lambda: any(path.stat().st_size > 16 << 20 for path in sources.rglob("endless.i")))
    out, said = build.communicate()
    answer = json.loads(out)
    assert build.returncode == 8, said
    assert answer["error"]["kind"] == "timeout"
    assert answer["guard"]["survivors"] == 0
    assert not restless.left()
    folder = restless.folder(answer["key"])
    assert not (folder / "tmp").exists()
    kept = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert kept < 16 << 20, "it was given back, in the source's folder too"
    assert (folder / "objects").is_dir(), "and what the next try goes on with is there"


def test_in_the_background_followed_and_cancelled(restless: Restless) -> None:
    code, answer, said = restless.run(*restless.words("compile", "--detach"))
    assert code == 0, said
    DetachedObject.model_validate(answer)
    record = restless.records.read(answer["build"])
    assert (record.status, record.key, record.recipe) == ("running", answer["key"], restless.mark)
    wait_until(restless.is_busy)

    follower = restless.start("log", answer["build"], "--follow")
    assert follower.stdout is not None
    wait_for_line(follower, "tick 0")
    follower.send_signal(signal.SIGINT)
    follower.communicate(timeout=10)
    assert follower.returncode == 130
    assert is_running(restless.records.read(answer["build"]), restless.records), "it is not the build's end"

    follower = restless.start("log", restless.mark, "--follow")
    wait_for_line(follower, "tick 0")
    code, cancelled, said = restless.run("cancel", answer["key"][:16], "--json")
    assert code == 0, said
    CancelObject.model_validate(cancelled)
    assert (cancelled["build"], cancelled["status"]) == (answer["build"], "cancelled")
    assert not restless.left()
    out, err = follower.communicate(timeout=10)
    assert follower.returncode == 143
    assert "cancelled" in out + err
    assert restless.records.read(answer["build"]).status == "cancelled"
    result = json.loads(Path(answer["answer"]).read_text("utf-8"))
    ANSWER.validate_python(result)
    assert (result["error"]["kind"], result["guard"]["survivors"]) == ("cancelled", 0)

    code, answer, said = restless.run("cancel", restless.mark, "--json")
    assert (code, answer["error"]["kind"]) == (10, "cannot-cancel")
    assert "was cancelled at" in answer["error"]["evidence"]
    code, answer, said = restless.run("cancel", "nobody-knows", "--json")
    assert (code, answer["error"]["kind"]) == (10, "no-such-build")


def wait_for_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for found in process.stdout:
        if found.strip() == line:
            return
    raise AssertionError(process.stderr.read() if process.stderr else "")


def test_a_build_of_another_terminal_is_cancelled(restless: Restless) -> None:
    build = restless.start(*restless.words("compile"))
    wait_until(restless.is_busy)
    code, answer, said = restless.run("cancel", restless.mark, "--json")
    assert (code, answer["status"]) == (0, "cancelled"), said
    assert not restless.left()
    out, _ = build.communicate(timeout=10)
    assert (build.returncode, json.loads(out)["error"]["kind"]) == (143, "cancelled")


def test_in_the_background_what_ends_at_once_is_told_at_once(restless: Restless) -> None:
    code, answer, said = restless.run(*restless.words("", "--detach"))
    assert (code, answer["status"]) == (0, "running"), said
    code, _, said = restless.run("log", answer["build"], "--follow")
    assert code == 0
    assert "succeeded" in said
    code, stored, said = restless.run(*restless.words("", "--detach"))
    assert (code, stored["cache"], stored["key"]) == (0, "hit", answer["key"]), said
    assert stored["build"] == answer["build"], "the one that made it"
    code, answer, said = restless.run("build", "no-such-recipe", "--detach", "--json")
    assert (code, answer["error"]["kind"]) == (3, "unknown-recipe"), said
    with pytest.raises(CannotCancel, match="not running"):
        find_running(restless.records, answer["build"])


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_a_dropped_connection_leaves_what_the_next_build_goes_on_with(restless: Restless, number: int) -> None:
    build = restless.start(*restless.words("compile"))
    wait_until(restless.is_busy)
    record = find_running(restless.records, restless.mark)
    build.send_signal(number)
    build.communicate(timeout=20)
    assert build.returncode == (143 if number == signal.SIGHUP else -9)
    wait_until(lambda: not restless.left(), 2)
    folder = restless.folder(record.key or "")
    wait_until(lambda: not (folder / "tmp").exists(), 2)
    assert (folder / "objects").is_dir()
    assert not is_running(restless.records.read(record.id), restless.records), "whatever the record says"


@pytest.mark.parametrize("who", ["broker", "shim"])
def test_killing_broker_or_shim_leaves_nothing_in_the_end(restless: Restless, who: str) -> None:
    build = restless.start(*restless.words("compile", "--timeout", "6s"))
    wait_until(restless.is_busy)
    wait_until(lambda: bool(_shims(build.pid)))
    found = _broker(restless) if who == "broker" else _shims(build.pid)
    assert found
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    out, err = build.communicate(timeout=40)
    answer = json.loads(out)
    assert answer["error"]["kind"] == "timeout", err
    assert answer["guard"]["survivors"] == 0
    assert not restless.left()


def _broker(restless: Restless) -> list[int]:
    """The one of this project's own runtime folder: other builds of this machine have theirs."""
    return [
        pid for pid, words in _command_lines() if str(restless.runtime).encode() in words and b"broker_launch" in words
    ]


def _shims(build: int) -> list[int]:
    below = {process.pid for process in descendants(build, all_processes())}
    return [pid for pid, words in _command_lines() if pid in below and words.startswith(b"gcc\0-c")]


def _command_lines() -> Iterator[tuple[int, bytes]]:
    for process in all_processes():
        with contextlib.suppress(OSError):
            yield process.pid, Path(f"/proc/{process.pid}/cmdline").read_bytes()
