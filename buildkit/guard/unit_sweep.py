"""The end of what a unit has started when its shim was killed.

The compiler itself dies with its shim (PR_SET_PDEATHSIG); what the compiler has started does not: nvcc's cicc would go
on, counted by nobody, until its build has ended. It is known from the broker's looks, and by its TMPDIR, which is the
unit's alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from buildkit.guard.leftovers import kill_exactly
from buildkit.guard.sampling import ProcessStat, all_processes, descendants, read_stat

_PATIENCE = 2.0  # seconds for the shim to be gone, and for what it left to end
_PAUSE = 0.01


def sweep(shim: int, known: Mapping[int, int], scratch: str) -> int:
    """End what is left of a unit, once its ``shim`` (a pid) has gone; how many processes were killed.

    ``known`` are pids with their start times; ``scratch`` is the unit's TMPDIR, or empty. Nothing is done while the
    shim lives: then only its connection was lost, and it comes back.
    """
    deadline = time.monotonic() + _PATIENCE
    while not has_ended(shim):
        if time.monotonic() > deadline:
            return 0
        time.sleep(_PAUSE)
    killed: set[tuple[int, int]] = set()
    while (found := _left(known, scratch)) and time.monotonic() < deadline:
        for process in found:
            kill_exactly(process)
            killed.add((process.pid, process.start))
        time.sleep(_PAUSE)
    return len(killed)


def has_ended(pid: int) -> bool:
    """Whether there is no such process, or only what is left to be reaped."""
    process = read_stat(pid)
    return process is None or process.ended


def _left(known: Mapping[int, int], scratch: str) -> list[ProcessStat]:
    processes = all_processes()
    sign = f"TMPDIR={scratch}".encode() if scratch else b""
    own = [one for one in processes if known.get(one.pid) == one.start or (sign and _says(one.pid, sign))]
    below = [one for process in own for one in descendants(process.pid, processes)]
    return [one for one in {one.pid: one for one in own + below}.values() if not one.ended and one.pid != os.getpid()]


def _says(pid: int, sign: bytes) -> bool:
    try:
        return sign in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
