"""What a killed command could not clear away itself, cleared by the next one that builds."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from buildkit.build.places import Places
from buildkit.errors import StoreError
from buildkit.store.locks import file_lock

SCRATCH = ("proof-*", "prove-*", "verify-*", "fetch-*", "install-*", "import-*", "shared-*")
SCRATCH_SECONDS = 24 * 3600.0
"""A scratch folder this old belongs to nobody any more: no proof or installation takes a day."""
BUILD_SECONDS = 7 * 24 * 3600.0
"""How long a failed build's folder is kept, so that the same build can go on in it."""
GONE = ".gone-"
"""Beginning of the name under which something lies that is being cleared away."""


def tidy(places: Places, now: float | None = None) -> list[Path]:
    """Remove what is too old to be anybody's; returns what was removed. ``now`` is in seconds since the epoch."""
    moment = time.time() if now is None else now
    removed = [path for path in old_scratch(places, moment) if path.is_dir()]
    for path in removed:
        shutil.rmtree(path, ignore_errors=True)
    builds = [path for path in places.builds.glob("*") if path.is_dir() and _age(path, moment) > BUILD_SECONDS]
    return removed + [path for path in builds if not remove_build(places, path)]


def old_scratch(places: Places, now: float) -> Iterator[Path]:
    """Scratch folders of commands that were killed, and what a killed clearing has left."""
    for pattern in SCRATCH:
        yield from (path for path in places.work.glob(pattern) if _age(path, now) > SCRATCH_SECONDS)
    for folder in (places.torch, places.environments, places.toolkits, places.builds, places.cache, places.wheels):
        yield from folder.glob(f"{GONE}*")


def remove_build(places: Places, folder: Path) -> str:
    """Remove the folder of a build that does not run; empty, or why it stays."""
    try:
        with file_lock(places.store / "locks" / f"{folder.name}.lock", patience=0.0):
            shutil.rmtree(folder, ignore_errors=True)
    except StoreError as error:
        return error.message
    return ""


def put_away(path: Path) -> Path:
    """Rename a folder or file, in one step, to one that nobody looks for; it is still to be removed."""
    gone = path.with_name(f"{GONE}{time.time_ns():x}-{path.name}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(gone)
    return gone


def _age(path: Path, now: float) -> float:
    """Seconds since the folder changed; 0 for one that its owner has just removed."""
    try:
        return now - path.stat().st_mtime
    except OSError:
        return 0.0
