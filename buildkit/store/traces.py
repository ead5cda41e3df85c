"""Traces of builds: ``traces/BUILD.json`` beside the entries, kept as long as the store is. What is in one is its
writer's and its reader's."""

from __future__ import annotations

import os
from pathlib import Path

from buildkit.errors import StoreError
from buildkit.store.disk import disk_causes, make_folder, new_file, write_all
from buildkit.store.model import is_name

LARGEST = 32 << 20
"""Bytes of a trace that is read; none that was written here is as large."""


class Traces:
    """The traces in ``root/traces``. Raises StoreError's family."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "traces"

    def path(self, build: str) -> Path:
        """Where the trace of a build lies."""
        if not is_name(build):
            raise StoreError(f"{build!r} cannot be a build's id", hint="cudabuild log last")
        return self.folder / f"{build}.json"

    def write(self, build: str, data: bytes, *, lasting: bool = True) -> None:
        """Write or replace one, in one step. ``lasting``: on the disk when this returns; else soon."""
        path = self.path(build)
        with disk_causes(self.folder, needed=len(data)):
            make_folder(self.folder)
            if lasting:
                with new_file(path, self.folder) as descriptor:
                    write_all(descriptor, data)
                return
            draft = self.folder / f".{build}-{os.getpid()}.tmp"
            draft.write_bytes(data)
            draft.replace(path)

    def read(self, build: str) -> bytes | None:
        """The trace of a build; None where there is none, nothing of one that is too large to be one."""
        path = self.path(build)
        with disk_causes(self.folder):
            try:
                return path.read_bytes() if path.stat().st_size <= LARGEST else b""
            except FileNotFoundError:
                return None

    def remove(self, build: str) -> None:
        """With the entry of the build."""
        with disk_causes(self.folder):
            self.path(build).unlink(missing_ok=True)
