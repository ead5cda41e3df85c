"""Taking wheels out of a store while others read and write it.

A wheel goes with all that names it, in an order in which a kill leaves nothing wrong: its file names are put aside
(they stay its own for ever), its entries go, that lasts, and only then its bytes. Writers wait meanwhile, so what is
named is known; a wheel that somebody holds stays.
"""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from buildkit.store.disk import disk_causes
from buildkit.store.in_use import InUse, claimed_file
from buildkit.store.locks import file_lock
from buildkit.store.model import Entry
from buildkit.store.release import Release
from buildkit.store.store import STALE_SECONDS, Store
from buildkit.store.traces import Traces

PATIENCE = 60.0
"""Seconds to wait for writers."""
_SHA256 = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True)
class Stored:
    """The bytes of one wheel with all that names them. ``used`` is in seconds since the epoch, ``size`` in bytes."""

    sha256: str
    path: Path
    size: int
    used: float
    entries: tuple[Entry, ...]
    releases: tuple[Release, ...]

    @property
    def name(self) -> str:
        """What people call it."""
        named = [*(release.filename for release in self.releases), *(entry.filename for entry in self.entries)]
        return named[0] if named else self.sha256

    @property
    def recipes(self) -> frozenset[str]:
        """The recipes or projects that it is a wheel of."""
        own = frozenset(entry.recipe for entry in self.entries)
        return own or frozenset(release.project for release in self.releases)

    @property
    def given(self) -> bool:
        """Whether somebody brought it, who may still want it: it cannot be built again here."""
        return any(release.origin == "upload" and not release.yanked for release in self.releases)


class Clearing:
    """The wheels of a store, and their removal. Raises StoreError's family."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def wheels(self) -> list[Stored]:
        """Every wheel that something names, the one longest unused first. Wheels that are missing are left out."""
        entries: dict[str, list[Entry]] = defaultdict(list)
        releases: dict[str, list[Release]] = defaultdict(list)
        for entry in self.store.entries():
            entries[entry.sha256].append(entry)
        for release in self.store.releases():
            releases[release.sha256].append(release)
        found = []
        for sha256 in {*entries, *releases}:
            path = self.store.blobs.path(sha256)
            with contextlib.suppress(OSError):
                status = path.lstat()
                own = (tuple(entries[sha256]), tuple(releases[sha256]))
                found.append(Stored(sha256, path, status.st_size, status.st_mtime, *own))
        return sorted(found, key=lambda each: (each.used, each.sha256))

    def unnamed(self) -> list[Path]:
        """Stored bytes that nothing names: what is left of writers that were killed, and of entries set aside."""
        named = self._named()
        return [path for path in self.store.blobs.all() if path.name not in named]

    def leftovers(self, now: float) -> Iterator[Path]:
        """Temporary files of writers that were killed."""
        for folder in (self.store.root / "tmp", self.store.root / "traces", self.store.root / "builds"):
            for path in folder.glob(".*.tmp"):
                with contextlib.suppress(OSError):
                    if now - path.lstat().st_mtime > STALE_SECONDS:
                        yield path

    def set_aside(self) -> list[Path]:
        """Damaged files that were set aside."""
        return sorted((self.store.root / "quarantine").glob("*"))

    def remove(self, doomed: Iterable[Stored]) -> dict[str, str]:
        """Take wheels out; why one stays, by its sha256. One that got another name meanwhile stays, too."""
        with self._alone(), contextlib.ExitStack() as claims:
            wheels = list(doomed)
            kept = {each.sha256: why for each in wheels if (why := _claim(each, claims))}
            going = [each for each in wheels if each.sha256 not in kept]
            entries = [entry for wheel in going for entry in wheel.entries]
            self.store.forget(entries, [release for wheel in going for release in wheel.releases])
            for entry in entries:
                Traces(self.store.root).remove(entry.build)
            named = self._named()
            for wheel in going:
                if wheel.sha256 in named:
                    kept[wheel.sha256] = "stored again meanwhile"
                else:
                    wheel.path.unlink(missing_ok=True)
                    self.store.step("gc-unlinked")
        return kept

    def remove_unnamed(self) -> int:
        """Take out what nothing names and nobody holds; bytes of it."""
        freed = 0
        with self._alone():
            for path in self.unnamed():
                with contextlib.suppress(InUse, OSError), claimed_file(path):
                    freed += path.lstat().st_size
                    path.unlink()
        return freed

    def _named(self) -> set[str]:
        """The sha256 of all bytes that something may name: an entry that cannot be read names all that it mentions."""
        named: set[str] = set()
        for folder in ("entries", "releases"):
            for path in (self.store.root / folder).glob("*.json"):
                with contextlib.suppress(FileNotFoundError):
                    named.update(found.decode() for found in _SHA256.findall(path.read_bytes()))
        return named

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with disk_causes(self.store.root), file_lock(self.store.root / "locks" / "writers", patience=PATIENCE):
            self.store.step("gc-locked")
            yield


def _claim(wheel: Stored, claims: contextlib.ExitStack) -> str:
    """Have a wheel for oneself, or say why not."""
    try:
        claims.enter_context(claimed_file(wheel.path))
    except (InUse, OSError) as reason:
        return str(reason)
    return ""


GC_STEPS = ("gc-locked", "gc-retired", "gc-forgotten", "gc-synced", "gc-unlinked")
"""The boundaries that a removal passes, in order."""
