"""The guard with real, short processes: nothing survives, nothing protected is written to, nothing hangs."""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import marked, wait_until

from buildkit import errors
from buildkit.guard import sampling, start
from buildkit.guard.containment import VARIABLE
from buildkit.guard.isolation import Rule, isolation_rules
from buildkit.guard.lines import LineSplitter
from buildkit.guard.loop import StallClock
from buildkit.guard.native import PROGRAM, supervisor_program
from buildkit.guard.protocol import Ended, Exited, Lacking, Refused, Sample, Started, parse_message
from buildkit.guard.signals import ending_signals, guarding
from buildkit.guard.supervise import GuardInterrupted, GuardTerminated, Outcome, run_guarded
from buildkit.process import ProgramMissing

NOBODY = 65534
PR_CAPBSET_DROP, CAP_SYS_ADMIN = 24, 21
SOURCES = Path(__file__).parents[2] / "csrc" / "supervisor"


class Guarded:
    """One guarded run and what came out of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = io.BytesIO()
        self.lines: list[str] = []
        self.samples: list[Sample] = []

    def run(
        self,
        *command: str,
        timeout: float = 20.0,
        stall: float | None = None,
        on_line: Callable[[str], None] | None = None,
        **paths: Any,
    ) -> Outcome:
        given: dict[str, Any] = {"writable": (), "protected": (), "scratch": None, **paths}
        return run_guarded(
            command,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"]},
            log=self.log,
            deadline=time.monotonic() + timeout,
            stall=stall,
            on_line=on_line or self.lines.append,
            on_sample=self.samples.append,
            **given,
        )


@pytest.fixture(scope="session")
def program() -> Iterator[Path]:
    """The supervisor, where any user can run it."""
    folder = Path(tempfile.mkdtemp(prefix="cudabuild-test-"))
    folder.chmod(0o755)
    yield Path(shutil.copy(supervisor_program(folder / "cache"), folder / PROGRAM))
    shutil.rmtree(folder)


@pytest.fixture
def folder(program: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that an ordinary user can reach (pytest's own cannot be, when root runs the tests)."""
    monkeypatch.setattr(start, "supervisor_program", lambda: program)
    path = Path(tempfile.mkdtemp(prefix="cudabuild-test-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def guarded(folder: Path) -> Guarded:
    """With the best containment that this machine allows."""
    return Guarded(folder)


@pytest.fixture(params=["best", "subreaper"])
def contained(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Guarded:
    """With the best containment that this machine allows, and with the one that is always there."""
    if request.param == "subreaper":
        monkeypatch.setenv(VARIABLE, request.param)
    return Guarded(folder)


@pytest.fixture
def token() -> Iterator[str]:
    """A word that marks the processes of one test in their command lines; none may be left."""
    word = f"token-{uuid.uuid4().hex}"
    yield word
    assert wait_until(lambda: not marked(word), 2.0), "the test left processes"


def sleeper(word: str) -> str:
    """Shell words for a process that marks itself and ignores what can be ignored."""
    return f"sh -c 'trap \"\" INT TERM HUP QUIT; while :; do sleep 5; done # {word}'"


class Forked:
    """A function in a forked child, as an ordinary user if wanted; ``result`` is what it returned or raised."""

    def __init__(self, work: Callable[[], Any], *, ordinary: bool = False) -> None:
        self._reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._reading)
                if ordinary and os.geteuid() == 0:
                    os.setgroups([])
                    os.setresgid(NOBODY, NOBODY, NOBODY)
                    os.setresuid(NOBODY, NOBODY, NOBODY)
                os.write(writing, pickle.dumps(self._answer(work)))
            finally:
                os._exit(0)
        os.close(writing)

    @staticmethod
    def _answer(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except BaseException as error:  # noqa: BLE001  (it is what the parent asserts on)
            return type(error).__name__, str(error), getattr(error, "outcome", None)

    def result(self) -> Any:
        with open(self._reading, "rb") as pipe:  # noqa: PTH123
            answer = pipe.read()
        os.waitpid(self.pid, 0)
        return pickle.loads(answer) if answer else None  # noqa: S301


# The words on the wire, lines, rules, the stall clock: no process needed.


def test_messages() -> None:
    folder = Path("/sys/fs/cgroup/a b/cudabuild-7")
    assert parse_message(f"started 7 cgroup namespace {folder}") == Started(7, "cgroup", "namespace", folder)
    assert parse_message("started 7 subreaper none ") == Started(7, "subreaper", "none", None)
    assert parse_message("started 7 namespace none ") == Started(7, "namespace", "none", None)
    assert parse_message("refused 2") == Refused(2)
    assert parse_message("lacking 1") == Lacking(1)
    assert parse_message("exited -9") == Exited(-9)
    assert parse_message("ended 0") == Ended(0)
    with pytest.raises(ValueError, match="hello"):
        parse_message("hello")


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"o", b"ne\nt", b"wo"], ["one", "two"]),
        ([b"10%\r20%\r\ndone\n"], ["10%", "20%", "done"]),
        ([b"a\r", b"\nb\n"], ["a", "b"]),
        ([b"\n\n"], ["", ""]),
        ([b"\xff\xc3", b"\xa9\n"], ["\\xffé"]),
        ([b"x" * 70000], ["x" * 65536, "x" * (70000 - 65536)]),
    ],
)
def test_lines(chunks: list[bytes], lines: list[str]) -> None:
    splitter = LineSplitter()
    found = [line for chunk in chunks for line in splitter.feed(chunk)]
    assert found + splitter.flush() == lines


def test_rules_are_ordered_and_the_innermost_holds(tmp_path: Path) -> None:
    for name in ("cache/env", "cache/builds/key"):
        (tmp_path / name).mkdir(parents=True)
    rules = isolation_rules([tmp_path / "cache/builds/key"], [tmp_path / "cache", tmp_path / "missing"], temporary=())
    assert rules == (
        Rule(Path("/dev"), True),
        Rule(Path("/proc"), True),
        Rule(tmp_path / "cache", False),
        Rule(tmp_path / "cache/builds/key", True),
    )


def test_a_protected_folder_in_a_temporary_one_cannot_be_renamed_away(tmp_path: Path) -> None:
    (tmp_path / "a/b/torch").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a/b")
    rules = isolation_rules([tmp_path / "a/b"], [tmp_path / "link/torch"], temporary=(tmp_path,))
    assert rules[2:] == (
        Rule(tmp_path, True),
        Rule(tmp_path / "a", False),
        Rule(tmp_path / "a/b", True),
        Rule(tmp_path / "a/b/torch", False),
    )


def test_stall_clock_wants_output_or_processor_time() -> None:
    clock = StallClock(100.0)
    clock.processor(110.0, 0.01)
    assert clock.idle(110.0) == 10.0
    clock.processor(120.0, 1.0)
    assert clock.idle(121.0) == 1.0
    clock.processor(700.0, 1.1)  # what a hung program uses while it polls
    assert clock.idle(700.0) == 580.0
    clock.output(701.0)
    assert clock.idle(702.0) == 1.0


# Output and ends.


def test_output_is_logged_raw_and_told_by_line(guarded: Guarded) -> None:
    outcome = guarded.run("sh", "-c", r"printf '1\r2\n'; printf 'e\377' >&2; exit 3")
    assert (outcome.returncode, outcome.reason, outcome.survivors) == (3, "exited", 0)
    assert guarded.log.getvalue() == b"1\r2\ne\xff"
    assert guarded.lines == ["1", "2", "e\\xff"]


def test_much_output_arrives_whole(guarded: Guarded) -> None:
    outcome = guarded.run("sh", "-c", "seq 200000")
    assert outcome.returncode == 0
    assert guarded.lines == [str(number) for number in range(1, 200001)]


def test_a_signal_is_a_negative_status(guarded: Guarded) -> None:
    assert guarded.run("sh", "-c", "kill -SEGV $$").returncode == -signal.SIGSEGV


def test_the_command_sees_its_folder_an_empty_input_and_no_descriptor_of_ours(guarded: Guarded) -> None:
    outcome = guarded.run("sh", "-c", "pwd; cat; ls -1 /proc/self/fd | tr '\\n' ' '; kill -TERM 0")
    assert guarded.lines == [str(guarded.folder), "0 1 2 3 "]
    assert (outcome.returncode, outcome.reason) == (-signal.SIGTERM, "exited")


def test_a_command_that_is_not_there(guarded: Guarded) -> None:
    with pytest.raises(ProgramMissing, match="no-such-program"):
        guarded.run("no-such-program", "--version")


@pytest.mark.parametrize(
    "how", ["{} &", "setsid {} &", "(setsid {} &) &", "env -i {} &", "setsid env -i {} >&- 2>&- &"]
)
def test_daemons_end_with_the_command(contained: Guarded, token: str, how: str) -> None:
    outcome = contained.run("sh", "-c", how.format(sleeper(token)) + " sleep 0.1; echo bye")
    assert (outcome.returncode, outcome.survivors) == (0, 0)
    assert contained.lines == ["bye"]
    assert not marked(token)


def test_timeout_ends_a_whole_tree(contained: Guarded, token: str) -> None:
    tree = " ".join(f"setsid {sleeper(token)} &" for _ in range(20))
    outcome = contained.run("sh", "-c", f"trap '' TERM; {tree} wait", timeout=0.7)
    assert (outcome.reason, outcome.returncode, outcome.survivors) == ("timeout", -signal.SIGKILL, 0)
    assert not marked(token)
    assert max(sample.processes for sample in contained.samples) > 20


@pytest.mark.parametrize(
    "script", ["f() {{ [ $1 -gt 0 ] && f $(($1-1)) & }}; f 20000 # {}", "while :; do (sleep 9 &); done # {}"]
)
def test_forks_that_race_with_the_end(contained: Guarded, token: str, script: str) -> None:
    outcome = contained.run("sh", "-c", script.format(token) + "\nsleep 60", timeout=0.3)
    assert (outcome.reason, outcome.survivors) == ("timeout", 0)
    assert not marked(token)


def test_stalled_is_neither_printing_nor_computing(guarded: Guarded, token: str) -> None:
    outcome = guarded.run("sh", "-c", f"{sleeper(token)} & sleep 30", stall=0.8)
    assert (outcome.reason, outcome.survivors) == ("stalled", 0)
    assert 0.8 <= outcome.seconds < 30


@pytest.mark.parametrize("script", ["while :; do :; done", "while :; do echo .; sleep 0.2; done"])
def test_computing_or_printing_is_not_stalled(guarded: Guarded, script: str) -> None:
    assert guarded.run("sh", "-c", script, stall=0.6, timeout=1.1).reason == "timeout"


def test_memory_and_processor_time_are_the_trees(contained: Guarded) -> None:
    hungry = "import time; x = bytearray(80 << 20)\nwhile time.process_time() < 0.3: pass\ntime.sleep(0.4)"
    outcome = contained.run("sh", "-c", '"$0" -IS -c "$1" & "$0" -IS -c "$1" & wait', sys.executable, hungry)
    assert 160 << 20 < outcome.peak_memory < 400 << 20
    assert 0.55 < contained.samples[-1].cpu_seconds < 5
    assert contained.samples[-1].elapsed > 0.5


def test_an_exception_of_the_caller_ends_everything(guarded: Guarded, token: str) -> None:
    def refuse(line: str) -> None:
        raise OSError(28, f"no space left for {line}")

    with pytest.raises(OSError, match="no space"):
        guarded.run("sh", "-c", f"setsid {sleeper(token)} & echo hello; sleep 60", on_line=refuse)
    assert not marked(token)


# Ends that come from outside.


def test_death_of_the_parent_ends_everything_and_removes_the_scratch_folder(contained: Guarded, token: str) -> None:
    scratch, kept = contained.folder / "scratch", contained.folder / "kept"
    (scratch / "deep/er").mkdir(parents=True)
    kept.mkdir()
    (kept / "file").touch()
    (scratch / "deep/link").symlink_to(kept)
    (scratch / "deep/er/file").touch()
    (scratch / "deep/er").chmod(0o500)
    child = Forked(lambda: contained.run("sh", "-c", f"setsid {sleeper(token)} & sleep 60", scratch=scratch))
    assert wait_until(lambda: bool(marked(token)), 5)
    os.kill(child.pid, signal.SIGKILL)
    assert child.result() is None
    assert wait_until(lambda: not marked(token) and not scratch.exists(), 2.0)
    assert (kept / "file").exists()


def test_the_scratch_folder_of_a_living_parent_is_its_own_to_remove(guarded: Guarded) -> None:
    guarded.run("true", scratch=guarded.folder)
    assert guarded.folder.exists()


def test_death_of_the_supervisor_is_said_and_leaves_nothing(contained: Guarded, token: str) -> None:
    child = Forked(
        lambda: contained.run("sh", "-c", f"setsid {sleeper(token)} & setsid env -i {sleeper(token)} & sleep 60")
    )
    assert wait_until(lambda: len(marked(token)) >= 3, 5)
    time.sleep(0.35)  # one look at the tree
    (supervisor,) = [one.pid for one in sampling.all_processes() if one.parent == child.pid]
    os.kill(supervisor, signal.SIGKILL)
    kind, message, _ = child.result()
    assert (kind, "supervisor" in message) == ("BuildFailed", True)
    assert not marked(token)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_to_the_supervisor_end_everything(guarded: Guarded, token: str, number: int) -> None:
    child = Forked(lambda: guarded.run("sh", "-c", f"setsid {sleeper(token)} & sleep 60"))
    assert wait_until(lambda: len(marked(token)) >= 2, 5)
    (supervisor,) = [one.pid for one in sampling.all_processes() if one.parent == child.pid]
    os.kill(supervisor, number)
    assert child.result().survivors == 0
    assert not marked(token)


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (signal.SIGINT, GuardInterrupted, "interrupted"),
        (signal.SIGTERM, GuardTerminated, "terminated"),
        (signal.SIGHUP, GuardTerminated, "terminated"),
    ],
)
def test_signals_are_raised_once_everything_has_ended(
    guarded: Guarded, token: str, number: int, kind: type[Exception], reason: str
) -> None:
    def work() -> Any:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with ending_signals():
            return guarded.run("sh", "-c", f"setsid {sleeper(token)} & sleep 60")

    child = Forked(work)
    assert wait_until(lambda: len(marked(token)) >= 2, 5)
    os.kill(child.pid, number)
    name, _, outcome = child.result()
    assert name == kind.__name__
    assert (outcome.reason, outcome.survivors) == (reason, 0)
    assert not marked(token)


def test_a_guard_in_another_thread_holds_no_signal_back() -> None:
    inside, over = threading.Event(), threading.Event()
    received = []

    def beside() -> None:
        with guarding() as watch:
            inside.set()
            over.wait(30)
            received.append(watch.received)

    thread = threading.Thread(target=beside)
    with ending_signals():
        thread.start()
        assert inside.wait(30)
        with pytest.raises(errors.Interrupted):
            signal.raise_signal(signal.SIGINT)
        over.set()
        thread.join()
    assert received == [None]


def test_signals_outside_of_a_guard_are_raised_where_the_program_is() -> None:
    def send(number: int) -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    with ending_signals(), pytest.raises(errors.Terminated, match="SIGTERM"):
        send(signal.SIGTERM)
    with ending_signals(), ending_signals(), pytest.raises(errors.Interrupted):
        send(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


# Isolation.

ATTACK = r"""
protected=$1 writable=$2 hidden=$3
{ echo changed >> $protected/torch.py; } 2>&1
top=${protected%/*/*}
mv $top $top.moved 2>/dev/null && mv $top.moved $top && echo renamed
echo changed > $writable/new
echo uid $(id -u)
grep -E 'CapEff|NoNewPrivs' /proc/self/status
mount -o remount,rw,bind $protected 2>/dev/null && echo undone
umount -l $protected 2>/dev/null && echo undone
unshare -Urm mount -o remount,rw,bind $protected 2>/dev/null && echo undone
{ echo changed >> /proc/1/root$protected/torch.py; } 2>/dev/null && echo undone
umount -l $hidden 2>/dev/null
unshare -Urm umount -l $hidden 2>/dev/null
for place in $hidden /proc/1/root$hidden; do echo "seen $(ls -A $place 2>/dev/null)"; done
echo changed > $hidden/new 2>/dev/null
exit 0
"""


@pytest.mark.parametrize("ordinary", [True, False])
def test_protected_folders_cannot_be_written_to(guarded: Guarded, ordinary: bool) -> None:
    protected, writable, hidden = (guarded.folder / "env" / name for name in ("torch", "build", "store"))
    for path in (protected, writable, hidden):
        path.mkdir(parents=True)
        path.chmod(0o777)
    protected.parent.chmod(0o777)
    (protected / "torch.py").write_text("as it was")
    (protected / "torch.py").chmod(0o666)
    (hidden / "wheel").write_text("another build's")

    def work() -> tuple[Outcome, list[str]]:
        command = ("sh", "-c", ATTACK, "attack", str(protected), str(writable), str(hidden))
        return guarded.run(*command, protected=[protected], writable=[writable], hidden=[hidden]), guarded.lines

    outcome, lines = Forked(work, ordinary=ordinary).result()
    assert outcome.returncode == 0, lines
    user = NOBODY if ordinary and os.geteuid() == 0 else os.geteuid()
    assert f"uid {user}" in lines
    if outcome.isolation == "namespace":
        assert "Read-only file system" in lines[0]
        assert not {"renamed", "undone"} & set(lines)
        assert "NoNewPrivs:\t1" in lines
        assert "CapEff:\t0000000000000000" in lines or user == 0
        assert (protected / "torch.py").read_text() == "as it was"
        assert [line for line in lines if line.startswith("seen")] == ["seen "] * 2
        assert [path.name for path in hidden.iterdir()] == ["wheel"]
    else:  # and the caller has been told so
        assert "changed" in (protected / "torch.py").read_text()
    assert (writable / "new").read_text() == "changed\n"


def test_where_namespaces_are_not_permitted_the_command_runs_and_the_caller_is_told(guarded: Guarded) -> None:
    def work() -> Outcome:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0)  # as in a container; an ordinary user cannot
        return guarded.run("sh", "-c", "exit 3")

    outcome = Forked(work).result()
    assert (outcome.returncode, outcome.survivors) == (3, 0)
    assert outcome.isolation == "none" or os.geteuid() != 0


def test_an_ordinary_users_tree_ends_too(guarded: Guarded, token: str) -> None:
    script = f"setsid {sleeper(token)} & sleep 60"
    outcome = Forked(lambda: guarded.run("sh", "-c", script, timeout=0.5), ordinary=True).result()
    assert (outcome.reason, outcome.survivors) == ("timeout", 0)
    assert not marked(token)


# The program itself.


def test_the_supervisor_compiles_without_a_warning(tmp_path: Path) -> None:
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]
    sources = [str(path) for path in sorted(SOURCES.glob("*.c"))]
    subprocess.run(["cc", *flags, "-o", str(tmp_path / "program"), *sources], check=True)


def test_the_supervisor_refuses_a_wrong_call(program: Path) -> None:
    done = subprocess.run([str(program), "--control=0"], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (Path(start.__file__).parents[1] / "_native" / PROGRAM).exists():
        assert supervisor_program(tmp_path).parent.name == "_native"
        return
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.NoCompiler, match="C compiler"):
        supervisor_program(tmp_path)
