"""The store: proven wheels by key.

Promises: what :meth:`Store.put` acknowledged survives a power cut; no read returns other bytes than those
that were stored. Reading writes nothing, so a cache on a read-only mount serves hits.

    blobs/sha256/ab/HASH   entries/KEY.json   entries/by-family/FAMILY/KEY   releases/FILENAME.json
    traces/BUILD.json   tmp/   quarantine/   locks/
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from buildkit.errors import NoSuchBuild, StoreError
from buildkit.file_identity import FileIdentity, identity_if_any
from buildkit.store import in_use, locks
from buildkit.store.blobs import Blobs, copy_out, file_sha256
from buildkit.store.disk import Step, disk_causes, make_folder, no_step
from buildkit.store.entries import Entries, checked_name
from buildkit.store.model import Entry, Lookup, Problem, differing_fields
from buildkit.store.release import Release
from buildkit.store.releases import Releases
from buildkit.store.traces import Traces

STALE_SECONDS = 3600
"""Age at which a temporary file that no writer is at work on is somebody's who was killed."""
QUARANTINE_PATIENCE = 10.0
"""Seconds to wait for writers before a damaged entry is left where it is (it is a miss all the same)."""


class Store:
    """The store in the folder ``root``, which is made when something is first put. Raises StoreError's family."""

    def __init__(self, root: Path, *, step: Step = no_step) -> None:
        self.root = root
        self.blobs = Blobs(root, root / "tmp", step)
        self._entries = Entries(root, root / "tmp", self.blobs, step)
        self._releases = Releases(root, root / "tmp", step)
        self.step = step
        """Called at each step boundary of a write or a removal."""

    # Reading

    def get(self, key: str) -> Lookup:
        """The entry of a key, its wheel read and found to be the one stored; else a miss, and why."""
        with disk_causes(self.root):
            finding = self._entries.examine(key)
            if not finding.damaged:
                return Lookup(finding.entry, finding.problem)
            return self._set_aside(key, finding.problem)

    def wheel(self, entry: Entry) -> Path:
        """Where the store keeps an entry's wheel (under its hash: use :meth:`hand_out` for a named copy)."""
        return self.blobs.path(entry.sha256)

    def witness(self, entry: Entry) -> dict[str, FileIdentity | None]:
        """The files that decide whether an entry serves, as they are now: its own, which another verdict replaces, and
        the libraries that the wheel holds copies of."""
        own = str(self._entries.path(entry.key))
        return {name: identity_if_any(name) for name in (own, *entry.grafted)}

    def hold(self, entry: Entry) -> bool:
        """Keep an entry's wheel from being cleared away until this process ends. False where it is gone already."""
        return in_use.hold_file(self.wheel(entry))

    def hand_out(self, entry: Entry, folder: Path) -> Path:
        """Copy an entry's wheel into ``folder`` under its own name and return the path.

        An identical file that is there already is left alone; another one is replaced in one step.
        """
        final = folder / entry.filename
        with contextlib.suppress(OSError):
            os.utime(self.wheel(entry))  # its last use
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
            found = list(self._entries.all())
        yield from sorted(found, key=lambda entry: entry.created, reverse=True)

    def entry_bytes(self, key: str) -> bytes | None:
        """The file of an entry that can be read, as it is; None where there is none. The wheel is not read."""
        with disk_causes(self.root):
            entry = self._entries.get(key)
            return entry.as_bytes() if entry is not None and entry.key == key else None

    def releases(self, *, retired: bool = False) -> list[Release]:
        """Every readable release, by file name, yanked ones too. The wheels are not read.

        ``retired``: and those whose wheels were cleared away; they are not to be served, but their names are taken.
        """
        with disk_causes(self.root):
            gone = list(self._releases.retired()) if retired else []
            return sorted([*self._releases.all(), *gone], key=lambda release: release.filename)

    def release(self, filename: str) -> Release | None:
        """The release of a file name, if there is one that can be read."""
        with disk_causes(self.root):
            return self._releases.get(filename)

    def bearer(self, filename: str) -> str:
        """The sha256 of what this file name was ever given to, though that may be gone; empty for a free name."""
        with disk_causes(self.root):
            return self._releases.bearer(filename)

    def candidates(self, family: str) -> list[Entry]:
        """Entries that differ in their targets only, newest first; to be had with :meth:`get` like any other."""
        with disk_causes(self.root):
            found = list(self._entries.of_family(family))
        return sorted(found, key=lambda entry: entry.created, reverse=True)

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
            for path in self._entries.files():
                finding = self._entries.examine(path.stem)
                if finding.damaged:
                    problems.append(Problem(path.stem, str(finding.damaged[-1]), finding.problem))
                if entry := self._entries.get(path.stem):
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
        with locks.file_lock(self.root / "locks" / f"{checked_name(key)}.lock", on_wait=on_wait):
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
            self._entries.write(entry)
        return entry

    def publish(self, wheel: Path, release: Release) -> Release:
        """Store a wheel that no key of this store made, under its file name; it lasts when this returns. What is said
        already of these bytes stays.

        StoreError if its bytes are not the ones announced, NameTaken if the file name is another wheel's.
        """
        with disk_causes(self.root, needed=release.size), self._writing():
            self.blobs.add(wheel, release.sha256, release.size)
            return self._releases.add(release)

    def add_release(self, release: Release) -> Release:
        """Give a wheel that is stored already its file name, as :meth:`publish` does. Raises NameTaken."""
        with disk_causes(self.root), self._writing():
            return self._releases.add(release)

    def amend_release(self, release: Release, change: Callable[[Release], Release]) -> Release | None:
        """Change what is said of a release (a new verdict, yanked); its bytes stay.

        ``change`` gets what is said now, which others may have changed since ``release`` was read, and nobody does
        meanwhile. None where its name is not these bytes' any more.
        """
        with disk_causes(self.root), self._writing():
            return self._releases.amend(release, change)

    def amend(self, entry: Entry) -> Entry:
        """Replace the entry of a key (a new verdict on the same wheel)."""
        with disk_causes(self.root), self._writing():
            if flaw := self.blobs.flaw(entry.sha256, entry.size):
                raise StoreError(f"the stored wheel {entry.filename} is damaged: {flaw}", hint="run the build again")
            self._entries.write(entry)
        return entry

    def remove(self, key: str) -> None:
        """Take an entry out with its trace, and its wheel if no other entry and no release has it."""
        path = self._entries.path(key)
        with disk_causes(self.root), self._alone(None):
            if not path.exists():
                raise NoSuchBuild(f"no entry {key}", hint="cudabuild cache list")
            entry = self._entries.get(key)
            if entry is None:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                return
            self._entries.remove(entry)
            self._entries.sync()
            Traces(self.root).remove(entry.build)
            if not self._named(entry.sha256):
                self.wheel(entry).unlink(missing_ok=True)

    def forget(self, entries: Iterable[Entry], releases: Iterable[Release]) -> None:
        """Take away what names wheels that are to go, lastingly; file names stay their own for ever. For
        :mod:`buildkit.store.clearing`, which sees to it that nobody else writes."""
        for release in releases:
            self._releases.retire(release)
        self.step("gc-retired")
        for entry in entries:
            self._entries.remove(entry)
        self.step("gc-forgotten")
        self._releases.sync()
        self._entries.sync()
        self.step("gc-synced")

    # Inside

    def _named(self, sha256: str) -> bool:
        """Whether an entry or a release names a blob."""
        by_entry = any(entry.sha256 == sha256 for entry in self._entries.all())
        return by_entry or any(release.sha256 == sha256 for release in self._releases.all())

    def _set_aside(self, key: str, problem: str) -> Lookup:
        """Move what is damaged to ``quarantine/``, unless somebody has put it right meanwhile."""
        place = self.root / "quarantine"
        try:
            with disk_causes(self.root), self._alone(QUARANTINE_PATIENCE):
                finding = self._entries.examine(key)
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

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Beside other writers, but not while somebody removes or sets aside; leftovers are swept first."""
        with contextlib.suppress(locks.LockBusy), self._alone(0.0):
            self._sweep()
        with locks.file_lock(self.root / "locks" / "writers", shared=True):
            self.step("locked")
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
