"""A line of a log with its colours, for a page (pure): pieces of text with class names, nothing that is obeyed.

``service/static/live.js`` does the same for lines that come while the page is open; a test holds them together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from buildkit.report.text import printable

LONGEST = 4000
"""Characters of a line that are shown."""

_SGR = re.compile(r"\x1b\[([0-9;:]*)m")
_OTHER = re.compile(
    r"\x1b(?:\[[0-9;:?<=>]*[ -/]*[@-ln-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[()][0-9A-Za-z]|[=>78cDEHMNOZ])"
)
"""Sequences that move the cursor, clear lines, set titles and links: a log has nothing for them to act on."""
_FLAGS = {1: "b", 2: "d", 3: "i", 4: "u", 7: "v", 9: "s"}
_OFF = {22: "bd", 23: "i", 24: "u", 27: "v", 29: "s"}

Piece = tuple[str, str]
"""A text and its class names, such as ``b c1``: bold, the second colour."""


def pieces(line: str) -> list[Piece]:
    """The line's pieces: of what a carriage return wrote over itself the last, no longer than :data:`LONGEST`."""
    line = last_writing(line)
    if "\x1b" not in line:
        return [(printable(_cut(line)), "")] if line else []
    return [(printable(text), names) for text, names in _styled(_cut(_OTHER.sub("", line))) if text]


def last_writing(line: str) -> str:
    """What a terminal shows of a line whose carriage returns begin it anew."""
    return next((part for part in reversed(line.split("\r")) if part.strip()), "") if "\r" in line else line


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ... ({len(line) - LONGEST} more characters)"


def _styled(line: str) -> Iterator[Piece]:
    flags: set[str] = set()
    colours: dict[str, str] = {}
    place = 0
    for match in _SGR.finditer(line):
        yield line[place : match.start()], _names(flags, colours)
        place = match.end()
        _apply(match[1], flags, colours)
    yield line[place:], _names(flags, colours)


def _names(flags: set[str], colours: dict[str, str]) -> str:
    return " ".join([*sorted(flags), *(f"{ground}{number}" for ground, number in sorted(colours.items()))])


def _apply(text: str, flags: set[str], colours: dict[str, str]) -> None:
    """One SGR sequence. Of the 256 colours the first sixteen are known, others are the default."""
    codes = [int(code[:4] or 0) for code in re.split("[;:]", text)]
    while codes:
        code = codes.pop(0)
        if code == 0:
            flags.clear()
            colours.clear()
        elif code in _FLAGS:
            flags.add(_FLAGS[code])
        elif code in _OFF:
            flags.difference_update(_OFF[code])
        elif code in (38, 48):
            _extended("c" if code == 38 else "k", codes, colours)
        elif code in (39, 49):
            colours.pop("c" if code == 39 else "k", None)
        else:
            _basic(code, colours)


def _basic(code: int, colours: dict[str, str]) -> None:
    for first, ground, number in ((30, "c", 0), (40, "k", 0), (90, "c", 8), (100, "k", 8)):
        if first <= code < first + 8:
            colours[ground] = str(code - first + number)


def _extended(ground: str, codes: list[int], colours: dict[str, str]) -> None:
    kind = codes.pop(0) if codes else 0
    if kind == 5 and codes:
        number = codes.pop(0)
        colours.pop(ground, None)
        if number < 16:
            colours[ground] = str(number)
    elif kind == 2:
        del codes[:3]
        colours.pop(ground, None)
