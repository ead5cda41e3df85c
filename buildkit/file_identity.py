"""Which file this is, by what ``stat`` says of it: size, times, inode and device, and nothing that has to be read.

Only the standard library, and little of it: a hit from a receipt asks this some hundred times.
"""

from __future__ import annotations

import os

FileIdentity = tuple[int, int, int, int, int]
"""Size, mtime_ns, ctime_ns, inode and device."""

SETTLED_NS = 100_000_000
"""How old a change must be for the identity to stand for the content.

The kernel stamps files with a clock that ticks every 1 to 10 ms: a file that changed just now can change again
within the same tick, unseen.
"""


def identity_of(path: str | os.PathLike[str]) -> FileIdentity:
    """The identity of the file that ``path`` leads to.

    The change time is part of it: a program can restore the modification time of a file that it overwrites, but
    not the change time. Raises OSError where there is none, ValueError for what can be no path (a null byte).
    """
    status = os.stat(path)  # noqa: PTH116 - a Path for each of a hundred files costs as much as the stat
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def identity_if_any(path: str | os.PathLike[str]) -> FileIdentity | None:
    """As :func:`identity_of`, None where there is no such file."""
    try:
        return identity_of(path)
    except (OSError, ValueError):
        return None
