"""Is this zip file exactly what its central directory says, and nothing else?

Installers read the central directory, scanners and streaming readers the local headers: a file in which the
two differ shows different contents to different programs. So every byte has to belong to one local entry,
the central directory or the one end record. Offsets and field widths: PKWARE APPNOTE 6.3.10, 4.3 and 4.4.
"""

from __future__ import annotations

import stat
import struct
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from buildkit.errors import UnsafeWheel

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_LONGEST_DESCRIPTOR = 24
_ENCRYPTED, _STREAMED, _UTF8 = 0x1, 0x8, 0x800
_FULL = 0xFFFFFFFF

MEMBER_LIMIT = 200_000
"""Members of one wheel; torch itself has about 15 000."""
SIZE_LIMIT = 32 * 2**30
"""Bytes after unpacking; the largest CUDA wheels known are below 4 GiB."""
RATIO_LIMIT = 200
"""Highest ratio of unpacked to packed bytes, for a member larger than ``RATIO_FLOOR``."""
RATIO_FLOOR = 64 * 2**20
DIRECTORY_LIMIT = 64 * 2**20
"""Bytes of the central directory, which is read as a whole: 200 000 members with names of 270 characters."""
TEXT_LIMIT = 8 * 2**20
"""Bytes of METADATA or WHEEL, which are read as a whole, too; readme and licences included."""


def unsafe(wheel: str, member: str, why: str) -> UnsafeWheel:
    """The error for one member (or for the whole file, when ``member`` is empty)."""
    subject = f"{wheel}: member {member!r}" if member else wheel
    return UnsafeWheel(f"{subject} {why}", evidence=member or wheel, hint="do not install this wheel; build it again")


def check_structure(stream: BinaryIO, archive: ZipFile, wheel: str) -> None:
    """Raise :class:`UnsafeWheel` unless local headers, central directory and end record agree and fill the file."""
    check_limits(archive, wheel)
    size = stream.seek(0, 2)
    directory_start = _check_end(stream, size, len(archive.infolist()), wheel)
    position: int = 0
    for info in sorted(archive.infolist(), key=lambda member: member.header_offset):
        if info.header_offset != position:
            raise unsafe(wheel, info.orig_filename, "does not begin where the member before it ends")
        position = _check_local(stream, info, wheel)
    if position != directory_start:
        raise unsafe(wheel, "", "holds bytes that belong to no member")


def check_directory(stream: BinaryIO, wheel: str) -> None:
    """Refuse a file without an end record at its end, or whose central directory nobody should read into memory.

    To be asked before the file is opened as an archive: that reads the directory.
    """
    size = stream.seek(0, 2)
    stream.seek(max(0, size - _END.size))
    raw = stream.read()
    if len(raw) != _END.size or raw[:4] != b"PK\5\6":
        raise unsafe(wheel, "", "has trailing data or a comment after its end record, or is no zip file")
    _, _, _, here, total, length, start, _ = _END.unpack(raw)
    if 0xFFFF in (here, total) or _FULL in (length, start):
        length = _end64(stream, size - _END.size, wheel)[3]
    if length > DIRECTORY_LIMIT:
        raise unsafe(wheel, "", f"has a central directory of {length} bytes, more than {DIRECTORY_LIMIT}")


def read_whole(archive: ZipFile, member: str, wheel: str, limit: int = TEXT_LIMIT) -> bytes:
    """The bytes of one member, at most ``limit``. Raises KeyError where there is none of this name."""
    info = archive.getinfo(member)
    if info.file_size > limit:
        raise unsafe(wheel, member, f"has {info.file_size} bytes, more than {limit}")
    return archive.read(info)


def check_limits(archive: ZipFile, wheel: str) -> None:
    """Refuse archives that would fill a disk: too many members, too large, or packed too well."""
    members = archive.infolist()
    if len(members) > MEMBER_LIMIT:
        raise unsafe(wheel, "", f"has {len(members)} members, more than {MEMBER_LIMIT}")
    if (total := sum(info.file_size for info in members)) > SIZE_LIMIT:
        raise unsafe(wheel, "", f"unpacks to {total} bytes, more than {SIZE_LIMIT}")
    for info in members:
        if info.file_size > RATIO_FLOOR and info.file_size > RATIO_LIMIT * max(info.compress_size, 1):
            raise unsafe(wheel, info.orig_filename, f"unpacks to {info.file_size} from {info.compress_size} bytes")
    packed = sum(info.compress_size for info in members)
    if total > RATIO_FLOOR + RATIO_LIMIT * packed:
        raise unsafe(wheel, "", f"unpacks to {total} from {packed} bytes")


def check_member(info: ZipInfo, wheel: str) -> None:
    """One member is a plain file or folder, packed in a way that every installer reads."""
    if info.flag_bits & _ENCRYPTED:
        raise unsafe(wheel, info.orig_filename, "is encrypted")
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise unsafe(wheel, info.orig_filename, f"uses compression method {info.compress_type}")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
        raise unsafe(wheel, info.orig_filename, "is a link or a special file")


def _check_end(stream: BinaryIO, size: int, count: int, wheel: str) -> int:
    """Check the end record and the central directory's place; return where the directory begins."""
    stream.seek(max(0, size - _END.size))
    raw = stream.read()
    if len(raw) != _END.size or raw[:4] != b"PK\5\6":
        raise unsafe(wheel, "", "has trailing data or a comment after its end record")
    _, disk, first_disk, here, total, length, start, comment = _END.unpack(raw)
    end = size - _END.size
    if 0xFFFF in (here, total) or _FULL in (length, start):
        end, here, total, length, start = _end64(stream, end, wheel)
    if disk or first_disk or comment or here != total or total != count:
        raise unsafe(wheel, "", "has an end record that does not fit its central directory")
    if start + length != end or _directory_length(stream, start, count, wheel) != length:
        raise unsafe(wheel, "", "has several end records or bytes around its central directory")
    return int(start)


def _end64(stream: BinaryIO, end: int, wheel: str) -> tuple[int, int, int, int, int]:
    """The zip64 end record: (where it begins, entries here, entries, directory length, directory start)."""
    begin = end - _LOCATOR64.size - _END64.size
    stream.seek(max(0, begin))
    raw, locator = stream.read(_END64.size), stream.read(_LOCATOR64.size)
    if begin < 0 or raw[:4] != b"PK\6\6" or locator[:4] != b"PK\6\7" or _LOCATOR64.unpack(locator)[2] != begin:
        raise unsafe(wheel, "", "has a zip64 end record that is not where it should be")
    fields = _END64.unpack(raw)
    return begin, fields[6], fields[7], fields[8], fields[9]


def _directory_length(stream: BinaryIO, start: int, count: int, wheel: str) -> int:
    """Length in bytes of ``count`` central entries that follow one another from ``start``."""
    stream.seek(start)
    length = 0
    for _ in range(count):
        raw = stream.read(_CENTRAL.size)
        if len(raw) != _CENTRAL.size or raw[:4] != b"PK\1\2":
            raise unsafe(wheel, "", "has a central directory that breaks off")
        fields = _CENTRAL.unpack(raw)
        rest = fields[10] + fields[11] + fields[12]
        stream.seek(rest, 1)
        length += _CENTRAL.size + rest
    return length


def _check_local(stream: BinaryIO, info: ZipInfo, wheel: str) -> int:
    """Compare one local header with its central entry; return where the member's bytes end."""
    member = info.orig_filename
    stream.seek(info.header_offset)
    raw = stream.read(_LOCAL.size)
    if len(raw) != _LOCAL.size or raw[:4] != b"PK\3\4":
        raise unsafe(wheel, member, "has no local header")
    _, _, flags, method, _, _, crc, packed, unpacked, name_length, extra_length = _LOCAL.unpack(raw)
    name = stream.read(name_length).decode("utf-8" if flags & _UTF8 else "cp437", "replace")
    extra = stream.read(extra_length)
    if (name, flags, method) != (member, info.flag_bits, info.compress_type):
        raise unsafe(wheel, member, "has a local header that differs from the central directory")
    end: int = info.header_offset + _LOCAL.size + name_length + extra_length + info.compress_size
    if flags & _STREAMED:
        return end + _descriptor_length(stream, end, info, wheel)
    unpacked, packed = _wide_sizes(extra, unpacked, packed)
    if (crc, packed, unpacked) != (info.CRC, info.compress_size, info.file_size):
        raise unsafe(wheel, member, "has a local header that differs from the central directory")
    return end


def _wide_sizes(extra: bytes, unpacked: int, packed: int) -> tuple[int, int]:
    """Sizes of a local header, from its zip64 extra field (id 1) where the 32-bit ones are full."""
    position = 0
    while _FULL in (unpacked, packed) and position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == 1 and length >= 16 and position + 20 <= len(extra):
            wide = struct.unpack_from("<QQ", extra, position + 4)
            return int(wide[0]), int(wide[1])
        position += 4 + length
    return unpacked, packed


def _descriptor_length(stream: BinaryIO, end: int, info: ZipInfo, wheel: str) -> int:
    """Length of the data descriptor of a streamed member: with or without signature, 32 or 64 bits wide."""
    stream.seek(end)
    raw = stream.read(_LONGEST_DESCRIPTOR)
    widths = "LQ" if max(info.compress_size, info.file_size) <= _FULL else "Q"
    bodies = [struct.pack(f"<L2{width}", info.CRC, info.compress_size, info.file_size) for width in widths]
    for descriptor in [b"PK\7\x08" + body for body in bodies] + bodies:
        if raw.startswith(descriptor):
            return len(descriptor)
    raise unsafe(wheel, info.orig_filename, "has a data descriptor that differs from the central directory")
