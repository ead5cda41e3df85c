"""What a wheel on a server holds, by the few bytes of it that say so: its bill of materials, its device code."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from buildkit.build.sbom import SBOM_FILE
from buildkit.errors import SourceError, UnsafeWheel
from buildkit.machine.target import Target
from buildkit.verify.fatbin import Fatbin
from buildkit.verify.fatbin_stream import stream_fatbins
from buildkit.verify.zip_structure import check_directory, check_limits, read_whole

if TYPE_CHECKING:
    from buildkit.build.remote_file import RemoteFile

_LOCAL_HEADER = 30
_SKIP = 1 << 20
SBOM_LIMIT = 4 << 20


@dataclass(frozen=True)
class Code:
    """Device code of a wheel: for each of its units the numbers of machine code and of PTX (86, 120).

    ``complete``: whether all shared objects were gone through; otherwise the units are the first ones.
    """

    units: tuple[tuple[frozenset[int], frozenset[int]], ...]
    complete: bool

    def lacking(self, targets: Iterable[Target]) -> tuple[str, ...]:
        """What of these targets is not in every unit: ``sm_86``, ``PTX of 8.6``. Their letters are not looked at."""
        missing = []
        for target in targets:
            number = target.major * 10 + target.minor
            if not self.units or any(number not in elf for elf, _ in self.units):
                missing.append(f"sm_{number}")
            if target.ptx and (not self.units or any(number not in ptx for _, ptx in self.units)):
                missing.append(f"PTX of {target.without_ptx}")
        return tuple(missing)

    def held(self) -> tuple[str, ...]:
        """The targets whose machine code is in every unit, as people write them."""
        everywhere = frozenset.intersection(*(elf for elf, _ in self.units)) if self.units else frozenset()
        return tuple(f"{number // 10}.{number % 10}" for number in sorted(everywhere))


@dataclass(frozen=True)
class Looked:
    """What a look into a wheel found; ``materials`` is its bill of materials, None without one of ours."""

    size: int
    fetched: int
    materials: Mapping[str, Any] | None = field(repr=False)
    code: Code | None


def look(file: RemoteFile, name: str, *, code: bool) -> Looked:
    """Open a wheel from its central directory; ``code``: read its device code as well, as far as the limit goes.

    Raises SourceError where it is no wheel that can be read.
    """
    try:
        check_directory(file, name)  # type: ignore[arg-type]
        with ZipFile(file) as archive:
            check_limits(archive, name)
            materials = _materials(archive, name)
            found = _code(archive, file) if code else None
    except (UnsafeWheel, BadZipFile, NotImplementedError, RuntimeError, EOFError, struct.error) as error:
        message = f"{name} cannot be read: {getattr(error, 'message', error)}"
        raise SourceError(message, hint="the file on the index is damaged: publish it again") from None
    return Looked(file.size, file.fetched, materials, found)


def _materials(archive: ZipFile, name: str) -> Mapping[str, Any] | None:
    member = next((each for each in archive.namelist() if each.endswith(f".dist-info/{SBOM_FILE}")), None)
    if member is None:
        return None
    try:
        value = json.loads(read_whole(archive, member, name, SBOM_LIMIT))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _code(archive: ZipFile, file: RemoteFile) -> Code:
    from buildkit.build.remote_file import TooMuch

    units: list[tuple[frozenset[int], frozenset[int]]] = []
    try:
        for info in archive.infolist():
            if info.file_size and not info.is_dir():
                units.extend(_numbers(fatbin) for fatbin in _fatbins(archive, info, file))
    except TooMuch:
        return Code(tuple(units), complete=False)
    return Code(tuple(units), complete=True)


def _fatbins(archive: ZipFile, info: ZipInfo, file: RemoteFile) -> Iterator[Fatbin]:
    """By content would cost a request for each member; what the loader opens has ``.so`` in its name."""
    name = info.filename.rpartition("/")[2]
    if not (name.endswith(".so") or ".so." in name):
        return
    if info.compress_type == ZIP_STORED:
        yield from stream_fatbins(_Stored(file, _data_of(file, info), info.file_size))
    else:
        with archive.open(info) as stream:
            yield from stream_fatbins(_Packed(stream))


def _data_of(file: RemoteFile, info: ZipInfo) -> int:
    """Where a member's own bytes begin."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER)
    name, extra = struct.unpack_from("<HH", header, 26)
    return info.header_offset + _LOCAL_HEADER + int(name) + int(extra)


def _numbers(fatbin: Fatbin) -> tuple[frozenset[int], frozenset[int]]:
    return (
        frozenset(image.number for image in fatbin.images if image.kind == "elf"),
        frozenset(image.number for image in fatbin.images if image.kind == "ptx"),
    )


@dataclass
class _Stored:
    """A member that is not compressed: what is skipped is never fetched."""

    file: RemoteFile
    at: int
    left: int

    def read(self, size: int) -> bytes:
        self.file.seek(self.at)
        data = self.file.read(min(size, self.left))
        self.skip(len(data))
        return data

    def skip(self, size: int) -> None:
        size = min(size, self.left)
        self.at, self.left = self.at + size, self.left - size


@dataclass
class _Packed:
    """A compressed member: what is skipped has to be unpacked, and so to be fetched."""

    stream: IO[bytes]

    def read(self, size: int) -> bytes:
        return self.stream.read(size)

    def skip(self, size: int) -> None:
        while size > 0 and (data := self.stream.read(min(size, _SKIP))):
            size -= len(data)
