"""When the supervisor itself was killed: find what it guarded, by all that is known of it, and end that.

The command's own process has ended with the supervisor (PR_SET_PDEATHSIG). Others are known by the build's cgroup, by
the last look at the tree, by the command's session, by the tag in their environment, or as children of such ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from buildkit.guard.sampling import ProcessStat, all_processes, descendants, read_stat

TAG = "CUDABUILD_GUARD"
_PATIENCE = 5.0
_PAUSE = 0.01


@dataclass(frozen=True)
class Traces:
    """What a guarded tree can be known by; ``known`` holds (pid, start) of processes seen in it."""

    known: frozenset[tuple[int, int]]
    session: int | None
    tag: str
    cgroup: Path | None


def tag_of(directory: Path) -> str:
    """The value of the tag. The same for each build of one folder (it is locked), so that a build that records its
    environment stays reproducible."""
    return hashlib.sha256(f"{os.getuid()}:{directory}".encode()).hexdigest()[:16]


def end_leftovers(traces: Traces) -> tuple[int, int]:
    """Kill until nothing is found any more: (how many were killed, how many are left)."""
    killed: set[tuple[int, int]] = set()
    deadline = time.monotonic() + _PATIENCE
    while True:
        _end_cgroup(traces.cgroup)
        found = _find(traces)
        killed |= {(process.pid, process.start) for process in found}
        for process in found:
            kill_exactly(process)
        if not found or time.monotonic() > deadline:
            break
        time.sleep(_PAUSE)
    if traces.cgroup is not None:
        with contextlib.suppress(OSError):
            traces.cgroup.rmdir()
    return len(killed), len(found)


def _find(traces: Traces) -> list[ProcessStat]:
    processes = all_processes()
    is_trace = _matcher(traces)
    direct = [process for process in processes if process.pid != os.getpid() and is_trace(process)]
    below = [one for process in direct for one in descendants(process.pid, processes)]
    return [process for process in {one.pid: one for one in direct + below}.values() if not process.ended]


def _matcher(traces: Traces) -> Callable[[ProcessStat], bool]:
    tagged = f"{TAG}={traces.tag}".encode()

    def matches(process: ProcessStat) -> bool:
        if (process.pid, process.start) in traces.known or process.session == traces.session:
            return True
        try:
            return tagged in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False

    return matches


def _end_cgroup(cgroup: Path | None) -> None:
    if cgroup is not None:
        with contextlib.suppress(OSError):
            (cgroup / "cgroup.kill").write_text("1")


def kill_exactly(process: ProcessStat) -> None:
    """SIGKILL to this process, and not to another that was given its number since."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(process.pid)
        try:
            now = read_stat(process.pid)
            if now is not None and now.start == process.start:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
