"""Open a wheel as a stranger's file: nothing is unpacked before all of it has been checked.

A member is refused when an installer would write it outside the wheel's own places, when it would run at
interpreter start (``.pth``, ``sitecustomize``), when it belongs to another distribution, or when RECORD lies
about it. Rules: the binary distribution format and "Recording installed projects" of packaging.python.org.
"""

from __future__ import annotations

import re
import stat
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, ZipInfo

from buildkit.errors import BadBackendAnswer, UnsafeWheel
from buildkit.verify.record import check_record
from buildkit.verify.zip_structure import check_directory, check_member, check_structure, read_whole, unsafe

_CHUNK = 1 << 20
_SCHEMES = ("purelib", "platlib", "headers", "scripts", "data")
_AT_START = ("sitecustomize", "usercustomize")
_INTO_PYTHON = re.compile(r"(lib(32|64)?/python|pyvenv\.cfg$|(local/)?lib/.*/(site|dist)-packages/)", re.IGNORECASE)


@dataclass(frozen=True)
class WheelFile:
    """A wheel that passed every check.

    ``name`` is normalised; ``version`` as METADATA has it; ``tags`` sorted ``cp311-cp311-linux_x86_64`` texts;
    ``members`` in the archive's order, folders left out; ``metadata`` the text of METADATA; ``record`` maps
    each member to ``(hash as "sha256=...", size in bytes)``; ``modules`` its importable top-level names.
    """

    path: Path
    name: str
    version: str
    build: str
    tags: tuple[str, ...]
    members: tuple[str, ...]
    metadata: str
    record: dict[str, tuple[str, int]]
    dist_info: str
    modules: tuple[str, ...]


def open_wheel(path: Path, *, foreign: Collection[str] = ()) -> WheelFile:
    """Check the whole of a wheel and say what it is.

    ``foreign`` are the top-level module names of other distributions (torch and its requirements, what else the
    environment holds). Raises :class:`UnsafeWheel`, which names the member.
    """
    with _opened(path) as (archive, members):
        dist_info = _dist_info_folder(members, path)
        identity = _identity(archive, dist_info, path)
        modules = _check_places(members, identity, dist_info, path, foreign)
        record = check_record(archive, members, dist_info, path.name)
        _check_requirements(identity.requires, path)
    return WheelFile(
        path=path,
        name=identity.name,
        version=identity.version,
        build=identity.build,
        tags=identity.tags,
        members=tuple(info.filename for info in members),
        metadata=identity.metadata,
        record=record,
        dist_info=dist_info,
        modules=modules,
    )


def unpack_wheel(wheel: WheelFile, folder: Path) -> Path:
    """Unpack a checked wheel into ``folder`` (as it lies in the archive) and return the folder.

    Files only get their executable bit from the archive, so nothing unpacked can be set-user-id.
    """
    with ZipFile(wheel.path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            target = folder.joinpath(*PurePosixPath(info.filename).parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("xb") as sink:
                while chunk := source.read(_CHUNK):
                    sink.write(chunk)
            target.chmod(0o755 if (info.external_attr >> 16) & 0o111 else 0o644)
    return folder


def check_backend_answer(answer: str, output_dir: Path, name: str, version: str | None) -> Path:
    """The wheel that a build backend names, if it is one.

    ``answer`` must be the bare name of a regular wheel file in ``output_dir`` whose name, version and tags match
    its METADATA, ``name`` and (unless None) ``version``; a local version may have been added to it. Raises
    :class:`BadBackendAnswer`.
    """
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    def refuse(why: str) -> BadBackendAnswer:
        return BadBackendAnswer(
            f"the build backend answered {answer!r}, {why}",
            evidence=str(sorted(entry.name for entry in output_dir.iterdir())),
            hint="see the log of this build: cudabuild log last",
        )

    if not answer.endswith(".whl") or "/" in answer or "\\" in answer or not answer.isprintable():
        raise refuse("which is not the bare name of a wheel")
    path = output_dir / answer
    if not path.exists() or not stat.S_ISREG(path.lstat().st_mode):
        raise refuse("which is not a regular file in the output folder")
    try:
        with _opened(path) as (archive, members):
            identity = _identity(archive, _dist_info_folder(members, path), path)
    except UnsafeWheel as error:
        raise refuse(f"which is not what it says: {error.message}") from error
    if identity.name != canonicalize_name(name):
        raise refuse(f"a wheel of {identity.name}, not of {name}")
    if version is not None:
        wanted, found = Version(version), Version(identity.version)
        if found != wanted and (wanted.local or Version(found.public) != wanted):
            raise refuse(f"a wheel of version {identity.version}, not {version}")
    return path


@dataclass(frozen=True)
class _Identity:
    name: str
    version: str
    build: str
    tags: tuple[str, ...]
    metadata: str
    requires: tuple[str, ...]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[ZipFile, list[ZipInfo]]]:
    """The archive and its file members, structure, names and kinds checked."""
    try:
        with path.open("rb") as stream:
            check_directory(stream, path.name)
            with ZipFile(stream) as archive:
                check_structure(stream, archive, path.name)
                yield archive, _checked_members(archive, path.name)
    except (BadZipFile, EOFError, UnicodeDecodeError, NotImplementedError, zlib.error) as error:
        raise unsafe(path.name, "", f"is not a readable zip file: {error}") from error


def _checked_members(archive: ZipFile, wheel: str) -> list[ZipInfo]:
    for info in archive.infolist():
        check_member(info, wheel)
        _check_name(info, wheel)
    _check_unique(archive.infolist(), wheel)
    return [info for info in archive.infolist() if not info.is_dir()]


def _check_name(info: ZipInfo, wheel: str) -> None:
    raw = info.orig_filename
    parts = raw.rstrip("/").split("/")
    if raw != info.filename or "\\" in raw or not raw.isprintable():
        raise unsafe(wheel, raw, "has a backslash or a control character in its name")
    if raw.startswith("/") or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
        raise unsafe(wheel, raw, "would be written outside the wheel's folder")


def _check_unique(members: Iterable[ZipInfo], wheel: str) -> None:
    """No name twice, and no file where another member needs a folder."""
    files: set[str] = set()
    folders: set[str] = set()
    for info in members:
        name = info.filename.rstrip("/")
        if not info.is_dir():
            if name in files:
                raise unsafe(wheel, name, "is there twice")
            files.add(name)
        folders.update(str(parent) for parent in PurePosixPath(name).parents)
        if info.is_dir():
            folders.add(name)
    for name in sorted(files & folders):
        raise unsafe(wheel, name, "is a file and a folder")


def _dist_info_folder(members: Iterable[ZipInfo], path: Path) -> str:
    folders = sorted({top for info in members if (top := info.filename.split("/")[0]).endswith(".dist-info")})
    if len(folders) != 1:
        raise unsafe(path.name, folders[-1] if folders else "", "must have exactly one .dist-info folder")
    return folders[0]


def _identity(archive: ZipFile, dist_info: str, path: Path) -> _Identity:
    """File name, dist-info folder, METADATA and WHEEL, which must say the same."""
    from packaging.metadata import parse_email
    from packaging.tags import parse_tag
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
    from packaging.version import InvalidVersion, Version

    try:
        name, version, build, tags = parse_wheel_filename(path.name)
        metadata = read_whole(archive, f"{dist_info}/METADATA", path.name).decode("utf-8")
        wheel = message_from_bytes(read_whole(archive, f"{dist_info}/WHEEL", path.name))
        raw, _ = parse_email(metadata)
        said = Version(raw.get("version", ""))
        folder_name, folder_version = dist_info.removesuffix(".dist-info").rsplit("-", 1)
        folder = (canonicalize_name(folder_name), Version(folder_version))
        listed = {tag for text in wheel.get_all("Tag", []) for tag in parse_tag(str(text))}
    except (InvalidWheelFilename, InvalidVersion, KeyError, ValueError) as error:
        raise unsafe(path.name, "", f"does not say plainly what it is: {error}") from error
    if canonicalize_name(raw.get("name", "")) != name or said != version:
        raise unsafe(path.name, f"{dist_info}/METADATA", f"says {raw.get('name')} {said}, not what the file name says")
    if folder != (name, version):
        raise unsafe(path.name, dist_info, "is not named after the wheel")
    if listed != tags:
        raise unsafe(path.name, f"{dist_info}/WHEEL", "names other tags than the file name")
    return _Identity(
        name=name,
        version=raw.get("version", ""),
        build="".join(str(part) for part in build),
        tags=tuple(sorted(str(tag) for tag in tags)),
        metadata=metadata,
        requires=tuple(raw.get("requires_dist", ())),
    )


def _check_places(
    members: Iterable[ZipInfo], identity: _Identity, dist_info: str, path: Path, foreign: Collection[str]
) -> tuple[str, ...]:
    """Every member lands in a place of its own; returns the importable top-level names."""
    modules: set[str] = set()
    for info in members:
        parts = info.filename.split("/")
        if parts[0] == dist_info:
            continue
        if parts[0].endswith(".data"):
            parts = _below_scheme(parts, dist_info, info.filename, path)
        if not parts:
            continue
        module = parts[0].split(".")[0] if len(parts) == 1 else parts[0]
        if parts[0].endswith((".pth", ".egg-link", ".egg-info", ".dist-info")) or module in _AT_START:
            raise unsafe(path.name, info.filename, "would change how Python starts there, or what is installed")
        if module in foreign:
            raise unsafe(path.name, info.filename, f"belongs to another distribution than {identity.name}")
        if module.isidentifier():
            modules.add(module)
    return tuple(sorted(modules))


def _below_scheme(parts: list[str], dist_info: str, member: str, path: Path) -> list[str]:
    """The path below site-packages of a member of ``*.data``; empty when it goes elsewhere."""
    if parts[0].removesuffix(".data") != dist_info.removesuffix(".dist-info") or len(parts) < 3:
        raise unsafe(path.name, member, "is in a .data folder of another name, or in none of its schemes")
    scheme, rest = parts[1], parts[2:]
    if scheme not in _SCHEMES:
        raise unsafe(path.name, member, f"asks for the unknown scheme {scheme!r}")
    if scheme == "data" and _INTO_PYTHON.match("/".join(rest)):
        raise unsafe(path.name, member, "would be written into Python's own folders")
    return rest if scheme in ("purelib", "platlib") else []


def _check_requirements(requires: Iterable[str], path: Path) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    for text in requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise unsafe(path.name, "METADATA", f"has a requirement that does not parse: {text!r}") from error
        if requirement.url is not None:
            raise unsafe(path.name, "METADATA", f"requires {requirement.name} from a URL")
