"""What tests that start processes share: to wait for something, to know what is alive, a cgroup for a user."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from buildkit.guard.sampling import all_processes


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether it came to that in time; a machine with much to do needs more than one that is idle."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def marked(word: str) -> dict[int, str]:
    """Live processes with an argument that holds the word: that argument of each."""
    found = {}
    for process in all_processes():
        with contextlib.suppress(OSError):
            arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
            holding = [each for each in arguments if word.encode() in each]
            if holding and not process.ended:
                found[process.pid] = holding[0].decode("utf-8", "replace")
    return found


@contextlib.contextmanager
def delegated_cgroup(name: str, user: int) -> Iterator[Path | None]:
    """A cgroup v2 folder that a user may write to, as systemd gives them one; None: not here. Emptied in the end."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines()]
    points = [Path(words[4]) for words in mounts if " - cgroup2 " in " ".join(words)]
    folder = points[0] / name if points else None
    try:
        if folder is not None:
            folder.mkdir()
            for path in (folder, folder / "cgroup.procs", folder / "cgroup.threads"):
                os.chown(path, user, user)
    except OSError:
        folder = None
    yield folder
    if folder is not None:
        _end_cgroup(folder)


def _end_cgroup(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        for below in (path for path in folder.iterdir() if path.is_dir()):
            _end_cgroup(below)
        for pid in (folder / "cgroup.procs").read_text().split():
            if pid != "0":  # a process of another namespace; as an argument of kill it would mean ourselves
                os.kill(int(pid), signal.SIGKILL)
        wait_until(lambda: not (folder / "cgroup.procs").read_text().strip(), 5)
        folder.rmdir()
