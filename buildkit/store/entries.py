"""The entries of a store: one file a key, and an empty one that marks it as one of its family.

entries/KEY.json   entries/by-family/FAMILY/KEY
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import StoreError
from buildkit.store.blobs import Blobs
from buildkit.store.disk import Step, check_folder, make_folder, new_file, no_step, sync_folder, write_all
from buildkit.store.model import DamagedEntry, Entry, ForeignEntry, is_name, parse_entry


@dataclass(frozen=True)
class Finding:
    """What lies under a key: a sound entry, or none; ``damaged`` parts may be set aside."""

    entry: Entry | None = None
    problem: str = ""
    damaged: tuple[Path, ...] = ()


class Entries:
    """Reads and writes the entry files under ``root``. Methods raise OSError; the store says what that means."""

    def __init__(self, root: Path, temporary: Path, blobs: Blobs, step: Step = no_step) -> None:
        self.folder = root / "entries"
        self.temporary = temporary
        self._blobs = blobs
        self._step = step

    def path(self, key: str) -> Path:
        """Where the entry of a key lies, whether it is there or not. StoreError for what cannot be a key."""
        return self.folder / f"{checked_name(key)}.json"

    def files(self) -> list[Path]:
        """Every entry's file, by key."""
        check_folder(self.folder)
        return sorted(path for path in self.folder.glob("*.json") if is_name(path.stem))

    def all(self) -> Iterator[Entry]:
        """Every readable entry, by key."""
        yield from (entry for path in self.files() if (entry := self.get(path.stem)))

    def get(self, key: str) -> Entry | None:
        """The entry of this key; None where there is none, or none that can be read. Its wheel is not looked at."""
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, DamagedEntry, ForeignEntry):
            return parse_entry(self.path(key).read_bytes())
        return None

    def of_family(self, family: str) -> Iterator[Entry]:
        """Every readable entry of a family."""
        for marker in self._family(family).glob("*"):
            entry = self.get(marker.name) if is_name(marker.name) else None
            if entry is not None and entry.family == family:
                yield entry

    def examine(self, key: str) -> Finding:
        """What lies under a key, every byte of its wheel read."""
        path = self.path(key)
        try:
            entry = parse_entry(path.read_bytes())
        except FileNotFoundError:
            return Finding()
        except ForeignEntry as error:
            return Finding(problem=f"entry {key[:12]} is not used: {error}")
        except (IsADirectoryError, DamagedEntry) as error:
            why = "it is a folder" if isinstance(error, IsADirectoryError) else str(error)
            return Finding(problem=f"entry {key[:12]} is damaged: {why}", damaged=(path,))
        if entry.key != key:
            return Finding(problem=f"entry {key[:12]} is another key's: {entry.key[:12]}", damaged=(path,))
        flaw = self._blobs.flaw(entry.sha256, entry.size)
        if flaw and path.exists():  # else it was removed while its wheel was read, and nothing is wrong
            problem = f"the stored wheel {entry.filename} is damaged: {flaw}"
            return Finding(problem=problem, damaged=(path, self._blobs.path(entry.sha256)))
        return Finding(entry if not flaw else None)

    def write(self, entry: Entry) -> None:
        """Write an entry, or replace the one of its key."""
        path, marker = self.path(entry.key), self._marker(entry)
        for folder in (path.parent, self.temporary, marker.parent):
            make_folder(folder)
        # Before the entry: a marker without an entry is harmless, an entry without its marker is not found by family.
        marker.touch()
        sync_folder(marker.parent)
        self._step("family-marked")
        with new_file(path, self.temporary, label="entry", step=self._step) as descriptor:
            write_all(descriptor, entry.as_bytes())

    def remove(self, entry: Entry) -> None:
        """Take an entry out, unless its key has another wheel by now; to last, it needs a sync."""
        known = self.get(entry.key)
        if known is not None and known.sha256 == entry.sha256:
            self.path(entry.key).unlink(missing_ok=True)
            self._marker(known).unlink(missing_ok=True)

    def sync(self) -> None:
        """Make removals last."""
        if self.folder.is_dir():
            sync_folder(self.folder)

    def _family(self, family: str) -> Path:
        return self.folder / "by-family" / checked_name(family)

    def _marker(self, entry: Entry) -> Path:
        return self._family(entry.family) / entry.key


def checked_name(name: str) -> str:
    """The name, if it can be a key's or a family's. StoreError else: it would lead somewhere else."""
    if not is_name(name):
        raise StoreError(f"{name!r} cannot be a key", hint="cudabuild cache list")
    return name
