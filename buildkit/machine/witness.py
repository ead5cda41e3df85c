"""Which files an answer depends on: a record of everything that was looked at while it was worked out.

Files that are opened and folders that are listed are seen by an audit hook (``sys.addaudithook``); files
that are only asked for their identity report themselves. What is only asked whether it exists has to be
named: see :func:`Watch.expect`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from buildkit.file_identity import SETTLED_NS, FileIdentity, identity_if_any


class Watch:
    """Collects witnesses: path to identity (None: there was no such file) as it was when first looked at."""

    def __init__(self) -> None:
        self._ignored: tuple[str, ...] = ("/proc/", "/sys/")
        self.seen: dict[str, FileIdentity | None] = {}
        self.frozen = False
        """Set once the plan is made: what is looked at afterwards did not decide it."""
        self.doubtful = False
        """Something changed while it was looked at: nothing may be concluded from this watch."""

    def ignore(self, folders: Iterable[Path]) -> None:
        """Folders whose content is no input (stores, memos, the program itself)."""
        self._ignored += tuple(f"{folder}/" for folder in folders)

    def look(self, path: object) -> None:
        """Record one path, now."""
        if self.frozen or not isinstance(path, (str, bytes, os.PathLike)):
            return
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - resolving links would watch something else
        if name.startswith(self._ignored) or name.endswith((".pyc", ".lock")) or name == "/dev/null":
            return
        found = identity_if_any(name)
        if name in self.seen and self.seen[name] != found:
            self.doubtful = True
        if found is not None and time.time_ns() - max(found[1], found[2]) < SETTLED_NS:
            self.doubtful = True
        self.seen.setdefault(name, found)

    def freeze(self) -> None:
        """The plan is made. A second plan in one command would rest on files that were not watched."""
        self.doubtful = self.doubtful or self.frozen
        self.frozen = True

    def expect(self, paths: Iterable[Path]) -> None:
        """Record files that were only asked whether they exist."""
        for path in paths:
            self.look(path)


_active: list[Watch] = []
_hooked: list[bool] = []


def look(path: str | os.PathLike[str]) -> None:
    """Tell the watch, if there is one, that a file's identity was asked for."""
    for watch in _active:
        watch.look(path)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _active or event not in {"open", "os.listdir", "os.scandir"} or not arguments:
        return
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        return
    path = arguments[0]
    if isinstance(path, int):
        return
    watches = _active[:]
    _active.clear()  # looking stats and must not be looked at
    try:
        for watch in watches:
            watch.look(path)
    finally:
        _active.extend(watches)


@contextmanager
def watching() -> Iterator[Watch]:
    """Watch this block."""
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    watch = Watch()
    _active.append(watch)
    try:
        yield watch
    finally:
        _active.remove(watch)
