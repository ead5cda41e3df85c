"""The store: proven wheels by key.

Promises: what :meth:`Store.put` acknowledged survives a power cut; no read returns other bytes than those
that were stored. Reading writes nothing, so a cache on a read-only mount serves hits.

    blobs/sha256/ab/HASH   entries/KEY.json   entries/by-family/FAMILY/KEY   releases/FILENAME.json
    traces/BUILD.json   tmp/   quarantine/   locks/
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.errors import NoSuchBuild, StoreError
from buildkit.file_identity import FileIdentity, identity_if_any
from buildkit.store import locks
from buildkit.store.blobs import Blobs, copy_out, file_sha256
from buildkit.store.disk import Step, check_folder, disk_causes, make_folder, new_file, no_step, sync_folder, write_all
from buildkit.store.model import (
    DamagedEntry,
    Entry,
    ForeignEntry,
    Lookup,
    Problem,
    differing_fields,
    is_name,
    parse_entry,
)
from buildkit.store.release import Release
from buildkit.store.releases import Releases
from buildkit.store.traces import Traces

STALE_SECONDS = 3600
"""Age at which a temporary file that no writer is at work on is somebody's who was killed."""
QUARANTINE_PATIENCE = 10.0
"""Seconds to wait for writers before a damaged entry is left where it is (it is a miss all the same)."""


@dataclass(frozen=True)
class _Finding:
    """What lies under a key: a sound entry, or none; ``damaged`` parts may be set aside."""

    entry: Entry | None = None
    problem: str = ""
    damaged: tuple[Path, ...] = ()


class Store:
    """The store in the folder ``root``, which is made when something is first put. Raises StoreError's family."""

    def __init__(self, root: Path, *, step: Step = no_step) -> None:
        self.root = root
        self.blobs = Blobs(root, root / "tmp", step)
        self._releases = Releases(root, root / "tmp", step)
        self._step = step

    # Reading

    def get(self, key: str) -> Lookup:
        """The entry of a key, its wheel read and found to be the one stored; else a miss, and why."""
        with disk_causes(self.root):
            finding = self._examine(key)
            if not finding.damaged:
                return Lookup(finding.entry, finding.problem)
            return self._set_aside(key, finding.problem)

    def wheel(self, entry: Entry) -> Path:
        """Where the store keeps an entry's wheel (under its hash: use :meth:`hand_out` for a named copy)."""
        return self.blobs.path(entry.sha256)

    def witness(self, entry: Entry) -> dict[str, FileIdentity | None]:
        """The files that decide whether an entry serves, as they are now: its own, which another verdict replaces, and
        the libraries that the wheel holds copies of."""
        return {name: identity_if_any(name) for name in (str(self._entry(entry.key)), *entry.grafted)}

    def hand_out(self, entry: Entry, folder: Path) -> Path:
        """Copy an entry's wheel into ``folder`` under its own name and return the path.

        An identical file that is there already is left alone; another one is replaced in one step.
        """
        final = folder / entry.filename
        with disk_causes(folder, needed=entry.size, hint="choose another folder with --out"):
            if final.is_file() and final.stat().st_size == entry.size and file_sha256(final) == entry.sha256:
                return final
            folder.mkdir(parents=True, exist_ok=True)
            if self.wheel(entry).is_file() and copy_out(self.wheel(entry), final, entry.sha256):
                return final
        note = self.get(entry.key).note
        message = f"the stored wheel {entry.filename} was removed or damaged meanwhile"
        raise StoreError(message, evidence=note, hint="run the build again")

    def entries(self) -> Iterator[Entry]:
        """Every readable entry, newest first. The wheels are not read."""
        with disk_causes(self.root):
            found = [self._readable(path.stem) for path in self._entry_files()]
        yield from sorted((entry for entry in found if entry), key=lambda entry: entry.created, reverse=True)

    def releases(self) -> list[Release]:
        """Every readable release, by file name, yanked ones too. The wheels are not read."""
        with disk_causes(self.root):
            return list(self._releases.all())

    def release(self, filename: str) -> Release | None:
        """The release of a file name, if there is one that can be read."""
        with disk_causes(self.root):
            return self._releases.get(filename)

    def candidates(self, family: str) -> list[Entry]:
        """Entries that differ in their targets only, newest first; to be had with :meth:`get` like any other."""
        with disk_causes(self.root):
            markers = self._family(family).glob("*")
            found = [self._readable(marker.name) for marker in markers if is_name(marker.name)]
        return sorted((e for e in found if e and e.family == family), key=lambda entry: entry.created, reverse=True)

    def nearest(self, inputs: Mapping[str, Any], recipe: str) -> tuple[Entry, list[str]] | None:
        """The recipe's entry with the fewest fields that differ from ``inputs`` (the newest of equals), and which."""
        compared = [
            (entry, differing_fields(inputs, entry.inputs)) for entry in self.entries() if entry.recipe == recipe
        ]
        return min(compared, key=lambda pair: len(pair[1]), default=None)

    def find(self, text: str) -> Entry:
        """The entry meant by ``last``, a build's id, a wheel's file name or the beginning of a key."""
        every = list(self.entries())
        if text == "last" and every:
            return every[0]
        found = [entry for entry in every if text in (entry.build, entry.key, entry.filename)]
        found = found[:1] or [entry for entry in every if text and entry.key.startswith(text)]
        if len(found) == 1:
            return found[0]
        if found:
            shown = ", ".join(f"{entry.key[:12]} ({entry.filename})" for entry in found[:5])
            raise NoSuchBuild(f"{text} begins {len(found)} keys", evidence=shown, hint="type more of the key")
        raise NoSuchBuild(f"nothing in the store is called {text}", hint="cudabuild cache list")

    def verify_all(self) -> list[Problem]:
        """Read every byte and name all that is not as it was written. Changes nothing."""
        problems: list[Problem] = []
        named: set[Path] = set()
        with disk_causes(self.root):
            for path in self._entry_files():
                finding = self._examine(path.stem)
                if finding.damaged:
                    problems.append(Problem(path.stem, str(finding.damaged[-1]), finding.problem))
                if entry := self._readable(path.stem):
                    named.add(self.wheel(entry))
            problems += [
                Problem("", str(path), "its bytes are not the ones that were stored")
                for path in self.blobs.all()
                if path not in named and (not path.is_file() or file_sha256(path) != path.name)
            ]
        return problems

    # Writing

    @contextlib.contextmanager
    def lock(self, key: str, on_wait: locks.OnWait = locks.tell_nobody) -> Iterator[None]:
        """One build per key at a time on this store. ``on_wait`` as in :func:`buildkit.store.locks.file_lock`."""
        with locks.file_lock(self.root / "locks" / f"{_checked(key)}.lock", on_wait=on_wait):
            yield

    def put(self, wheel: Path, entry: Entry, release: Release | None = None) -> Entry:
        """Store a wheel, its entry and its release; all are on the disk when this returns.

        ``entry`` announces the wheel's sha256 and size: StoreError if the bytes are others. NameTaken if its release's
        file name is another wheel's.
        """
        with disk_causes(self.root, needed=entry.size), self._writing():
            self.blobs.add(wheel, entry.sha256, entry.size)
            if release is not None:
                self._releases.write(release)
            self._write_entry(entry)
        return entry

    def publish(self, wheel: Path, release: Release) -> Release:
        """Store a wheel that no key of this store made, under its file name; it lasts when this returns.

        StoreError if its bytes are not the ones announced, NameTaken if the file name is another wheel's.
        """
        with disk_causes(self.root, needed=release.size), self._writing():
            self.blobs.add(wheel, release.sha256, release.size)
            self._releases.write(release)
        return release

    def amend_release(self, release: Release) -> Release:
        """Replace what is said of a release (a new verdict, yanked); its bytes stay."""
        with disk_causes(self.root), self._writing():
            self._releases.write(release)
        return release

    def amend(self, entry: Entry) -> Entry:
        """Replace the entry of a key (a new verdict on the same wheel)."""
        with disk_causes(self.root), self._writing():
            if flaw := self.blobs.flaw(entry.sha256, entry.size):
                raise StoreError(f"the stored wheel {entry.filename} is damaged: {flaw}", hint="run the build again")
            self._write_entry(entry)
        return entry

    def remove(self, key: str) -> None:
        """Take an entry out with its trace, and its wheel if no other entry has it."""
        path = self._entry(key)
        with disk_causes(self.root), self._alone(None):
            if not path.exists():
                raise NoSuchBuild(f"no entry {key}", hint="cudabuild cache list")
            entry = self._readable(key)
            path.unlink()
            sync_folder(path.parent)
            if entry:
                self._marker(entry).unlink(missing_ok=True)
                Traces(self.root).remove(entry.build)
                if all(other.sha256 != entry.sha256 for other in self.entries()):
                    self.wheel(entry).unlink(missing_ok=True)

    # Inside

    def _entry(self, key: str) -> Path:
        return self.root / "entries" / f"{_checked(key)}.json"

    def _entry_files(self) -> list[Path]:
        check_folder(self.root / "entries")
        return sorted(path for path in (self.root / "entries").glob("*.json") if is_name(path.stem))

    def _family(self, family: str) -> Path:
        return self.root / "entries" / "by-family" / _checked(family)

    def _marker(self, entry: Entry) -> Path:
        return self._family(entry.family) / entry.key

    def _readable(self, key: str) -> Entry | None:
        with contextlib.suppress(FileNotFoundError, DamagedEntry, ForeignEntry):
            return parse_entry(self._entry(key).read_bytes())
        return None

    def _examine(self, key: str) -> _Finding:
        path = self._entry(key)
        try:
            entry = parse_entry(path.read_bytes())
        except FileNotFoundError:
            return _Finding()
        except ForeignEntry as error:
            return _Finding(problem=f"entry {key[:12]} is not used: {error}")
        except DamagedEntry as error:
            return _Finding(problem=f"entry {key[:12]} is damaged: {error}", damaged=(path,))
        if entry.key != key:
            return _Finding(problem=f"entry {key[:12]} is another key's: {entry.key[:12]}", damaged=(path,))
        if flaw := self.blobs.flaw(entry.sha256, entry.size):
            problem = f"the stored wheel {entry.filename} is damaged: {flaw}"
            return _Finding(problem=problem, damaged=(path, self.wheel(entry)))
        return _Finding(entry)

    def _set_aside(self, key: str, problem: str) -> Lookup:
        """Move what is damaged to ``quarantine/``, unless somebody has put it right meanwhile."""
        place = self.root / "quarantine"
        try:
            with disk_causes(self.root), self._alone(QUARANTINE_PATIENCE):
                finding = self._examine(key)
                if not finding.damaged:
                    return Lookup(finding.entry, finding.problem)
                make_folder(place)
                stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
                for path in finding.damaged:
                    with contextlib.suppress(FileNotFoundError):
                        path.replace(place / f"{stamp}-{path.name}")
        except StoreError as error:
            return Lookup(None, f"{problem}; it stays where it is ({error.message})")
        return Lookup(None, f"{problem}; set aside in {place}")

    def _write_entry(self, entry: Entry) -> None:
        entries, temporary, marker = self._entry(entry.key).parent, self.root / "tmp", self._marker(entry)
        for folder in (entries, temporary, marker.parent):
            make_folder(folder)
        # Before the entry: a marker without an entry is harmless, an entry without its marker is not found by family.
        marker.touch()
        sync_folder(marker.parent)
        self._step("family-marked")
        with new_file(self._entry(entry.key), temporary, label="entry", step=self._step) as descriptor:
            write_all(descriptor, entry.as_bytes())

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Beside other writers, but not while somebody removes or sets aside; leftovers are swept first."""
        with contextlib.suppress(locks.LockBusy), self._alone(0.0):
            self._sweep()
        with locks.file_lock(self.root / "locks" / "writers", shared=True):
            self._step("locked")
            yield

    @contextlib.contextmanager
    def _alone(self, patience: float | None) -> Iterator[None]:
        with locks.file_lock(self.root / "locks" / "writers", patience=patience):
            yield

    def _sweep(self) -> None:
        """Remove temporary files of writers that were killed."""
        oldest = time.time() - STALE_SECONDS
        for path in (self.root / "tmp").glob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_mtime < oldest:
                    path.unlink()


PUT_STEPS = (
    "locked",
    *(f"blob-{step}" for step in ("created", "written", "synced", "renamed", "durable")),
    "family-marked",
    *(f"entry-{step}" for step in ("created", "written", "synced", "renamed", "durable")),
)
"""The boundaries that a put passes, in order; what was put lasts from the last one on."""


def _checked(name: str) -> str:
    if not is_name(name):
        raise StoreError(f"{name!r} cannot be a key", hint="cudabuild cache list")
    return name
