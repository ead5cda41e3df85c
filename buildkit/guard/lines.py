"""A stream of bytes as lines of text."""

from __future__ import annotations

import re

_END = re.compile(rb"\r\n|\n|\r")
_LONGEST = 64 * 1024


class LineSplitter:
    """Splits at line feeds and carriage returns (progress bars); bytes that are no UTF-8 are shown as ``\\xNN``."""

    def __init__(self) -> None:
        self._rest = b""
        self._after_return = False

    def feed(self, chunk: bytes) -> list[str]:
        """The lines that this chunk completes; a line of more than 64 KiB is cut there."""
        if not chunk:
            return []
        if self._after_return and chunk[:1] == b"\n":
            chunk = chunk[1:]
        self._after_return = chunk[-1:] == b"\r"
        *lines, self._rest = _END.split(self._rest + chunk)
        while len(self._rest) > _LONGEST:
            lines.append(self._rest[:_LONGEST])
            self._rest = self._rest[_LONGEST:]
        return [_text(line) for line in lines]

    def flush(self) -> list[str]:
        """What is left when the stream has ended without a line end."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")
