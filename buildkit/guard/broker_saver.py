"""Keeping the learned profiles, off the broker's loop: a sync can take long while compilers write."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from buildkit.guard.profile_store import ProfileFolder, write_durably

_EVERY = 2.0
"""Seconds that several changes may wait for one another."""
_AT_THE_END = 1.5
"""Seconds that the broker's end may wait for a slow disk."""


class Saver:
    """Collects what has changed; a thread of its own writes it."""

    def __init__(self) -> None:
        self._changed: dict[tuple[int, str], tuple[ProfileFolder, str]] = {}
        self._since: float | None = None
        self._writing: threading.Thread | None = None

    def changed(self, profile: ProfileFolder, package: str, urgent: bool) -> None:
        """A package's profile has changed; ``urgent`` where losing it would cost another kill."""
        self._changed[id(profile), package] = (profile, package)
        if self._since is None:
            self._since = time.monotonic()
        if urgent:
            self._since = 0.0

    def turn(self, now: float) -> None:
        """Begin to write if it is time and nothing is being written."""
        if self._since is not None and now - self._since >= _EVERY:
            self._write()

    def due(self) -> bool:
        """Something waits to be written."""
        return self._since is not None

    def _write(self) -> None:
        if self._writing is not None and self._writing.is_alive():
            return
        found = [profile.snapshot(package) for profile, package in self._changed.values()]
        self._changed, self._since = {}, None
        files = [one for one in found if one is not None]
        if files:
            self._writing = threading.Thread(target=_write_all, args=(files,), daemon=True)
            self._writing.start()

    def finish(self) -> None:
        """Write what is left; wait for it as long as the broker's end may wait."""
        deadline = time.monotonic() + _AT_THE_END
        while self.due() or (self._writing is not None and self._writing.is_alive()):
            if self._writing is not None:
                self._writing.join(max(0.0, deadline - time.monotonic()))
            if time.monotonic() > deadline:
                return
            if self.due():
                self._write()


def _write_all(files: list[tuple[Path, bytes]]) -> None:
    for file, data in files:
        # A profile only makes builds faster: a full or read-only disk is no reason to disturb one.
        with contextlib.suppress(OSError):
            write_durably(file, data)
