"""What tests that start processes share: to wait for something, and to know what is still alive."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
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
