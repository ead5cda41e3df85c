"""The broker under load: memory that runs short, builds side by side, a broker that is killed, a real kernel limit."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broker_bench import MIB, Bench, broker_pid, hog, runtime_folder
from processes import alive, wait_until

from buildkit.guard.profile_store import ProfileFolder
from buildkit.guard.wire import encode
from buildkit.machine.cgroups import own_groups

pytestmark = pytest.mark.integration


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where XDG_RUNTIME_DIR points to."""
    with runtime_folder() as path:
        yield path


def test_the_newest_is_sent_back_when_memory_runs_short_and_the_build_goes_on(folder: Path) -> None:
    """Both take more than anybody thought. The older one goes on, and the other is not started into its growth."""
    with Bench(folder, budget=320 * MIB, prior=90 * MIB) as bench:
        old = bench.unit("old", hog(200, pause=0.02))
        bench.wait_for("started", "old")
        new = bench.unit("new", hog(200, pause=0.02))
        assert (old.wait(20), new.wait(20)) == (0, 0)
        bench.wait_for("ended", "new")
        assert bench.of("killed", "old") == []
        assert len(bench.of("killed", "new")) == 1
        assert len(bench.of("started", "new")) == 2
        assert bench.together() == 2


def test_a_unit_runs_on_when_the_broker_is_killed_and_the_build_starts_another(folder: Path, tmp_path: Path) -> None:
    latch = tmp_path / "latch"
    until_latch = f"import os\nwhile not os.path.exists({str(latch)!r}): time.sleep(0.01)"
    with Bench(folder, budget=400 * MIB, prior=300 * MIB) as bench:
        running = bench.unit("running", hog(8, then=until_latch))
        bench.wait_for("started", "running")
        waiting = bench.unit("waiting", hog(8))
        before = broker_pid(folder)
        os.kill(before, signal.SIGKILL)
        assert wait_until(lambda: len(bench.of("queued", "running")) == 2)
        latch.touch()
        assert running.wait(20) == waiting.wait(20) == 0
        bench.wait_for("ended", "waiting")
        assert bench.client.restarts == 1
        assert broker_pid(folder) not in {0, before}
        seen = [one["what"] for one in bench.events if one.get("name") == "running"]
        assert seen == ["queued", "started", "queued", "ended"]
        assert bench.together() == 1


def test_it_ends_by_itself_when_its_last_client_was_killed(folder: Path) -> None:
    child = os.fork()
    if child == 0:
        Bench(folder).__enter__()
        signal.pause()
    with ended_at_last(child):
        assert wait_until(lambda: broker_pid(folder) > 0)
        pid = broker_pid(folder)
    assert wait_until(lambda: not alive(pid), 2.0)


def test_threads_are_granted_to_one_that_has_the_machine_to_itself(folder: Path) -> None:
    with Bench(folder, cpus=3, budget=4000 * MIB, prior=64 * MIB) as bench:
        alone = bench.unit("alone", hog(8), threads=8)
        assert alone.wait(20) == 0
        assert alone.stdout is not None
        assert alone.stdout.read().split() == ["queued", "go3", "done"]
        running = bench.unit("first", hog(8, then="time.sleep(0.5)"))
        bench.wait_for("started", "first")
        beside = bench.unit("beside", hog(8), threads=8)
        assert beside.wait(20) == running.wait(20) == 0
        assert bench.wait_for("started", "beside")["threads"] == "2"


def test_a_shim_that_does_not_obey_is_helped(folder: Path, tmp_path: Path) -> None:
    """The older one grows once the newer one holds much; the newer one's shim ignores its order to end."""
    latch = str(tmp_path / "latch")
    grows = f"import os\nwhile not os.path.exists({latch!r}): time.sleep(0.01)\n"
    grows += "for _ in range(17): kept.append(b'x' * (8 << 20)); time.sleep(0.03)\n"
    with Bench(folder, budget=320 * MIB, prior=90 * MIB) as bench:
        old = bench.unit("old", hog(64, then=grows))
        bench.wait_for("started", "old")
        new = bench.unit("new", hog(120, then=f"open({latch!r}, 'w').close()\ntime.sleep(1.5)"), STUBBORN="1")
        assert (old.wait(20), new.wait(20)) == (0, 0)
        bench.wait_for("ended", "new")
        assert len(bench.of("killed", "new")) == 1


def test_builds_side_by_side_share_and_the_end_of_one_is_not_the_others(folder: Path, tmp_path: Path) -> None:
    """Two builds of one Slurm job: what one holds, the other has not. One is killed with a unit running."""
    latch, theirs = tmp_path / "latch", tmp_path / "theirs"
    shared: dict[str, Any] = {"slurm": 370 * MIB, "job": "77", "prior": 120 * MIB}
    child = os.fork()
    if child == 0:
        bench = Bench(folder, package="theirs", **shared)
        bench.__enter__()
        bench.unit("theirs", hog(80, then=f"open({str(theirs)!r}, 'w').close(); time.sleep(60)"))
        signal.pause()
    with ended_at_last(child), Bench(folder, package="ours", **shared) as bench:
        own = bench.client.environment()["CUDABUILD_TOKEN"]
        assert wait_until(theirs.exists)
        until_latch = f"import os\nwhile not os.path.exists({str(latch)!r}): time.sleep(0.01)"
        first = bench.unit("first", hog(80, then=until_latch))
        bench.wait_for("started", "first")
        second = bench.unit("second", hog(80, then="time.sleep(0.5)"))
        assert wait_until(lambda: any(one["waiting"] == "1" == one["running"] for one in bench.of("memory")))
        assert bench.of("started", "second") == []
        latch.touch()
        assert first.wait(20) == 0
        before = broker_pid(folder)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for process in tagged(str(folder), own):
            os.kill(process, signal.SIGKILL)
        assert second.wait(20) == 0
        third = bench.unit("third", hog(80))
        assert third.wait(20) == 0
        bench.wait_for("ended", "third")
        assert bench.client.restarts == 0
        assert broker_pid(folder) == before
        assert bench.together() == 1
        assert [one["what"] for one in bench.events if one.get("name") == "third"] == ["queued", "started", "ended"]


@contextlib.contextmanager
def ended_at_last(child: int) -> Iterator[None]:
    """A child that this process has forked does not outlive the block."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def tagged(folder: str, own: str) -> list[int]:
    """The shims of the build that was killed, and what they run: a guard ends them in real life."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if any(word.startswith(folder.encode()) for word in words) and own.encode() not in words:
                below = (entry / "task" / entry.name / "children").read_text().split()
                found += [int(entry.name), *map(int, below)]
    return [pid for pid in found if pid != os.getpid()]


BUILD = """
import json, os, random, sys
sys.path[:0] = {path!r}
{join}
from pathlib import Path
from broker_bench import MIB, Bench, hog
with open({cache!r}, "wb") as stream:  # fill the page cache: it must count as free
    for _ in range(96):
        stream.write(os.urandom(4 << 20))
with Bench(Path({folder!r}), cpus=4, prior=96 * MIB, profile=Path({profile!r}), **{more!r}) as bench:
    sizes = [48, 48, 280, 48, 64, 300, 48, 48, 48, 280, 48, 48]
    units = [bench.unit(f"u{{n}}", hog(size, pause=0.1, then="")) for n, size in enumerate(sizes)]
    codes = [unit.wait(120) for unit in units]
    bench.wait_for("ended", count=len(sizes))
    killed = [one["reason"] for one in bench.of("killed") if one["reason"] != "preempted"]
    print(json.dumps({{"codes": codes, "together": bench.together(), "killed": killed}}))
"""


def test_no_unit_is_killed_by_the_kernel_in_a_small_group(folder: Path, tmp_path: Path) -> None:
    """12 units, three of which take most of a group of 448 MiB, in four at once, with nothing known and then all.

    Where no group can be made, the same memory is given to the build by word, and the broker alone keeps it.
    """
    with small_group(448 * MIB) as group:
        answers = []
        for _ in range(2):
            program = BUILD.format(
                path=[str(Path(__file__).parents[1] / "helpers"), str(Path(__file__).parents[2])],
                join=f"open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))" if group else "",
                cache=str(tmp_path / "cache"),
                folder=str(folder),
                profile=str(tmp_path / "profile"),
                more={} if group else {"budget": 448 * MIB},
            )
            done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
            answers.append(json.loads(done.stdout))
            if group:
                assert kernel_kills(group) == 0
    assert [answer["codes"] for answer in answers] == [[0] * 12] * 2
    assert answers[1]["killed"] == []
    assert answers[1]["together"] >= 3


LIVE = """
import json, os, sys
sys.path[:0] = {path!r}
open({procs!r}, 'w').write(str(os.getpid()))
from pathlib import Path
from broker_bench import MIB, Bench, hog
with Bench(Path({folder!r}), prior=200 * MIB) as bench:
    latch = Path({latch!r})
    until_latch = f"import os\\nwhile not os.path.exists({{str(latch)!r}}): time.sleep(0.01)"
    first = bench.unit("first", hog(8, then=until_latch))
    bench.wait_for("started", "first")
    Path({limit!r}).write_text(str(300 * MIB))
    second = bench.unit("second", hog(8))
    bench.wait_for("queued", "second")
    bench.wait_for("memory", count=len(bench.of("memory")) + 2)
    latch.touch()
    codes = [first.wait(60), second.wait(60)]
    bench.wait_for("ended", "second")
    print(json.dumps({{"codes": codes, "together": bench.together()}}))
"""


def test_a_limit_that_is_lowered_while_a_unit_runs_counts_at_once(folder: Path, tmp_path: Path) -> None:
    """Two units fit into the group when the first starts, and one does when the second comes."""
    with small_group(2000 * MIB) as group:
        if group is None:  # nothing here has a limit that this user could lower
            assert not any(os.access(one.folder, os.W_OK) for one in own_groups(Path("/"), "memory"))
            return
        program = LIVE.format(
            path=[str(Path(__file__).parents[1] / "helpers"), str(Path(__file__).parents[2])],
            procs=str(group / "cgroup.procs"),
            limit=str(limit_file(group)),
            folder=str(folder),
            latch=str(tmp_path / "latch"),
        )
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
        assert json.loads(done.stdout) == {"codes": [0, 0], "together": 1}


@contextlib.contextmanager
def small_group(limit: int) -> Iterator[Path | None]:
    """A real limit of the kernel below this process's own group; None where this user may not make one."""
    found = None
    for group in own_groups(Path("/"), "memory"):
        path = group.folder / f"cudabuild-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            if group.version == 2:
                (group.folder / "cgroup.subtree_control").write_text("+memory")
            path.mkdir()
            try:
                limit_file(path).write_text(str(limit))
            except OSError:
                path.rmdir()
                continue
            found = path
            break
    yield found
    if found is not None:
        assert wait_until(lambda: not (found / "cgroup.procs").read_text(), 5.0)
        found.rmdir()


def limit_file(group: Path) -> Path:
    """Where a group's limit in bytes is written."""
    names = ("memory.max", "memory.limit_in_bytes")
    return next(group / name for name in names if (group / name).exists())


def kernel_kills(group: Path) -> int:
    for name in ("memory.events", "memory.oom_control"):
        if (group / name).exists():
            lines = dict(line.split() for line in (group / name).read_text().splitlines())
            return int(lines["oom_kill"])
    raise AssertionError(group)


def test_the_last_words_of_units_are_heard_before_the_farewell_of_their_build(folder: Path, tmp_path: Path) -> None:
    """Units that do not wait for an answer to ``ended``, as the shim after a success: none is lost, 20 times."""
    for number in range(20):
        with Bench(folder, profile=tmp_path) as bench:
            told = bench.client.environment()
            with socket.socket(socket.AF_UNIX) as unit:
                unit.connect(told["CUDABUILD_SOCKET"])
                key = f"k{number}"
                said = {"token": told["CUDABUILD_TOKEN"], "kind": "cc", "name": "n", "key": key, "pid": os.getpid()}
                unit.sendall(encode("unit", v=1, **said))
                bench.wait_for("started")
                unit.sendall(encode("ended", code=0, signal=0, maxrss=5 * MIB))
        assert len(bench.of("ended")) == 1
        assert ProfileFolder(tmp_path).package("p").records[key, "13.0"].seen == 1
