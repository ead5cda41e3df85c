"""A file on a server as a file here: what is read of it is asked for by range, and nothing else is sent."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from buildkit.errors import SourceError

TAIL = 32 << 10
"""Bytes of the first request, the file's last ones: there the central directory of most wheels stands."""
_SMALLEST, _LARGEST = 16 << 10, 1 << 20
"""Bytes of one request: the first of a place, doubled as long as reading goes on from there."""
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)-(?P<last>\d+)/(?P<size>\d+)")

Ask = Callable[[str], Any]
"""Opens the answer to a request with this Range header, as a context with ``status_code``, ``headers`` and
``iter_bytes``."""


class NoRanges(Exception):
    """The server sends whole files only."""


class TooMuch(Exception):
    """The bytes that may be fetched of this file are used up."""


@dataclass(frozen=True)
class _Piece:
    start: int
    data: bytes

    def has(self, position: int) -> bool:
        return self.start <= position < self.start + len(self.data)


class RemoteFile(io.RawIOBase):
    """Seekable; reads at most ``limit`` bytes from the server, in all. Raises NoRanges (at once) and TooMuch."""

    def __init__(self, ask: Ask, limit: int) -> None:
        super().__init__()
        self._ask, self._limit = ask, limit
        self._at, self._step = 0, _SMALLEST
        self.fetched = 0
        """Bytes that came, so far."""
        self.size = 0
        """Bytes of the whole file."""
        self._tail = self._fetch(f"bytes=-{TAIL}")
        self._piece = self._tail

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; costs nothing."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence])
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The next ``size`` bytes, less at the end."""
        end = self.size if size is None or size < 0 else min(self.size, self._at + size)
        parts = []
        while self._at < end:
            piece = next((each for each in (self._tail, self._piece) if each.has(self._at)), None) or self._next(end)
            part = piece.data[self._at - piece.start : end - piece.start]
            parts.append(part)
            self._at += len(part)
        return b"".join(parts)

    def _next(self, end: int) -> _Piece:
        """Fetch from here on: more at a time where reading goes on, a little at a new place."""
        going_on = self._at == self._piece.start + len(self._piece.data)
        self._step = min(2 * self._step, _LARGEST) if going_on else _SMALLEST
        last = min(self.size, max(end, self._at + self._step)) - 1
        self._piece = self._fetch(f"bytes={self._at}-{last}")
        if self._piece.start != self._at:
            raise SourceError("the server sent another part of the file than it was asked for")
        return self._piece

    def _fetch(self, ranges: str) -> _Piece:
        with self._ask(ranges) as answer:
            found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
            if answer.status_code != 206 or found is None:
                raise NoRanges
            first, last, size = int(found["first"]), int(found["last"]), int(found["size"])
            if self.size not in (0, size) or last < first or last >= size:
                raise SourceError("the file changed on the server while it was read")
            self.size = size
            if self.fetched + last + 1 - first > self._limit:
                raise TooMuch
            data = bytearray()
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > last + 1 - first:
                    break
        if len(data) != last + 1 - first:
            raise SourceError("the server sent another number of bytes than it said")
        self.fetched += len(data)
        return _Piece(first, bytes(data))
