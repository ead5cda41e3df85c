"""Naming a process for good: boot, number and start, so that a number that was given anew is not taken for it."""

from __future__ import annotations

import os
from pathlib import Path

from buildkit.guard.sampling import read_stat


def own_mark() -> str:
    """This process, as ``BOOT/PID/START``; START is in clock ticks since the boot (proc_pid_stat(5))."""
    stat = read_stat(os.getpid())
    return f"{_boot()}/{os.getpid()}/{stat.start if stat else 0}"


def pid_of(mark: str) -> int:
    """The process's number; 0 for what is no mark."""
    parts = mark.split("/")
    return int(parts[1]) if len(parts) == 3 and parts[1].isdecimal() else 0


def is_alive(mark: str) -> bool:
    """Whether that very process runs on this machine now."""
    boot, _, _ = mark.partition("/")
    stat = read_stat(pid_of(mark)) if boot == _boot() and pid_of(mark) else None
    return stat is not None and not stat.ended and mark.endswith(f"/{stat.start}")


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
