"""The fatbins of a shared object that comes as a stream, from its beginning: for a wheel that nobody downloads whole.

The list of sections stands at a shared object's end, so it is not used: fatbins are found by their headers, within
what the program headers (at the beginning) say is loaded read-only. Of an image only its header is read; what lies
between is skipped, which costs nothing where the stream can. Neither the letter of a target (``a``, ``f``) nor whether
an image can be run (the units of relocatable device code cannot) is told by a header.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from buildkit.verify.fatbin import FATBIN, FATBIN_MAGIC, IMAGE, KINDS, Fatbin, Image

_CHUNK = 64 << 10
_MAGIC = struct.pack("<I", FATBIN_MAGIC)
_IMAGE_HEADER = 32
"""Bytes of an image's header that are looked at; a header is 64 or longer."""
_LONGEST_HEADER = 1 << 12
_HEAD = 64
_PROGRAM = struct.Struct("<IIQQQQQQ")
_MOST_PROGRAMS = 512
_LOADED, _WRITABLE = 1, 2


class Forward(Protocol):
    """Bytes that are read from the beginning to the end."""

    def read(self, size: int) -> bytes:
        """The next bytes: ``size`` of them, less at the end."""

    def skip(self, size: int) -> None:
        """Leave out the next ``size`` bytes."""


@dataclass
class _Window:
    """A place in a stream, and the bytes from there on that have been read already."""

    stream: Forward
    at: int = 0
    ahead: bytes = field(default=b"", repr=False)

    def want(self, size: int) -> bytes:
        """The next bytes without going on; less than ``size`` at the end."""
        while len(self.ahead) < size:
            more = self.stream.read(max(_CHUNK, size - len(self.ahead)))
            if not more:
                break
            self.ahead += more
        return self.ahead

    def go(self, size: int) -> None:
        """Leave the next bytes behind."""
        if size > len(self.ahead):
            self.stream.skip(size - len(self.ahead))
        self.ahead = self.ahead[size:]
        self.at += size


def is_elf(head: bytes) -> bool:
    """Whether a file with these first bytes is a 64-bit little-endian ELF file, as all that CUDA is for are."""
    return head[:6] == b"\x7fELF\x02\x01"


def stream_fatbins(stream: Forward) -> Iterator[Fatbin]:
    """Each fatbin as it comes; ``address`` is its place in the file. Nothing for what is no ELF file.

    No more of the stream is read than up to the last byte that is loaded read-only.
    """
    window = _Window(stream)
    if len(window.want(_HEAD)) < _HEAD or not is_elf(window.ahead):
        return
    end = _read_only_end(window)
    while window.at < end:
        if not window.want(_CHUNK):
            return
        place = _next(window)
        # The last bytes may be the beginning of a header.
        window.go(place if place is not None else max(1, len(window.ahead) - len(_MAGIC)))
        start = window.at
        if place is not None and start < end and (images := _images(window)):
            yield Fatbin(start, images)


def _read_only_end(window: _Window) -> int:
    """Where the last segment ends that is loaded and not writable; ``.nv_fatbin`` lies in one of those."""
    start, size, count = _programs(window.ahead)
    head = window.want(start + size * count)
    end = 0
    for number in range(count):
        place = start + size * number
        if place + _PROGRAM.size > len(head):
            break
        kind, flags, offset, _, _, length, _, _ = _PROGRAM.unpack_from(head, place)
        if kind == _LOADED and not flags & _WRITABLE:
            end = max(end, offset + length)
    return end


def _programs(head: bytes) -> tuple[int, int, int]:
    """Where the program headers begin, how long one is and how many there are; none where that is nonsense."""
    start: int = struct.unpack_from("<Q", head, 32)[0]
    size, count = struct.unpack_from("<HH", head, 54)
    sound = size >= _PROGRAM.size and count <= _MOST_PROGRAMS and start <= _CHUNK
    return (start, size, count) if sound else (0, 0, 0)


def _next(window: _Window) -> int | None:
    """How far away the next fatbin begins; None where none does in what was read so far."""
    place = window.ahead.find(_MAGIC)
    while place >= 0:
        if (window.at + place) % 8 == 0 and _is_header(window, place):
            return place
        place = window.ahead.find(_MAGIC, place + 1)
    return None


def _is_header(window: _Window, place: int) -> bool:
    """Whether a fatbin begins here: its version is 1, its header is followed by that of an image that is known."""
    head = window.want(place + FATBIN.size + _IMAGE_HEADER)[place:]
    if len(head) < FATBIN.size + _IMAGE_HEADER:
        return False
    _, version, header, size = FATBIN.unpack_from(head)
    kind, _, own, _ = IMAGE.unpack_from(head, FATBIN.size)
    return bool(version == 1 and header == FATBIN.size and size >= own >= _IMAGE_HEADER and kind)


def _images(window: _Window) -> tuple[Image, ...]:
    """The images of the fatbin that begins here; the window is behind it afterwards."""
    _, _, header, size = FATBIN.unpack_from(window.want(FATBIN.size))
    window.go(header)
    stop = window.at + size
    images: list[Image] = []
    while window.at + _IMAGE_HEADER <= stop and len(head := window.want(_IMAGE_HEADER)) >= _IMAGE_HEADER:
        kind, _, own, payload = IMAGE.unpack_from(head)
        if not _IMAGE_HEADER <= own <= _LONGEST_HEADER or payload > stop - window.at:
            break
        if kind in KINDS:
            images.append(Image(KINDS[kind], struct.unpack_from("<I", head, 28)[0]))
        window.go(own + payload)
    window.go(max(0, stop - window.at))
    return tuple(images)
