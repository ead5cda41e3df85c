"""What a killed command could not clear away itself, cleared by the next one that builds."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from buildkit.build.places import Places

SCRATCH = ("proof-*", "prove-*", "verify-*", "fetch-*", "install-*")
SCRATCH_SECONDS = 24 * 3600.0
"""A scratch folder this old belongs to nobody any more: no proof or installation takes a day."""
BUILD_SECONDS = 7 * 24 * 3600.0
"""How long a failed build's folder is kept, so that the same build can go on in it."""


def tidy(places: Places, now: float | None = None) -> list[Path]:
    """Remove what is too old to be anybody's; returns what was removed. ``now`` is in seconds since the epoch."""
    moment = time.time() if now is None else now
    removed = [path for path in _old(places, moment) if path.is_dir()]
    for path in removed:
        shutil.rmtree(path, ignore_errors=True)
    return removed


def _old(places: Places, now: float) -> Iterator[Path]:
    for pattern in SCRATCH:
        yield from (path for path in places.work.glob(pattern) if _age(path, now) > SCRATCH_SECONDS)
    yield from (path for path in places.builds.glob("*") if _age(path, now) > BUILD_SECONDS)


def _age(path: Path, now: float) -> float:
    """Seconds since the folder changed; 0 for one that its owner has just removed."""
    try:
        return now - path.stat().st_mtime
    except OSError:
        return 0.0
