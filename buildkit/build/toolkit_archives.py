"""A CUDA toolkit put together from NVIDIA's redistributable archives (11.8 to 12.9), for one who is not root.

Each archive holds one component in a folder of its own; their contents, laid over each other, are a toolkit. What
has been fetched is kept in the cache until the toolkit is in its place.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buildkit.build.toolkit_place import ORIGIN, ToolkitPlace, ensure_made, place_of
from buildkit.errors import (
    DiskFull,
    IncompleteToolkit,
    IndexUnreachable,
    NotCached,
    NotOnIndex,
    NoToolkit,
    SourceError,
)
from buildkit.machine.identity import Memo
from buildkit.machine.installable import Installable
from buildkit.machine.toolkit import Toolkit, read_toolkit, require_complete
from buildkit.process import redact
from buildkit.progress import Reporter
from buildkit.source.archive import extract
from buildkit.source.downloads import WITHHELD, Download, Fetcher
from buildkit.source.index_settings import IndexSettings
from buildkit.source.redist import Part, left_out, manifest_name, platform_of, read_parts
from buildkit.source.tree import file_sha256
from buildkit.store.disk import disk_causes, free_bytes, make_folder, readable_size

RECORD = "cudabuild.json"
SETTING = "`toolkit-archives` in the configuration file, or CUDABUILD_TOOLKIT_ARCHIVES"
ANOTHER = f"take another version (`cudabuild toolkit list --json` names them), or another server: {SETTING}"
"""The way out where what a server gave is of no use."""


class RecordedPart(BaseModel):
    """One component: its version, and the archive that it came from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    component: str
    version: str
    path: str
    sha256: str


class Record(BaseModel):
    """What a toolkit was put together from; lies in it as ``cudabuild.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: int = Field(default=1, alias="schema", ge=1, le=1)
    version: str
    manifest: str
    parts: tuple[RecordedPart, ...]


@dataclass(frozen=True)
class Source:
    """Where archives come from, and where they are kept until they are used. ``machine`` as ``uname -m`` has it."""

    address: str
    index: IndexSettings
    downloads: Path
    offline: bool = False
    machine: str = field(default_factory=platform.machine)

    def folder(self, release: str) -> Path:
        """What has been fetched of a release."""
        return self.downloads / f"cuda-{release}"

    def url(self, path: str) -> str:
        """The address of something that is named relative to the manifests."""
        return f"{self.address.rstrip('/')}/{path}"


def ensure_archive_toolkit(asked: Installable, source: Source, folder: Path, memo: Memo, reporter: Reporter) -> Toolkit:
    """The toolkit that was asked for, below ``folder``: the one that is there if it is unchanged, else installed.

    Of a release any version will do that is there; else the first of ``asked.versions`` that the server has. Raises
    the classes of exit code 4, NoToolkit, IncompleteToolkit, DiskFull, ReadOnlyCache, EnvironmentChanged.
    """
    place = place_of(asked.release, folder)
    here = recorded_version(place.final)
    if here is not None and len(asked.versions) != 1:
        asked = replace(asked, versions=tuple(dict.fromkeys((here, *asked.versions))))  # the same, if it is made anew
    another = len(asked.versions) == 1 and here is not None and here != asked.versions[0]

    def make(fresh: Path) -> None:
        _make(asked, source, fresh, reporter)
        _check(fresh, place)

    reason = f"version {here} is there, and {asked.versions[0]} was asked for" if another else ""
    if ensure_made(place, make, reporter, ORIGIN, anew=reason):
        forget_downloads(source, asked.release)
    return read_toolkit(place.final, ORIGIN, memo)


def recorded_version(root: Path) -> str | None:
    """The version ("12.8.1") of a toolkit that was put together here; None for any other."""
    try:
        return Record.model_validate_json((root / RECORD).read_bytes()).version
    except (OSError, ValidationError):
        return None


def forget_downloads(source: Source, release: str) -> int:
    """Take away what has been fetched of a release; returns how many bytes that was."""
    folder = source.folder(release)
    size = downloaded(source, release)
    shutil.rmtree(folder, ignore_errors=True)
    return size


def downloaded(source: Source, release: str) -> int:
    """Bytes that an installation which did not come to its end has left to go on with."""
    try:
        return sum(entry.stat().st_size for entry in os.scandir(source.folder(release)))
    except FileNotFoundError:
        return 0


def _make(asked: Installable, source: Source, fresh: Path, reporter: Reporter) -> None:
    if source.offline:
        raise NotCached(
            f"the CUDA {asked.release} toolkit is not in the cache, and --offline forbids to fetch it",
            hint=f"run `cudabuild toolkit install {asked.release}` where there is a network",
        )
    wanted = platform_of(source.machine)
    folder = source.folder(asked.release)
    with disk_causes(folder), Fetcher(source.index, SETTING) as fetcher:
        make_folder(folder)
        version, parts = _find(asked, source, wanted, fetcher)
        downloads = [Download(part.filename, source.url(part.path), part.sha256, part.size) for part in parts]
        _check_space(downloads, folder, fresh)
        total = readable_size(sum(part.size for part in parts))
        reporter.phase("download", f"CUDA {version}: {len(parts)} archives, {total}")
        components = {part.filename: part.component for part in parts}

        def unpack(download: Download, archive: Path) -> Path:
            return _unpack(archive, components[download.name], fresh.parent, fetcher)

        unpacked = fetcher.files(downloads, folder, unpack, reporter.transfer)
    reporter.phase("toolkit", f"putting CUDA {version} together")
    for part, root in zip(parts, unpacked, strict=True):
        _merge(root, fresh, part.component)
    _describe(fresh, version, parts, redact(source.url(manifest_name(version))))


def _find(asked: Installable, source: Source, wanted: str, fetcher: Fetcher) -> tuple[str, tuple[Part, ...]]:
    """The version to take, and its parts: the first one whose manifest the server has."""
    refused: dict[str, int] = {}
    for version in asked.versions:
        url = source.url(manifest_name(version))
        found = fetcher.text(url)
        if isinstance(found, bytes):
            return version, read_parts(found, wanted, redact(url))
        refused[version] = found
    raise _none_of(asked.release, source, refused)


def _none_of(release: str, source: Source, refused: Mapping[str, int]) -> NotOnIndex | IndexUnreachable:
    """The error about versions whose manifests the server has not, or does not give; by version its HTTP status."""
    answers = [f"HTTP {status} from {redact(source.url(manifest_name(each)))}" for each, status in refused.items()]
    if len(refused) == 1:
        way = f"`cudabuild toolkit install {release}` takes the newest that it has"
    else:
        way = f"one that it has can be named, as `cudabuild toolkit install {release}.1`"
    names = " and no CUDA ".join(refused)
    hint = f"{way}; `cudabuild toolkit list` names others; another server: {SETTING}"
    if set(refused.values()) == {WITHHELD}:
        return IndexUnreachable(f"the server gives no CUDA {names}", evidence="; ".join(answers), hint=hint)
    return NotOnIndex(f"the server has no CUDA {names}", evidence="; ".join(answers), hint=hint)


def _check_space(downloads: Sequence[Download], folder: Path, fresh: Path) -> None:
    """DiskFull, before anything is fetched, where it cannot end well.

    A toolkit takes about as much unpacked as its archives do: what is left out of it makes up for the rest.
    """
    total = sum(download.size for download in downloads)
    missing = total - sum(download.here(folder) for download in downloads)
    together = folder.stat().st_dev == fresh.stat().st_dev
    for place, needed in ((folder, missing + total * together), (fresh, total)):
        if free_bytes(place) < needed:
            raise DiskFull(
                f"no space left for {place.parent}: {readable_size(free_bytes(place))} free, "
                f"about {readable_size(needed)} needed",
                hint="free some space, or set CUDABUILD_CACHE to a folder on another disk",
            )


def _unpack(archive: Path, component: str, scratch: Path, fetcher: Fetcher) -> Path:
    """The one folder of an archive, laid out in the scratch folder. An archive that is not sound is thrown away."""

    def skip(name: str) -> bool:
        fetcher.check_stopped()
        return left_out(component, name)

    try:
        return extract(archive, scratch / "parts" / component, skip=skip)
    except SourceError as error:
        archive.unlink(missing_ok=True)
        error.hint = ANOTHER  # those that the errors have are about a package's source
        raise


def _merge(part: Path, root: Path, component: str) -> None:
    """Move everything of a component into the toolkit; its licence under a name of its own."""
    for top, folders, names in os.walk(part):
        here = root / Path(top).relative_to(part)
        here.mkdir(parents=True, exist_ok=True)
        links = [name for name in folders if Path(top, name).is_symlink()]
        for name in (*names, *links):
            source, target = Path(top, name), here / name
            if top == str(part) and name.upper().startswith("LICENSE"):
                target = root / "licenses" / f"{component}.txt"
                target.parent.mkdir(exist_ok=True)
            if os.path.lexists(target) and not _same(source, target):
                raise SourceError(
                    f"two archives of this CUDA toolkit hold different files {target.relative_to(root)}",
                    evidence=f"the second one is {component}'s",
                    hint=ANOTHER,
                )
            source.replace(target)


def _same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return one.is_file() and other.is_file() and file_sha256(one) == file_sha256(other)


def _describe(root: Path, version: str, parts: Sequence[Part], manifest: str) -> None:
    """What NVIDIA's installers leave beside the files (``version.json`` is read by CMake), and where all came from."""
    if not os.path.lexists(root / "lib64"):
        (root / "lib64").symlink_to("lib")
    versions = {"cuda": {"name": "CUDA SDK", "version": version}}
    versions |= {part.component: {"name": part.title, "version": part.version} for part in parts}
    (root / "version.json").write_text(json.dumps(versions, indent=2) + "\n", encoding="utf-8")
    recorded = tuple(
        RecordedPart(component=part.component, version=part.version, path=part.path, sha256=part.sha256)
        for part in parts
    )
    record = Record(version=version, manifest=manifest, parts=recorded)
    (root / RECORD).write_text(record.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")


def _check(root: Path, place: ToolkitPlace) -> None:
    """Its nvcc runs and is of the release, and all headers are there; else NoToolkit or IncompleteToolkit."""
    try:
        toolkit = read_toolkit(root, ORIGIN, Memo(None))
        if toolkit.release == place.release:
            require_complete(toolkit)
            return
    except (NoToolkit, IncompleteToolkit) as error:
        # What was checked is thrown away: its own path and the ways to mend it there are of no use.
        message, evidence = (
            text.replace(str(root), str(place.final)).replace(os.path.realpath(root), str(place.final))
            for text in (error.message, error.evidence)
        )
        message = f"what came as CUDA {place.release} is no toolkit that works: {message}"
        raise type(error)(message, evidence=evidence, hint=ANOTHER) from error
    raise NoToolkit(
        f"the archives of CUDA {place.release} hold another compiler",
        evidence=f"its nvcc says that it is of release {toolkit.release}",
        hint=ANOTHER,
    )
