"""What the process tree of one unit holds: memory that cannot be dropped, from /proc.

Anonymous and shared-memory pages are counted (proc_pid_status(5)), the pages of mapped files are not: the kernel drops
those. Compilers share no anonymous pages with one another, so that the sum is right without PSS, which costs
milliseconds per GiB to read. A process's own high-water mark shows peaks between two looks.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from buildkit.guard.sampling import all_processes, descendants, read_stat

_FIELD = re.compile(rb"^(VmHWM|RssAnon|RssFile|RssShmem):\s+(\d+) kB$", re.MULTILINE)
_FEWER = "500"
"""Added to a compiler's share of memory, in thousandths, when the kernel looks for a process to kill."""


@dataclass(frozen=True)
class TreeMemory:
    """One look at a tree: bytes now, bytes at most (by the high-water marks of what lives), its processes, and the
    largest process's high-water mark with the files it has mapped (what ``ru_maxrss`` says)."""

    usage: int
    peak: int
    largest: int
    pids: tuple[int, ...]


def tree_pids(root: int) -> list[int]:
    """Every process below ``root``, without it."""
    if not _CHILDREN_LISTED:
        return [process.pid for process in descendants(root, all_processes())]
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = [pid for pid in _children(waiting.pop()) if pid not in found]
        found += below
        waiting += below
    return found


def look(root: int, without: frozenset[int] = frozenset()) -> TreeMemory:
    """Read the tree below ``root``, without some; processes that end meanwhile count as nothing."""
    usage = peak = largest = 0
    pids = [pid for pid in tree_pids(root) if pid not in without]
    for pid in pids:
        now, most, mark = _process_memory(pid)
        usage += now
        peak += most
        largest = max(largest, mark)
    return TreeMemory(usage, max(usage, peak), largest, tuple(pids))


def seconds_of_ended(pid: int) -> float:
    """Processor seconds of all processes that this one has waited for, and of those that they have; 0 if it is gone."""
    stat = read_stat(pid)
    return stat.children_seconds if stat is not None else 0.0


def starts(pids: tuple[int, ...]) -> dict[int, int]:
    """The start times of those that live: with its number they name a process for good."""
    found = (read_stat(pid) for pid in pids)
    return {process.pid: process.start for process in found if process is not None}


def offer_to_the_kernel(pids: tuple[int, ...]) -> None:
    """Have the kernel take these first when it must kill something (raising this needs no privilege)."""
    for pid in pids:
        with contextlib.suppress(OSError):
            _write(f"/proc/{pid}/oom_score_adj", _FEWER)


def kill_tree(root: int) -> int:
    """SIGKILL everything below ``root``, again and again while there is something new; how many were killed."""
    killed: set[int] = set()
    while new := [pid for pid in tree_pids(root) if pid not in killed]:
        for pid in new:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed.update(new)
    return len(killed)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  (ten thousands of times a build)
            found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def _process_memory(pid: int) -> tuple[int, int, int]:
    """Bytes now, at most so far, and the latter with files. A kernel thread or a zombie has none of the fields."""
    try:
        text = _read(f"/proc/{pid}/status")
    except OSError:
        return 0, 0, 0
    fields = {name: int(number) << 10 for name, number in _FIELD.findall(text)}
    now = fields.get(b"RssAnon", 0) + fields.get(b"RssShmem", 0)
    mark = fields.get(b"VmHWM", 0)
    return now, max(now, mark - fields.get(b"RssFile", 0)), mark


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


_CHILDREN_LISTED = Path(f"/proc/self/task/{os.getpid()}/children").exists()
