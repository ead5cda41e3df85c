"""What a tree of processes is just writing: cut short, it is of no use to anybody, and may fill a disk."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

SMALLEST = 16 << 20
"""Bytes. What is smaller stays: the next try of the build may know better what it is."""


def unfinished_files(pids: Iterable[int], folders: Sequence[Path]) -> set[Path]:
    """Regular files below the folders that these processes have open for writing.

    Files that are only added to (ninja's logs, a build's own) are complete at any time, and are left out.
    """
    places = tuple(f"{folder.resolve()}/" for folder in folders)
    return {Path(target) for pid in pids for target in _written(pid) if target.startswith(places)}


def give_back(files: Iterable[Path]) -> int:
    """Remove the large ones among them, once nobody writes any more: the bytes that were given back."""
    total = 0
    for path in files:
        with contextlib.suppress(OSError):
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_size >= SMALLEST:
                path.unlink()
                total += found.st_size
    return total


def _written(pid: int) -> list[str]:
    """Targets of the descriptors (proc_pid_fd(5)) that are open for writing and not for adding to."""
    found = []
    with contextlib.suppress(OSError):
        for entry in list(Path(f"/proc/{pid}/fd").iterdir()):
            with contextlib.suppress(OSError, ValueError, IndexError):
                target = os.readlink(entry)  # noqa: PTH115  (a deleted file's name is no path)
                if target.startswith("/") and _writes(Path(f"/proc/{pid}/fdinfo/{entry.name}")):
                    found.append(target)
    return found


def _writes(information: Path) -> bool:
    flags = int(information.read_bytes().split(b"flags:")[1].split()[0], 8)
    return flags & os.O_ACCMODE != os.O_RDONLY and not flags & os.O_APPEND
