"""Whatever a build does to get away, and whoever is killed: nothing of it is left, in each containment, for each user.

Each way out is taken by a shell under the guard itself, with the containment forced. Where the kernel does not permit
one to this user the guard must say so, and run nothing: that is asserted instead.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from processes import delegated_cgroup, marked, wait_until

from buildkit.guard import start
from buildkit.guard.containment import VARIABLE
from buildkit.guard.native import PROGRAM, supervisor_program
from buildkit.guard.orphans import end_orphans
from buildkit.guard.sampling import all_processes
from buildkit.guard.supervise import run_guarded
from buildkit.guard.unit_sampling import kill_tree, look

pytestmark = pytest.mark.integration

NOBODY = 65534
TIERS = ("cgroup", "namespace", "subreaper")
USERS = ("root", "ordinary")

WAYS_OUT = r"""
stay() { sh -c 'trap "" INT TERM HUP QUIT; while :; do sleep 5; done #' "$1-$2" & }
away() {
    { [ -n "$2" ] && mkdir "$2/away-$1" && echo 0 > "$2/away-$1/cgroup.procs"; } 2>/dev/null
    exec sh -c 'trap "" INT TERM HUP QUIT; while :; do sleep 5; done #' "$1-moved"
}
stay $1 child
export -p > /dev/null
setsid sh -c 'trap "" TERM; while :; do sleep 5; done #' "$1-setsid" &
(setsid sh -c 'while :; do sleep 5; done #' "$1-daemon" > /dev/null 2>&1 &) &
setsid env -i sh -c 'while :; do sleep 5; done #' "$1-empty" > /dev/null 2>&1 &
(env -i setsid sh -c 'while :; do sleep 5; done #' "$1-both" &) &
(away $1 "$2") &
sleep 0.2
echo out
$3
"""
"""A child, one in its own session, one detached twice, emptied environments, and one that goes into other cgroups."""
KINDS = {"child", "setsid", "daemon", "empty", "both", "moved"}


def holders(token: str) -> dict[int, str]:
    """Live processes that were marked, and how each went out."""
    return {pid: word.rpartition("-")[2] for pid, word in marked(f"{token}-").items() if word.startswith(token)}


@dataclass
class Builder:
    """Somebody who runs guarded commands: in a process of their own, with a cgroup of their own if one can be had."""

    user: str
    tier: str
    folder: Path
    cgroup: Path | None
    token: str
    isolated: bool = True
    """As a build is; a person's own program may write to whatever they may."""

    def begin(self, last: str, *, timeout: float = 60.0) -> Run:
        """Take all ways out, then do ``last``."""
        script = ("sh", "-c", WAYS_OUT, "ways", self.token, str(self.cgroup or ""), last)
        return Run(lambda: self._guarded(script, timeout), self._become)

    def next_build(self) -> Run:
        """What another build of theirs does first."""
        return Run(lambda: end_orphans({}), self._become)

    def _become(self) -> None:
        if self.cgroup is not None:
            (self.cgroup / "cgroup.procs").write_text("0")
        if self.user == "ordinary" and os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        os.environ[VARIABLE] = self.tier

    def _guarded(self, command: tuple[str, ...], timeout: float) -> Any:
        log, writable = io.BytesIO(), [self.folder] if self.isolated else None
        return run_guarded(
            command, cwd=self.folder, env={"PATH": os.environ["PATH"]}, log=log, deadline=time.monotonic() + timeout,
            stall=None, writable=writable, protected=[], scratch=None,
            on_line=lambda _line: None, on_sample=lambda _sample: None,
        )  # fmt: skip


class Run:
    """A guarded command of a forked process; ``result`` is its outcome, or the name of the error and its words."""

    def __init__(self, work: Callable[[], Any], become: Callable[[], None]) -> None:
        self._reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._reading)
                become()
                os.write(writing, pickle.dumps(_answer(work)))
            finally:
                os._exit(0)
        os.close(writing)

    def result(self) -> Any:
        with open(self._reading, "rb") as pipe:  # noqa: PTH123
            answer = pipe.read()
        os.waitpid(self.pid, 0)
        return pickle.loads(answer) if answer else None  # noqa: S301

    def supervisor(self) -> int:
        """Its process."""
        (found,) = [process.pid for process in all_processes() if process.parent == self.pid]
        return found


def _answer(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:  # noqa: BLE001  (it is what the parent asserts on)
        return type(error).__name__, str(error)


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    """The supervisor, where any user can run it."""
    folder = Path(tempfile.mkdtemp(prefix="cudabuild-test-"))
    folder.chmod(0o755)
    yield Path(shutil.copy(supervisor_program(folder / "cache"), folder / PROGRAM))
    shutil.rmtree(folder)


@pytest.fixture(params=[f"{tier}-{user}" for tier in TIERS for user in USERS])
def builder(request: pytest.FixtureRequest, program: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builder]:
    """Each tier for each user. Whoever runs the tests without being root is the ordinary user both times."""
    tier, user = request.param.split("-")
    monkeypatch.setattr(start, "supervisor_program", lambda: program)
    folder = Path(tempfile.mkdtemp(prefix="cudabuild-test-"))
    folder.chmod(0o777)
    token = f"token{uuid.uuid4().hex}"
    with delegated_cgroup(f"test-{token[-8:]}", NOBODY) as cgroup:
        yield Builder(user, tier, folder, cgroup, token)
        for pid in holders(token):
            os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not holders(token), 5)
    shutil.rmtree(folder, ignore_errors=True)


def permitted(builder: Builder, run: Run) -> bool:
    """Whether the command has begun. Where the tier cannot be had, the error that says so is asserted."""
    begun = wait_until(lambda: set(holders(builder.token).values()) == KINDS or _is_over(run), 20)
    if begun and holders(builder.token):
        return True
    kind, message = run.result()
    assert kind == "NoContainment", message
    assert f"{VARIABLE}={builder.tier}" in message
    assert builder.tier != "subreaper", "that one is always there"
    return False


def _is_over(run: Run) -> bool:
    return any(process.pid == run.pid and process.ended for process in all_processes())


def test_the_end_of_the_command_and_the_deadline_end_everything(builder: Builder) -> None:
    run = builder.begin("sleep 0.6", timeout=60)
    if not permitted(builder, run):
        return
    outcome = run.result()
    assert (outcome.containment, outcome.returncode, outcome.survivors) == (builder.tier, 0, 0)
    assert not holders(builder.token)
    outcome = builder.begin("sleep 60", timeout=0.8).result()
    assert (outcome.reason, outcome.survivors) == ("timeout", 0)
    assert not holders(builder.token)


def test_killing_the_command_or_the_supervisor_ends_everything(builder: Builder) -> None:
    run = builder.begin("sleep 60")
    if not permitted(builder, run):
        return
    os.kill(run.pid, signal.SIGKILL)
    assert run.result() is None
    assert wait_until(lambda: not holders(builder.token), 2)

    run = builder.begin("sleep 60")
    assert permitted(builder, run)
    time.sleep(0.6)  # two looks at the tree
    os.kill(run.supervisor(), signal.SIGKILL)
    assert run.result()[0] == "BuildFailed"
    assert not holders(builder.token)


def test_what_is_left_when_both_are_killed_at_once(builder: Builder) -> None:
    run = builder.begin("sleep 60")
    if not permitted(builder, run):
        return
    supervisor = run.supervisor()
    os.kill(run.pid, signal.SIGSTOP)  # it must not see the other's end, and act on it
    for pid in (supervisor, run.pid):
        os.kill(pid, signal.SIGKILL)
    assert run.result() is None
    if builder.tier != "subreaper":  # the kernel ends the namespace with its first process
        assert wait_until(lambda: not holders(builder.token), 2)
        return
    # Nobody is left who could end them. The next build finds those that say whose they are, and what is below them.
    assert set(holders(builder.token).values()) == KINDS
    assert builder.next_build().result() >= len(KINDS) - 2
    assert set(holders(builder.token).values()) == {"empty", "both"}, "and not those that say nothing"


def test_a_process_that_moves_itself_to_another_cgroup_is_ended(builder: Builder) -> None:
    builder.isolated = False  # else there is no cgroup that it could write to
    run = builder.begin("sleep 60")
    if not permitted(builder, run):
        return
    (moved,) = [pid for pid, kind in holders(builder.token).items() if kind == "moved"]
    places = Path(f"/proc/{moved}/cgroup").read_text(encoding="ascii")
    assert (f"/away-{builder.token}\n" in places) == (builder.cgroup is not None), places
    os.kill(run.pid, signal.SIGKILL)
    assert run.result() is None
    assert wait_until(lambda: not holders(builder.token), 2)

    outcome = builder.begin("sleep 60", timeout=0.8).result()
    assert (outcome.reason, outcome.survivors) == ("timeout", 0)
    assert not holders(builder.token)


def test_the_next_supervisor_ends_what_is_left_in_a_cgroup_without_a_namespace(program: Path, tmp_path: Path) -> None:
    """As a kernel leaves it that has cgroups and permits no namespaces."""
    with delegated_cgroup("test-stale", NOBODY) as cgroup:
        if cgroup is None:
            assert not os.access("/sys/fs/cgroup", os.W_OK) or os.geteuid() != 0
            return
        number = Path("/proc/self/ns/pid").stat().st_ino
        stale, busy = cgroup / f"cudabuild-{number}-999999999", cgroup / f"cudabuild-{number + 1}-1"
        for folder in (stale, busy):
            folder.mkdir()
        pids = [_sleeper(folder) for folder in (stale, busy)]
        builder = Builder("root", "cgroup", tmp_path, cgroup, "none")
        os.environ.pop(VARIABLE, None)
        result = Run(lambda: builder._guarded(("true",), 10), builder._become).result()
        assert result.containment == "cgroup", result
        assert os.waitpid(pids[0], 0)[1] == signal.SIGKILL
        assert not stale.exists()
        assert busy.exists(), "another pid namespace's"
        os.kill(pids[1], signal.SIGKILL)
        os.waitpid(pids[1], 0)


def _sleeper(cgroup: Path) -> int:
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    (cgroup / "cgroup.procs").write_text(str(pid))
    return pid


HUNGRY = """
import os, socket, sys, time
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
if os.fork() == 0:
    kept = bytearray(60 << 20)
    time.sleep(60)
print(os.getpid(), os.wait()[1], flush=True)
"""


@pytest.mark.parametrize("tier", ["namespace", "subreaper"])
def test_a_broker_outside_sees_and_ends_what_is_in_a_namespace(
    tier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the number that the kernel gives it for the peer of a socket; the shim's own number is another there."""
    monkeypatch.setenv(VARIABLE, tier)
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short}/s")
        listener.listen()
        command = (sys.executable, "-IS", "-c", HUNGRY, f"{short}/s")
        outcomes: list[Any] = []

        def work() -> None:
            outcomes.append(
                run_guarded(
                    command, cwd=tmp_path, env={}, log=io.BytesIO(), deadline=time.monotonic() + 30, stall=None,
                    writable=[tmp_path], protected=[], scratch=None, on_line=lines.append, on_sample=lambda _: None,
                )
            )  # fmt: skip

        thread = threading.Thread(target=work)
        thread.start()
        peer, _ = listener.accept()
        with peer:
            credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid = int.from_bytes(credentials[:4], sys.byteorder)
            assert wait_until(lambda: look(pid).usage > 60 << 20, 10)
            assert kill_tree(pid) == 1
        thread.join(20)
    if outcomes[0].containment == "namespace":
        assert lines == [f"2 {signal.SIGKILL:d}"], "the second process of its namespace"
    else:
        assert lines == [f"{pid} {signal.SIGKILL:d}"]
    assert outcomes[0].returncode == 0
