"""The part of a log that a page shows: its beginning and its end, each line with the number that it has in the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from buildkit.report.ansi import LONGEST, Piece, pieces
from buildkit.report.view import Excerpt

HEAD = 128 << 10
"""Bytes of a long log's beginning that are read."""
TAIL = 2 << 20
"""Bytes of its end."""
_CHUNK = 1 << 20
_MARKUP = 60
"""Bytes that a line takes on a page besides its text."""


@dataclass(frozen=True)
class LogLine:
    """A line, its number, and its pieces with their colours."""

    number: int
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class Gap:
    """Lines that are not shown: the first and the last of them."""

    first: int
    last: int


def read_excerpt(path: Path) -> Excerpt:
    """A log's ends. Raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        if size <= HEAD + TAIL:
            return Excerpt(head=_lines(file.read()), size=size)
        head = file.read(HEAD)
        head = head[: head.rfind(b"\n") + 1] or head
        file.seek(len(head))
        skipped, left = 0, size - TAIL - len(head)
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            skipped += chunk.count(b"\n")
            left -= len(chunk)
        rest, found, tail = file.read().partition(b"\n")
        return Excerpt(_lines(head), _lines(tail if found else rest), skipped + len(found), size)


def _lines(data: bytes) -> tuple[str, ...]:
    lines = data.decode("utf-8", "backslashreplace").split("\n")
    return tuple(lines[:-1] if not lines[-1] else lines)


def shown_lines(log: Excerpt, budget: int) -> Iterator[LogLine | Gap]:
    """The lines that fit into so many bytes of a page: a quarter for the beginning, the rest for the end."""
    every = [*enumerate(log.head, start=1), *enumerate(log.tail, start=1 + len(log.head) + log.skipped)]
    first, room = 0, budget // 4
    while first < len(every) and (cost := _cost(every[first][1])) <= room:
        room -= cost
        first += 1
    begin, room = len(every), room + budget - budget // 4
    while begin > first and (cost := _cost(every[begin - 1][1])) <= room:
        room -= cost
        begin -= 1
    previous = 0
    for number, line in [*every[:first], *every[begin:]]:
        if number > previous + 1:
            yield Gap(previous + 1, number - 1)
        yield LogLine(number, pieces(line))
        previous = number
    if previous < log.total:
        yield Gap(previous + 1, log.total)


def _cost(line: str) -> int:
    """Bytes that a line takes on a page; each colour takes a piece of its own."""
    short = line[: LONGEST + 40]
    return _MARKUP + len(escape(short).encode("utf-8", "replace")) + 36 * short.count("\x1b")
