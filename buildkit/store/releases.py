"""The releases of a store: one file for each file name that was ever given out.

releases/FILENAME.json   releases/gone/FILENAME.json (whose wheel was cleared away: the name stays its own)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from buildkit.errors import StoreError
from buildkit.store.disk import Step, check_folder, make_folder, new_file, no_step, sync_folder, write_all
from buildkit.store.locks import file_lock
from buildkit.store.model import DamagedEntry, ForeignEntry
from buildkit.store.release import Release, parse_release


class NameTaken(StoreError):
    """Another content already bears this file name; a file name means one content for ever."""

    kind = "name-taken"


class Releases:
    """Reads and writes the release files under ``root``. Methods raise OSError; the store says what that means."""

    def __init__(self, root: Path, temporary: Path, step: Step = no_step) -> None:
        self.folder = root / "releases"
        self.temporary = temporary
        self._lock = root / "locks" / "releases"
        self._step = step

    def path(self, filename: str) -> Path:
        """Where a release lies, whether it is there or not."""
        if "/" in filename or not filename.endswith(".whl") or filename.startswith("."):
            raise StoreError(f"{filename!r} cannot be the name of a wheel", hint="cudabuild cache list")
        return self.folder / f"{filename}.json"

    def get(self, filename: str) -> Release | None:
        """The release of this file name; None where there is none, or none that can be read."""
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, DamagedEntry, ForeignEntry):
            release = parse_release(self.path(filename).read_bytes())
            return release if release.filename == filename else None
        return None

    def bearer(self, filename: str) -> str:
        """The sha256 of the one content that this file name means, though it may be gone; empty for a free name."""
        path = self.path(filename)
        for place in (path, self.folder / "gone" / path.name):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError, DamagedEntry, ForeignEntry):
                return parse_release(place.read_bytes()).sha256
        return ""

    def retire(self, release: Release) -> None:
        """Put a release aside whose wheel goes, unless its name was given out anew; to last, it needs a sync."""
        path = self.path(release.filename)
        known = self.get(release.filename)
        if known is not None and known.sha256 == release.sha256:
            make_folder(self.folder / "gone")
            path.replace(self.folder / "gone" / path.name)

    def sync(self) -> None:
        """Make what was put aside last."""
        for folder in (self.folder / "gone", self.folder):
            if folder.is_dir():
                sync_folder(folder)

    def retired(self) -> Iterator[Release]:
        """Those that were put aside and whose names nobody has taken up again."""
        for path in sorted((self.folder / "gone").glob("*.whl.json")):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError, DamagedEntry, ForeignEntry):
                if not (self.folder / path.name).exists():
                    yield parse_release(path.read_bytes())

    def all(self) -> Iterator[Release]:
        """Every readable release, by file name."""
        check_folder(self.folder)
        for path in sorted(self.folder.glob("*.whl.json")):
            release = self.get(path.name.removesuffix(".json"))
            if release is not None:
                yield release

    def write(self, release: Release) -> None:
        """Write a release, or replace what is said of the same bytes; what was yanked stays so. Raises NameTaken for
        other bytes."""
        with self._one_change():
            known = self.get(release.filename)
            yanked = known.yanked if known is not None and known.sha256 == release.sha256 else ""
            self._write(release.model_copy(update={"yanked": release.yanked or yanked}))

    def add(self, release: Release) -> Release:
        """Write a release; what is said already of the same bytes under that name stays. Raises NameTaken."""
        with self._one_change():
            known = self.get(release.filename)
            if known is not None and known.sha256 == release.sha256:
                return known
            self._write(release)
            return release

    def amend(self, release: Release, change: Callable[[Release], Release]) -> Release | None:
        """Change what is said of a release by now; None where its name is not these bytes' any more."""
        with self._one_change():
            known = self.get(release.filename)
            if known is None or known.sha256 != release.sha256:
                return None
            changed = change(known)
            if changed != known:
                self._write(changed)
            return changed

    def _one_change(self) -> contextlib.AbstractContextManager[None]:
        """A release is written as a whole: a yank and a verdict that both began with what was said before would undo
        each other."""
        return file_lock(self._lock)

    def _write(self, release: Release) -> None:
        path = self.path(release.filename)
        known = self.bearer(release.filename)
        if known and known != release.sha256:
            raise NameTaken(
                f"{release.filename} is another wheel's name already",
                evidence=f"sha256 {known} has it, {release.sha256} asked for it",
                hint="give the newer one a build tag: cudabuild does so when it builds again",
            )
        for folder in (self.folder, self.temporary):
            make_folder(folder)
        with new_file(path, self.temporary, label="release", step=self._step) as descriptor:
            write_all(descriptor, release.as_bytes())
