"""Processes of builds whose supervisor was killed together with the command that had started it.

Nobody was left to end them. What a supervisor guards stands below it for as long as it lives (it is a subreaper), so a
process that carries the tag of a build and stands below no supervisor is nobody's. One that has emptied its
environment carries no tag: it is found only below another that does. In a pid namespace the kernel has ended them
all, and those in a cgroup are found by its name (``csrc/supervisor/cgroup.c``).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from buildkit.guard.leftovers import TAG, kill_exactly
from buildkit.guard.sampling import ProcessStat, all_processes, descendants

_TAGGED = re.compile(rb"(?:^|\0)" + TAG.encode() + rb"=[0-9a-f]{16}(?:\0|$)")
_SUPERVISOR = "cudabuild-super"
"""The 15 letters of its name that the kernel keeps."""
_PATIENCE = 5.0
_PAUSE = 0.01


def end_orphans(environ: Mapping[str, str] | None = None) -> int:
    """Kill them until none is found any more; how many there were.

    Inside of a guarded build nothing is done: its supervisor may be out of sight.
    """
    own = os.environ if environ is None else environ
    if _TAGGED.search(f"{TAG}={own.get(TAG, '')}".encode()):
        return 0
    killed: set[tuple[int, int]] = set()
    deadline = time.monotonic() + _PATIENCE
    while (found := find_orphans()) and time.monotonic() < deadline:
        for process in found:
            kill_exactly(process)
            killed.add((process.pid, process.start))
        time.sleep(_PAUSE)
    return len(killed)


def find_orphans() -> list[ProcessStat]:
    """Live tagged processes of this user below no supervisor, and everything below them."""
    processes = all_processes()
    table = {process.pid: process for process in processes if not process.ended}
    tagged = [process for process in table.values() if _is_tagged(process.pid) and _is_nobodys(process, table)]
    below = [one for process in tagged for one in descendants(process.pid, processes)]
    return [process for process in {one.pid: one for one in tagged + below}.values() if not process.ended]


def _is_tagged(pid: int) -> bool:
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():  # noqa: PTH116  (asked of every process)
            return False
        return _TAGGED.search(Path(f"/proc/{pid}/environ").read_bytes()) is not None
    except OSError:
        return False


def _is_nobodys(process: ProcessStat, table: Mapping[int, ProcessStat]) -> bool:
    """Its ancestors lead to the first process of all, and no supervisor is among them. In doubt it is somebody's."""
    while process.pid != 1:
        if _name(process.pid) in {_SUPERVISOR, ""} or process.parent not in table:
            return False
        process = table[process.parent]
    return True


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
