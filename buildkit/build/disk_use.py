"""How much of the disk the parts of a cache take, where files of one part are also those of another (hard links)."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Inode = tuple[int, int]


@dataclass(frozen=True)
class DiskUse:
    """What some files and folders take, in bytes on the disk. ``shared``: files that have other names, too."""

    own: int = 0
    shared: Mapping[Inode, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """All of it."""
        return self.own + sum(self.shared.values())


def measure(paths: Iterable[Path]) -> DiskUse:
    """What these files and folders take; what vanishes meanwhile is not counted."""
    own = 0
    shared: dict[Inode, int] = {}
    for status in _statuses(paths):
        size = status.st_blocks * 512
        if status.st_nlink > 1:
            shared[status.st_dev, status.st_ino] = size
        else:
            own += size
    return DiskUse(own, shared)


class Ledger:
    """The parts that are still there: what they take together, and what goes with one of them."""

    def __init__(self, parts: Iterable[DiskUse]) -> None:
        self.total = 0
        self._holders: Counter[Inode] = Counter()
        for part in parts:
            self.total += part.own + sum(size for inode, size in part.shared.items() if not self._holders[inode])
            self._holders.update(part.shared.keys())

    def freed_by(self, part: DiskUse) -> int:
        """Bytes that become free when this part goes."""
        return part.own + sum(size for inode, size in part.shared.items() if self._holders[inode] == 1)

    def remove(self, part: DiskUse) -> int:
        """Take a part out; the bytes that became free."""
        freed = self.freed_by(part)
        self._holders.subtract(part.shared.keys())
        self.total -= freed
        return freed


def _statuses(paths: Iterable[Path]) -> Iterator[os.stat_result]:
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.lstat()
            if not path.is_dir() or path.is_symlink():
                yield status
            else:
                yield from _below(str(path))


def _below(folder: str) -> Iterator[os.stat_result]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    yield from _below(entry.path)
                else:
                    yield entry.stat(follow_symlinks=False)
