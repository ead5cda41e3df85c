"""Source distributions: found by name, checked against their hash before anything looks inside, kept by hash.

``CACHE/sources/sdist/SHA256/`` holds the file under its own name and ``source.json``. With a hash from a
recipe a cached file needs no network and no unearth; its bytes are hashed again each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.errors import NotCached, SourceError
from buildkit.progress import Reporter
from buildkit.source.archive import read_members
from buildkit.source.cached import (
    RECORD,
    SourceRecord,
    cache_errors,
    discard,
    publish,
    read_record,
    staging,
    write_record,
)
from buildkit.source.choice import choose, mismatch, parsed, same_version
from buildkit.source.fetched import FetchedSource, from_record
from buildkit.source.index_settings import IndexSettings
from buildkit.source.metadata import normalized, static_metadata
from buildkit.source.spec import ArchiveSpec, SdistSpec
from buildkit.source.tree import file_sha256

if TYPE_CHECKING:
    from buildkit.source.index_client import IndexClient, IndexFile


def fetch_sdist(
    spec: SdistSpec, *, cache: Path, index: IndexSettings, offline: bool, reporter: Reporter, python: str | None = None
) -> FetchedSource:
    """From the cache, else from the index. ``python`` (``3.11``) bounds which newest version is taken.

    Raises :class:`NotCached` (offline), :class:`NotOnIndex`, :class:`IndexUnreachable`, :class:`HashMismatch`,
    :class:`SourceError` where the file is another project's.
    """
    places = _places(cache)
    found = cached_sdist(places, spec.sha256, reporter) if spec.sha256 else None
    if found is None and offline:
        found = _newest_cached(places, spec, reporter)
    if found is not None:
        _check_asked(spec, found)
        return found
    if offline:
        wanted = f"{spec.name} {spec.version or ''}".strip()
        raise NotCached(
            f"the source of {wanted} is not in the cache, and --offline forbids to fetch it",
            hint="run `cudabuild fetch` with the same names where there is a network",
        )
    from buildkit.source.index_client import IndexClient  # with ssl: what is cached needs none of it

    with IndexClient(index, python if spec.version is None else None) as client:
        file = choose(spec, client.listing(spec.name))
        if file.sha256 and (found := cached_sdist(places, file.sha256, reporter)):
            _check_asked(spec, found)
            return found
        reporter.note(f"fetching {file.filename}")
        return _download(client, file, spec, places)


def cached_sdist(places: Path, sha256: str, reporter: Reporter) -> FetchedSource | None:
    """A cached file of this hash, its bytes verified now; a damaged one is thrown away."""
    place = places / sha256
    record = read_record(place)
    if record is None:
        if place.exists():
            discard(place)
        return None
    archive = place / (record.filename or "")
    if not archive.is_file() or file_sha256(archive) != sha256:
        reporter.warn(f"the cached {archive.name} is damaged; it is fetched again")
        discard(place)
        return None
    return from_record(record, place)


def fetch_archive(spec: ArchiveSpec, *, cache: Path, reporter: Reporter) -> FetchedSource:
    """A source archive that the person named by its path; kept by hash like any other."""
    if not spec.path.is_file():
        raise SourceError(f"there is no file {spec.path}")
    places = _places(cache)
    found = cached_sdist(places, file_sha256(spec.path), reporter)
    if found is not None:
        return found
    with staging(places) as folder:
        copy = folder / spec.path.name
        with spec.path.open("rb") as source, cache_errors(places), copy.open("wb") as target:
            while chunk := source.read(1 << 20):
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        return _keep(folder, copy, file_sha256(copy), str(spec.path), None)


def _places(cache: Path) -> Path:
    return cache / "sources" / "sdist"


def _download(client: IndexClient, file: IndexFile, spec: SdistSpec, places: Path) -> FetchedSource:
    with staging(places) as folder:
        # The name came from the index: only its last part, and never a hidden or special one.
        name = Path(file.filename).name.lstrip(".")
        if not name or name == RECORD:
            raise SourceError(f"the index names a file {file.filename!r}")
        archive = folder / name
        with archive.open("wb") as target:
            sha256 = client.download(file, target)
            target.flush()
            os.fsync(target.fileno())
        expected = spec.sha256 or file.sha256
        if expected is not None and sha256 != expected:
            raise mismatch(name, expected, sha256)
        return _keep(folder, archive, sha256, f"{spec.name}=={file.version}", spec)


def _keep(folder: Path, archive: Path, sha256: str, origin: str, spec: SdistSpec | None) -> FetchedSource:
    """Look inside the verified bytes, write the record, publish."""
    files = read_members(archive, ("pyproject.toml", "PKG-INFO"))
    said = static_metadata(files.get("pyproject.toml"), files.get("PKG-INFO"), where=archive.name)
    record = SourceRecord(
        kind="sdist",
        name=said.name,
        version=said.version,
        filename=archive.name,
        sha256=sha256,
        origin=origin,
        build_requires=said.build_requires,
        build_backend=said.build_backend,
    )
    place = folder.parent / sha256
    if spec is not None:
        _check_asked(spec, from_record(record, place))
    write_record(folder, record)
    publish(folder, place)
    return from_record(record, place)


def _check_asked(spec: SdistSpec, found: FetchedSource) -> None:
    """The file's own PKG-INFO must name the project and version that were asked for (nothing, where it has none)."""
    if found.name is not None and normalized(found.name) != normalized(spec.name):
        raise SourceError(
            f"the source that was fetched as {spec.name} is another project's",
            evidence=f"PKG-INFO: Name: {found.name}",
            hint="correct `sdist` or `sha256` in the recipe",
        )
    if spec.version is not None and found.version is not None and not same_version(found.version, spec.version):
        raise SourceError(
            f"the source that was fetched as {spec.name} {spec.version} is another version",
            evidence=f"PKG-INFO: Version: {found.version}",
            hint="correct `version` or `sha256` in the recipe",
        )


def _newest_cached(places: Path, spec: SdistSpec, reporter: Reporter) -> FetchedSource | None:
    """For ``--offline`` without a hash: the newest cached file of that name and version."""
    if spec.sha256 is not None or not places.is_dir():
        return None
    fitting = [
        (record.version or "0", place.name)
        for place, record in _records(places)
        if record.name is not None
        and normalized(record.name) == normalized(spec.name)
        and (spec.version is None or same_version(record.version or "", spec.version))
    ]
    fitting.sort(key=lambda item: (parsed(item[0]), item[1]), reverse=True)
    return next((found for _, sha256 in fitting if (found := cached_sdist(places, sha256, reporter))), None)


def _records(places: Path) -> Iterator[tuple[Path, SourceRecord]]:
    for place in places.iterdir():
        if not place.name.startswith(".") and (record := read_record(place)) is not None:
            yield place, record
