"""A reader that gives up before a compressed bomb fills memory or disk."""

from __future__ import annotations

import io
from typing import IO

from buildkit.errors import UnsafeArchive

_LARGEST_READ = 64 << 20


class BoundedReader(io.RawIOBase):
    """Reads and seeks in ``inner`` up to ``ceiling`` bytes; no single read may ask for more than 64 MiB.

    tarfile reads extended headers in one piece, whatever size they claim to have.
    """

    def __init__(self, inner: IO[bytes], ceiling: int) -> None:
        super().__init__()
        self._inner = inner
        self._ceiling = ceiling

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes: forward by reading."""
        return True

    def tell(self) -> int:
        """Offset in the decompressed bytes."""
        return self._inner.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, but not beyond the ceiling."""
        if whence == io.SEEK_SET and offset > self._ceiling:
            raise UnsafeArchive(f"the archive unpacks to more than {self._ceiling >> 20} MiB")
        return self._inner.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes."""
        if size < 0 or size > _LARGEST_READ or self._inner.tell() + size > self._ceiling + _LARGEST_READ:
            raise UnsafeArchive("the archive holds a header that is too large, or unpacks to too much")
        return self._inner.read(size)
