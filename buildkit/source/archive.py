"""Source archives, unpacked by rules of our own: old Pythons lack tarfile's filter, and zip files have none.

Members are judged one by one before anything of them is written. Links are made last, when nothing is written
any more, and each must end inside the folder; so no member can be written through a link.
"""

from __future__ import annotations

import bz2
import calendar
import contextlib
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from buildkit.errors import SourceError, UnsafeArchive
from buildkit.source.bounded import BoundedReader
from buildkit.source.tree import plain_mode, refuse_links_out

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    gzip.BadGzipFile,
    NotImplementedError,
)
_LATEST = 2**33  # year 2242: os.utime refuses absurd times


@dataclass(frozen=True)
class Limits:
    """What an archive may hold at most: bytes when unpacked, and members."""

    size: int = 4 << 30
    members: int = 200_000


@dataclass(frozen=True)
class Member:
    """One entry. ``target`` is a symbolic link's text, or a hard link's path in the archive."""

    name: str
    kind: Literal["file", "folder", "link", "hard link"]
    size: int
    mode: int
    mtime: float
    target: str
    content: IO[bytes] | None


def extract(
    archive: Path, destination: Path, limits: Limits | None = None, *, skip: Callable[[str], bool] | None = None
) -> Path:
    """Unpack below ``destination`` (made if absent, else empty); returns the one folder the archive holds.

    What ``skip`` says so of, by its path in that folder, is judged like the rest and not written.

    Raises :class:`UnsafeArchive` naming the member that would leave the folder or is a device;
    :class:`SourceError` for a file that is no archive. Modes become 644 or 755, times are kept; a ``.git`` is
    left out: nobody's source, and git would run the programs that its settings name.
    """
    destination.mkdir(parents=True, exist_ok=True)
    try:
        with _sound(archive):
            _extract(archive, destination, limits or Limits(), skip or (lambda _name: False))
        folder = _only_folder(archive, destination)
        refuse_links_out(folder)
        return folder
    except BaseException:
        for entry in destination.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        raise


def read_members(archive: Path, names: tuple[str, ...], *, largest: int = 4 << 20) -> dict[str, bytes]:
    """The bytes of files directly in the archive's top folder, read without unpacking (``PKG-INFO``)."""
    found: dict[str, bytes] = {}
    with _sound(archive):
        for member in _members(archive, Limits()):
            _top, _, rest = member.name.partition("/")
            if rest in names and member.kind == "file" and member.content is not None and member.size <= largest:
                found[rest] = member.content.read(largest)
            if len(found) == len(names):
                break
    return found


def read_texts(
    archive: Path, wanted: Callable[[str], bool], *, largest: int, most: int
) -> tuple[list[str], dict[str, bytes]]:
    """The names of all files below the archive's top folder, and the bytes of those that are wanted.

    Files of more than ``largest`` bytes are not read, nor any once ``most`` bytes were.
    """
    names, found, left = [], {}, most
    with _sound(archive):
        for member in _members(archive, Limits()):
            name = member.name.partition("/")[2]
            if not name or member.kind != "file":
                continue
            names.append(name)
            if wanted(name) and member.content is not None and member.size <= min(largest, left):
                found[name] = member.content.read(largest)
                left -= member.size
    return names, found


@contextlib.contextmanager
def _sound(archive: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        evidence = f"{type(error).__name__}: {error}"
        raise SourceError(f"{archive.name} is not a sound archive", evidence=evidence) from error


def _extract(archive: Path, destination: Path, limits: Limits, skip: Callable[[str], bool]) -> None:
    links: dict[Path, str] = {}
    total = 0
    for member in _members(archive, limits):
        path = destination / member.name
        total += member.size
        if total > limits.size:
            raise UnsafeArchive(
                f"{archive.name} unpacks to more than {limits.size >> 20} MiB", evidence=f"at member {member.name}"
            )
        if ".git" in member.name.lower().split("/") or skip(member.name.partition("/")[2]):
            continue
        try:
            if member.kind == "folder":
                path.mkdir(parents=True, exist_ok=True)
            elif member.kind == "link":
                links[path] = member.target
            else:
                links.pop(path, None)
                _write(member, path, destination)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise _unsafe(archive, member.name, "is both a file and a folder") from error
    _make_links(archive, links, destination)


def _write(member: Member, path: Path, destination: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that comes twice: the last one stands, as every unpacker has it.
    path.unlink(missing_ok=True)
    if member.kind == "hard link":
        source = destination / member.target
        if not source.is_file():
            raise UnsafeArchive(f"{member.name} is a hard link to {member.target}, which does not come before it")
        shutil.copy2(source, path)
        return
    with path.open("xb") as file:
        if member.content is not None:
            shutil.copyfileobj(member.content, file, 1 << 20)
    path.chmod(plain_mode(member.mode))
    time = min(max(member.mtime, 0), _LATEST)
    os.utime(path, (time, time))


def _make_links(archive: Path, links: dict[Path, str], destination: Path) -> None:
    for path, target in links.items():
        name = str(path.relative_to(destination))
        if target.startswith("/") or not target or "\0" in target:
            raise _unsafe(archive, name, f"is a link to {target!r}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
        except OSError as error:
            raise _unsafe(archive, name, "is a link and something else") from error
        # Checked at once: the next link's folder could otherwise be made through this one.
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(destination)):
            raise _unsafe(archive, name, f"is a link to {target!r}, outside the archive")


def _only_folder(archive: Path, destination: Path) -> Path:
    entries = sorted(destination.iterdir())
    if len(entries) != 1 or entries[0].is_symlink() or not entries[0].is_dir():
        names = ", ".join(entry.name for entry in entries[:5]) or "nothing"
        raise SourceError(
            f"{archive.name} is not as it should be: it must hold exactly one folder", evidence=f"it holds {names}"
        )
    return entries[0]


def _members(archive: Path, limits: Limits) -> Iterator[Member]:
    """All members with checked names; metadata-only headers are left out."""
    entries = _zip_members(archive) if _is_zip(archive) else _tar_members(archive, limits)
    for count, member in enumerate(entries):
        if count >= limits.members:
            raise UnsafeArchive(f"{archive.name} holds more than {limits.members} members")
        yield member


def _is_zip(archive: Path) -> bool:
    # By its first bytes: zipfile.is_zipfile() also takes a tar file that has a zip file at its end.
    with archive.open("rb") as file:
        return file.read(4) in {b"PK\x03\x04", b"PK\x05\x06"}


def _tar_members(archive: Path, limits: Limits) -> Iterator[Member]:
    # Headers and padding count too: half as much again, and some for archives of many small files.
    ceiling = limits.size + limits.size // 2 + (64 << 20)
    with _decompressed(archive) as plain, tarfile.open(fileobj=BoundedReader(plain, ceiling), mode="r:") as tar:
        for info in tar:
            name = _safe_name(archive, info.name)
            if info.size > limits.size:
                raise UnsafeArchive(f"{archive.name}: {info.name} says it holds {info.size >> 20} MiB")
            if info.isdir():
                yield Member(name, "folder", 0, info.mode, info.mtime, "", None)
            elif info.issym():
                yield Member(name, "link", 0, info.mode, info.mtime, info.linkname, None)
            elif info.islnk():
                target = _safe_name(archive, info.linkname)
                yield Member(name, "hard link", info.size, info.mode, info.mtime, target, None)
            elif info.isreg():
                yield Member(name, "file", info.size, info.mode, info.mtime, "", tar.extractfile(info))
            else:
                raise _unsafe(archive, info.name, _special_kind(info))


@contextlib.contextmanager
def _decompressed(archive: Path) -> Iterator[IO[bytes]]:
    with archive.open("rb") as raw:
        start = raw.read(6)
        raw.seek(0)
        if start.startswith(b"\x1f\x8b"):
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
        elif start.startswith(b"BZh"):
            yield cast("IO[bytes]", bz2.BZ2File(raw))
        elif start.startswith(b"\xfd7zXZ"):
            with lzma.LZMAFile(raw) as plain:
                yield cast("IO[bytes]", plain)
        else:
            yield raw


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            name = _safe_name(archive, info.filename)
            mode = info.external_attr >> 16
            mtime = float(calendar.timegm(info.date_time))
            if info.is_dir():
                yield Member(name, "folder", 0, mode, mtime, "", None)
                continue
            if info.flag_bits & 0x1:
                raise _unsafe(archive, info.filename, "is encrypted")
            kind = stat.S_IFMT(mode)
            if kind not in {0, stat.S_IFREG, stat.S_IFLNK}:
                raise _unsafe(archive, info.filename, "is a device or something else that is no file")
            with file.open(info) as content:
                # zipfile stops at the size the directory says, and that size is counted.
                if kind == stat.S_IFLNK:
                    target = content.read(4096).decode("utf-8", "surrogateescape")
                    yield Member(name, "link", 0, mode, mtime, target, None)
                else:
                    yield Member(name, "file", info.file_size, mode, mtime, "", content)


def _safe_name(archive: Path, name: str) -> str:
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if (
        name.startswith(("/", "\\"))
        or ".." in parts
        or "\\" in name
        or "\0" in name
        or (len(name) > 1 and name[1] == ":")
    ):
        raise _unsafe(archive, name, "would be written outside the folder")
    return "/".join(parts) or "."


def _special_kind(info: tarfile.TarInfo) -> str:
    kinds = {tarfile.CHRTYPE: "a character device", tarfile.BLKTYPE: "a block device", tarfile.FIFOTYPE: "a named pipe"}
    return f"is {kinds.get(info.type, f'of the unknown type {info.type!r}')}"


def _unsafe(archive: Path, name: str, why: str) -> UnsafeArchive:
    return UnsafeArchive(
        f"{archive.name}: the member {name!r} {why}",
        hint="this archive is not safe to unpack; check where it comes from",
    )
