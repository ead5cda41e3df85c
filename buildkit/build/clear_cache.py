"""``cache gc``: measure, choose, remove; beside commands that read and write the same cache."""

from __future__ import annotations

import contextlib
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buildkit.build.cache_items import cache_items
from buildkit.build.disk_use import Ledger
from buildkit.build.places import Places
from buildkit.build.retention import Item, Policy, choose
from buildkit.build.running import is_running
from buildkit.build.tidy import put_away, remove_build
from buildkit.errors import StoreError
from buildkit.store.builds import BuildRecords
from buildkit.store.clearing import Clearing
from buildkit.store.disk import disk_causes
from buildkit.store.in_use import InUse, claimed
from buildkit.store.locks import file_lock
from buildkit.store.store import Store

BATCH = 50
"""Wheels that go at once: writers wait for no longer than that."""


@dataclass
class Cleared:
    """What a clearing did, or (``dry_run``) would do. Sizes are bytes on the disk."""

    before: int
    after: int
    removed: list[tuple[Item, str, int]] = field(default_factory=list)
    """With why, and what became free."""
    kept: list[tuple[Item, str]] = field(default_factory=list)
    """What might have gone and stays, with why."""
    items: list[Item] = field(default_factory=list)
    """All that was there."""


def clear_cache(places: Places, store: Store, policy: Policy, *, now: float, dry_run: bool) -> Cleared:
    """Clear a cache. One at a time; LockBusy where another one is at it. Raises StoreError's family.

    Only a folder of cudabuild's own is cleared: beside somebody's other things, ``builds`` may be theirs as well.
    """
    with disk_causes(places.cache):
        if other := places.foreign():
            raise StoreError(
                f"{places.cache} holds more than a cache, and nothing of it is cleared",
                evidence=", ".join(other[:8]),
                hint="move these away, or set CUDABUILD_CACHE to a folder of cudabuild's own",
            )
        if dry_run:
            return _cleared(places, store, policy, now, None)
        if not places.cache.is_dir():
            return Cleared(0, 0)
        with file_lock(places.in_use / "gc.lock", patience=0.0):
            return _cleared(places, store, policy, now, Remover(places, store))


def _cleared(places: Places, store: Store, policy: Policy, now: float, remover: Remover | None) -> Cleared:
    items = cache_items(places, store, now)
    ledger = Ledger(item.use for item in items)
    choice = choose(items, policy, now)
    done = Cleared(ledger.total, ledger.total, items=items, kept=list(choice.kept))
    _go(list(choice.going), ledger, remover, done)
    rest = list(choice.candidates)
    while rest and policy.max_size is not None and ledger.total > policy.max_size:
        round_ = _enough(rest, ledger, ledger.total - policy.max_size)
        rest = rest[len(round_) :]
        _go([(item, "to make room: it was used longest ago") for item in round_], ledger, remover, done)
    done.after = ledger.total
    return done


def _enough(candidates: Sequence[Item], ledger: Ledger, wanted: int) -> list[Item]:
    """The first candidates that together free what is wanted, as far as can be told beforehand; at least one."""
    chosen: list[Item] = []
    for item in candidates:
        chosen.append(item)
        wanted -= ledger.freed_by(item.use)
        if wanted <= 0:
            break
    return chosen


def _go(going: list[tuple[Item, str]], ledger: Ledger, remover: Remover | None, done: Cleared) -> None:
    kept = remover.remove([item for item, _why in going]) if remover is not None else {}
    for item, why in going:
        if id(item) in kept:
            done.kept.append((item, kept[id(item)]))
        else:
            done.removed.append((item, why, ledger.remove(item.use)))


@dataclass(frozen=True)
class Remover:
    """Removes parts of a cache, each in the way that is safe for those who use its kind."""

    places: Places
    store: Store

    def remove(self, items: Sequence[Item]) -> dict[int, str]:
        """Why some stay, by ``id``."""
        wheels = [item for item in items if item.stored is not None]
        kept: dict[int, str] = {}
        for start in range(0, len(wheels), BATCH):
            kept |= self._wheels(wheels[start : start + BATCH])
        for item in items:
            why = "" if item.stored is not None else self._other(item)
            if why:
                kept[id(item)] = why
        return kept

    def _wheels(self, batch: Sequence[Item]) -> dict[int, str]:
        stayed = Clearing(self.store).remove([item.stored for item in batch if item.stored is not None])
        return {id(item): stayed[item.stored.sha256] for item in batch if item.stored and item.stored.sha256 in stayed}

    def _other(self, item: Item) -> str:
        if item.kind == "build":
            return remove_build(self.places, item.paths[0])
        if item.kind == "record":
            return self._record(item)
        if item.kind == "leftover":
            return self._leftover(item)
        return self._held(item)

    def _record(self, item: Item) -> str:
        records = BuildRecords(self.store.root)
        record = records.read_if_any(item.name)
        if record is not None and is_running(record, records):
            return "its build runs"
        for path in item.paths:
            path.unlink(missing_ok=True)
        return ""

    def _leftover(self, item: Item) -> str:
        path = item.paths[0]
        if path.is_relative_to(self.store.blobs.folder):
            Clearing(self.store).remove_unnamed()
            return "named or in use meanwhile" if path.exists() else ""
        _delete(path)
        return ""

    def _held(self, item: Item) -> str:
        """What is held by its users: nobody may hold it while it is renamed; it is deleted afterwards."""
        try:
            with claimed(self.places.in_use, item.paths[0]):
                gone = [put_away(path) for path in item.paths]
        except (InUse, OSError) as reason:
            return str(reason)
        for path in gone:
            _delete(path)
        return ""


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def usage(items: Sequence[Item]) -> dict[str, tuple[int, int]]:
    """How many parts of each kind there are, and what they take, files of several kinds counted in each."""
    found: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for item in items:
        count, size = found[item.kind]
        found[item.kind] = (count + 1, size + item.use.size)
    return dict(found)
