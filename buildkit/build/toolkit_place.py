"""Toolkits that cudabuild makes: each made aside, recorded in a manifest, put in place by one rename, under a lock.

So there is a whole one or none, whatever ends the process. One that is no longer what was made is told by its
manifest, and made again.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from buildkit.errors import CudabuildError, EnvironmentChanged
from buildkit.machine.manifest import check_manifest, write_manifest
from buildkit.progress import Reporter
from buildkit.store.disk import disk_causes
from buildkit.store.locks import file_lock, once

ORIGIN: Literal["archives"] = "archives"
"""How a toolkit that was put together from archives was found."""

Make = Callable[[Path], None]
"""Makes a toolkit in an empty folder."""


@dataclass(frozen=True)
class ToolkitPlace:
    """Where the toolkit of one release lies, with its manifest and its lock beside it."""

    release: str
    final: Path

    @property
    def manifest(self) -> Path:
        """What it holds; beside it, so that it is not part of what it lists."""
        return self.final.with_name(f"{self.final.name}.manifest.json")

    @contextlib.contextmanager
    def locked(self, reporter: Reporter) -> Iterator[None]:
        """One process at a time; the one that waited finds the work done. Raises ReadOnlyCache."""
        waiting = once(lambda: reporter.note(f"waiting: another process is busy with the CUDA {self.release} toolkit"))
        with file_lock(self.final.with_name(f"{self.final.name}.lock"), on_wait=waiting):
            yield

    def problem(self) -> EnvironmentChanged | None:
        """What is wrong with the one that is there; None where nothing is, or none is there."""
        if not self.final.exists():
            return None
        try:
            check_manifest(self.final, self.manifest)
        except EnvironmentChanged as changed:
            changed.hint = f"cudabuild toolkit install {self.release}   # where there is a network: it is made anew"
            return changed
        return None


def place_of(release: str, folder: Path) -> ToolkitPlace:
    """The place of a release ("12.8") under the cache's folder of toolkits."""
    return ToolkitPlace(release, folder / f"cuda-{release}")


def ensure_made(place: ToolkitPlace, make: Make, reporter: Reporter, origin: str, *, anew: str = "") -> bool:
    """The toolkit in its place: as it is if it is unchanged, else made. Whether it was made now.

    A changed one is replaced, said by ``reporter``; EnvironmentChanged if it cannot be. ``anew`` is a reason to
    replace a sound one. Raises what ``make`` raises, DiskFull and ReadOnlyCache.
    """
    with place.locked(reporter):
        changed = place.problem()
        if changed is None and place.final.exists() and not anew:
            return False
        if changed is not None:
            reporter.warn(f"{changed.message} ({changed.evidence}): installing it again")
        reporter.phase("toolkit", f"CUDA {place.release} from {origin}")
        try:
            with disk_causes(place.final.parent):
                _replace(place, make)
        except CudabuildError as error:
            if changed is None:
                raise
            changed.evidence += f"; it could not be made anew: {error.message}"
            changed.hint = error.hint or changed.hint
            raise changed from error
    return True


def remove_made(place: ToolkitPlace, reporter: Reporter) -> bool:
    """Take a toolkit away; whether there was one. Its name is free before its files are deleted."""
    with place.locked(reporter), disk_causes(place.final.parent):
        _remove_left_over(place)
        if not place.final.exists():
            return False
        with _scratch(place) as scratch:
            place.final.rename(scratch / "old")
            place.manifest.unlink(missing_ok=True)
    return True


def _replace(place: ToolkitPlace, make: Make) -> None:
    _remove_left_over(place)
    with _scratch(place) as scratch:
        fresh = scratch / "new"
        fresh.mkdir()
        make(fresh)
        # The manifest first: a manifest without a folder is nothing, a folder without one would be refused.
        write_manifest(fresh, place.manifest)
        if place.final.exists():
            place.final.rename(scratch / "old")
        fresh.rename(place.final)


def _remove_left_over(place: ToolkitPlace) -> None:
    """What a crash left: the lock is ours, so nobody is using it."""
    for left in place.final.parent.glob(f".{place.final.name}-*"):
        shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _scratch(place: ToolkitPlace) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=place.final.parent, prefix=f".{place.final.name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
