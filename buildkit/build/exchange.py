"""``cache export`` and ``cache import``: wheels with what is known of them, from one store to another."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from buildkit.build.foreign import ForeignLies, as_brought, check_inputs, check_wheel
from buildkit.build.places import Places
from buildkit.build.release import release_of
from buildkit.errors import CudabuildError, NoSuchBuild, StoreError
from buildkit.store.bundle import Manifest, is_archive, open_bundle, parse_manifest, write_archive, write_folder
from buildkit.store.disk import disk_causes
from buildkit.store.model import Entry, utc_now
from buildkit.store.release import Release
from buildkit.store.signing import sign, signer
from buildkit.store.store import Store


@dataclass(frozen=True)
class Exported:
    """What went out. ``left``: what did not, with why."""

    path: Path
    manifest: Manifest
    signed: bool
    left: tuple[str, ...]


Outcome = Literal["imported", "there", "refused"]


@dataclass(frozen=True)
class Imported:
    """What became of one wheel."""

    filename: str
    outcome: Outcome
    why: str = ""


@dataclass
class Import:
    """What became of an export, and which trusted key has signed it, if one has."""

    signer: str
    wheels: list[Imported] = field(default_factory=list)


def chosen(store: Store, asked: Sequence[str]) -> list[Entry]:
    """The entries meant by recipes, build ids, keys and file names; all of them where nothing is asked for."""
    every = list(store.entries())
    if not asked:
        return every
    found: dict[str, Entry] = {}
    for text in asked:
        own = [entry for entry in every if entry.recipe == text] or [store.find(text)]
        found |= {entry.key: entry for entry in own}
    return list(found.values())


def export(store: Store, asked: Sequence[str], out: Path, *, key: Path) -> Exported:
    """Write wheels, entries and releases to a folder or an archive, signed where the file ``key`` is there.

    Every byte is checked on its way. Raises NoSuchBuild, and StoreError's family.
    """
    found, refused = _with_sound_inputs(chosen(store, asked))
    entries, left = _one_name_each(found)
    left += refused
    if not entries:
        raise NoSuchBuild("there is nothing to export", hint="cudabuild cache list")
    names = {entry.filename: entry.sha256 for entry in entries}
    releases = tuple(each for each in store.releases() if names.get(each.filename) == each.sha256)
    manifest = Manifest(created=utc_now(), entries=tuple(entries), releases=releases)
    document = manifest.as_bytes()
    signature = sign(key, document) if key.is_file() else ""
    left += [
        f"{release.filename}: its licence does not let others have it; keep it to yourselves"
        for release in releases
        if not release.redistributable
    ]
    with disk_causes(out, hint="choose another place with --out"):
        if is_archive(out):
            with _handed(store, entries, out.absolute().parent) as wheels:
                write_archive(out, wheels, document, signature)
        else:
            for entry in entries:
                store.hand_out(entry, out)
            write_folder(out, document, signature)
    return Exported(out, manifest, bool(signature), tuple(left))


def import_bundle(
    path: Path, store: Store, places: Places, trusted: Sequence[str], licences: Mapping[str, bool] | None = None
) -> Import:
    """Take in an export: what is sound of it. The same again changes nothing.

    ``licences`` says of projects whether their recipes here let others have them, for what nobody who is trusted says.
    Raises BadBundle where the whole is not to be used, BadSignature, and the store's own causes (DiskFull ...).
    """
    places.work.mkdir(parents=True, exist_ok=True)
    with open_bundle(path) as bundle, tempfile.TemporaryDirectory(prefix="import-", dir=places.work) as scratch:
        manifest = parse_manifest(bundle.document)
        by = signer(bundle.document, bundle.signature, trusted)
        done = Import(by)
        entries: Mapping[str, list[Entry]] = defaultdict(list)
        for entry in manifest.entries:
            entries[entry.filename].append(entry)
        releases = {release.filename: release for release in manifest.releases}
        taking = _Taking(store, str(path), bool(by), licences or {})
        for wheel in bundle.copies(manifest.files, Path(scratch)):
            done.wheels += taking.taken(wheel, entries[wheel.name], releases.get(wheel.name))
            wheel.unlink()
    return done


@dataclass(frozen=True)
class _Taking:
    store: Store
    origin: str
    trusted: bool
    licences: Mapping[str, bool]

    def taken(self, wheel: Path, entries: Sequence[Entry], release: Release | None) -> Iterator[Imported]:
        """Take in one wheel under each of its keys, and under its name."""
        if release is not None and (known := self.store.release(release.filename)) is not None:
            release = None if known.sha256 == release.sha256 else release
        for entry in entries:
            yield self._judged(wheel, entry, release)
        if not entries and release is not None:
            yield self._judged(wheel, None, release)
        elif not entries:
            yield Imported(wheel.name, "there")

    def _judged(self, wheel: Path, entry: Entry | None, release: Release | None) -> Imported:
        try:
            return self._kept(wheel, entry, release)
        except StoreError as error:
            if error.kind in {"name-taken", "foreign-entry"}:
                return Imported(wheel.name, "refused", error.message)
            raise
        except CudabuildError as error:
            return Imported(wheel.name, "refused", error.message)

    def _kept(self, wheel: Path, entry: Entry | None, release: Release | None) -> Imported:
        if entry is not None:
            check_inputs(entry)
        check_wheel(wheel, entry, release)
        brought = self._brought(wheel, entry, release) if release is not None else None
        if entry is not None:
            here = self.store.get(entry.key).entry
            if here is not None and here.sha256 != entry.sha256:
                return Imported(wheel.name, "refused", f"this store has another wheel under key {entry.key[:12]}")
            if here is not None and release is None:
                return Imported(wheel.name, "there")
            self.store.put(wheel, here or as_brought(entry, self.origin, trusted=self.trusted), brought)
        elif brought is not None:
            self.store.publish(wheel, brought)
        return Imported(wheel.name, "imported")

    def _brought(self, wheel: Path, entry: Entry | None, release: Release) -> Release:
        """The release as it is kept here. Of a stranger's, what the wheel itself and the key's inputs say: which
        device code it holds is not known before its first proof here."""
        if self.trusted:
            return release.model_copy(update={"origin": "import"})
        seen = release_of(as_brought(entry, self.origin, trusted=False), wheel, self.store) if entry else None
        free = self.licences.get(release.project, False)
        unproven = {"verdict": {}, "targets": (), "redistributable": free, "origin": "import"}
        return (seen or release).model_copy(update=unproven)


def _with_sound_inputs(entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """Those whose key is the hash of their inputs; every import refuses others."""
    sound, left = [], []
    for entry in entries:
        if lie := _lie_of(entry):
            left.append(lie)
        else:
            sound.append(entry)
    return sound, left


def _lie_of(entry: Entry) -> str:
    try:
        check_inputs(entry)
    except ForeignLies as error:
        return error.message
    return ""


def _one_name_each(entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """Of several wheels of one name the newest; a folder holds but one."""
    named: dict[str, str] = {}
    kept, left = [], []
    for entry in sorted(entries, key=lambda each: each.created, reverse=True):
        if named.setdefault(entry.filename, entry.sha256) == entry.sha256:
            kept.append(entry)
        else:
            left.append(f"{entry.filename} of key {entry.key[:12]}: a newer wheel has this name")
    return kept, left


@contextmanager
def _handed(store: Store, entries: Sequence[Entry], beside: Path) -> Iterator[dict[str, Path]]:
    """The wheels, checked, in a folder that is there for as long as the block runs."""
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=beside) as scratch:
        yield {entry.filename: store.hand_out(entry, Path(scratch)) for entry in entries}
