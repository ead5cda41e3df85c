"""What a compiler prints before its turn: kept, and said when all earlier calls have had their say."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from typing import IO

_SHORT = 1 << 16  # bytes of output that are kept in memory


class Output:
    """The output of one call: its command line, then what the compiler says on both streams."""

    def __init__(self, announcement: bytes) -> None:
        self._announcement = announcement
        self._streams: list[IO[bytes]] = []

    def open(self) -> tuple[IO[bytes], IO[bytes]]:
        """Files for a compiler's two streams: one file where both go to the same place, to keep their order."""
        self._streams = [_capture() for _ in range(1 if _is_one_stream() else 2)]
        return self._streams[0], self._streams[-1]

    def complete(self) -> None:
        """The compiler has ended. A short output is kept in memory: a thousand open files would be too many."""
        self._streams = [_small(stream) for stream in self._streams]

    def announce(self) -> None:
        """The command line, once."""
        text, self._announcement = self._announcement, b""
        say(1, text)

    def replay(self) -> None:
        """All that has not been said."""
        self.announce()
        for number, stream in enumerate(self._streams, start=1):
            stream.seek(0)
            while block := stream.read(_SHORT):
                say(number, block)
        self.close()

    def close(self) -> None:
        """Forget it."""
        for stream in self._streams:
            stream.close()
        self._streams = []


def say(descriptor: int, text: bytes) -> None:
    """Write all of it; to nobody, if nobody listens."""
    with contextlib.suppress(OSError):
        while text:
            text = text[os.write(descriptor, text) :]


def _capture() -> IO[bytes]:
    return tempfile.TemporaryFile()


def _small(stream: IO[bytes]) -> IO[bytes]:
    stream.seek(0)
    block = stream.read(_SHORT + 1)
    if len(block) > _SHORT:
        return stream
    stream.close()
    return io.BytesIO(block)


def _is_one_stream() -> bool:
    try:
        return os.path.samestat(os.fstat(1), os.fstat(2))
    except OSError:
        return True
