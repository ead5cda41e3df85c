"""What lies in a cache, as parts that stay or go as a whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from buildkit.build.disk_use import measure
from buildkit.build.places import Places
from buildkit.build.retention import Item, Kind
from buildkit.build.running import is_running
from buildkit.build.tidy import BUILD_SECONDS, GONE, old_scratch
from buildkit.build.torches import manifest_of
from buildkit.store.builds import BuildRecords
from buildkit.store.clearing import Clearing
from buildkit.store.in_use import used
from buildkit.store.store import Store
from buildkit.store.traces import Traces

SMALL = "small, and what makes builds quick"


def cache_items(places: Places, store: Store, now: float) -> list[Item]:
    """Every part, measured. What vanishes meanwhile is left out; nothing is changed."""
    wheels = list(_wheels(store))
    found = [
        *wheels,
        *_copies(places, wheels),
        *_records(places, store),
        *_builds(places, now),
        *_shared(places),
        *_leftovers(places, store, now),
        *_others(places),
    ]
    return [replace(item, use=measure(item.paths)) for item in found]


def _wheels(store: Store) -> Iterator[Item]:
    for stored in Clearing(store).wheels():
        pinned = "uploaded: it cannot be built again here (yank it first)" if stored.given else ""
        yield Item("wheel", stored.name, (stored.path,), stored.used, pinned=pinned, stored=stored)


def _copies(places: Places, wheels: list[Item]) -> Iterator[Item]:
    """Wheels under their names as they were handed out; used when they were, or answered from a receipt."""
    answered: dict[str, float] = {}
    for item in wheels:
        for entry in item.stored.entries if item.stored else ():
            answered[entry.key[:16]] = max(item.used, answered.get(entry.key[:16], 0.0))
    for folder in _folders(places.wheels):
        last = max(used(places.in_use, folder), _changed(folder), answered.get(folder.name, 0.0))
        yield Item("copy", folder.name, (folder,), last)


def _records(places: Places, store: Store) -> Iterator[Item]:
    """Records, traces and logs of builds of which no wheel is stored any more, or ever was."""
    records, traces = BuildRecords(store.root), Traces(store.root)
    stored = {entry.build for entry in store.entries()}
    running = {record.id for record in records.newest_first() if is_running(record, records)}
    names = {path.stem for path in (*records.folder.glob("*.json"), *traces.folder.glob("*.json"))}
    names |= {path.stem for path in places.logs.glob("*.log")}
    for name in sorted(names - stored):
        own = (records.folder / f"{name}.json", traces.folder / f"{name}.json", places.logs / f"{name}.log")
        there = tuple(path for path in own if path.exists())
        last = max((_changed(path) for path in there), default=0.0)
        yield Item("record", name, there, last, pinned="its build runs" if name in running else "")


def _builds(places: Places, now: float) -> Iterator[Item]:
    for folder in _folders(places.builds):
        last = _changed(folder)
        old = "a build that failed over a week ago" if now - last > BUILD_SECONDS else ""
        yield Item("build", folder.name, (folder,), last, useless=old)


def _shared(places: Places) -> Iterator[Item]:
    """What several builds use: each is held by whoever uses it (:mod:`buildkit.store.in_use`)."""
    kinds: tuple[tuple[Kind, Path], ...] = (
        ("environment", places.environments), ("torch", places.torch), ("toolkit", places.toolkits),
    )  # fmt: skip
    for kind, parent in kinds:
        for folder in _folders(parent):
            yield Item(kind, folder.name, (folder, manifest_of(folder)), used(places.in_use, folder))
    wholes: tuple[tuple[Kind, Path], ...] = (
        ("source", places.sources), ("download", places.downloads), ("uv", places.uv_cache),
    )  # fmt: skip
    for kind, folder in wholes:
        if folder.is_dir():
            yield Item(kind, folder.name, (folder,), used(places.in_use, folder))


def _leftovers(places: Places, store: Store, now: float) -> Iterator[Item]:
    clearing = Clearing(store)
    why = "left by a command that was killed"
    for path in (*old_scratch(places, now), *clearing.leftovers(now)):
        yield Item("leftover", path.name, (path,), _changed(path), useless=why)
    for path in clearing.set_aside():
        last = _changed(path)
        old = "a damaged file that was set aside over a week ago" if now - last > BUILD_SECONDS else ""
        yield Item("leftover", path.name, (path,), last, useless=old)
    for path in clearing.unnamed():
        yield Item("leftover", path.name, (path,), _changed(path), useless="bytes that nothing names")


def _others(places: Places) -> Iterator[Item]:
    folders = (
        places.memo, places.pycache, places.profiles, places.locks, places.cache / "receipts",
        places.views, places.shims, places.borrowed,
    )  # fmt: skip
    for folder in folders:
        if folder.is_dir():
            yield Item("other", folder.name, (folder,), _changed(folder), pinned=SMALL)


def _folders(parent: Path) -> Iterator[Path]:
    for path in sorted(parent.glob("*")):
        if path.is_dir() and not path.name.startswith((".", GONE)):
            yield path


def _changed(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.lstat().st_mtime
    return 0.0
