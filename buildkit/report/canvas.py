"""Drawing with characters (pure): lines of styled pieces, bars in time, a curve of some rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Piece = tuple[str, str]
"""A text and its style: a name of rich's, or nothing."""
Line = tuple[Piece, ...]


@dataclass(frozen=True)
class Glyphs:
    """What bars and curves are made of. ``eighths``: a cell filled from below, from empty to full."""

    run: str
    wait: str
    kill: str
    fail: str
    eighths: str
    level: str
    dots: str


BLOCKS = Glyphs("█", "·", "▒", "▓", " ▁▂▃▄▅▆▇█", "─", "…")
PLAIN = Glyphs("#", ".", "x", "!", "   ..::##", "-", "~")
"""For terminals and files that know ASCII only."""


def glyphs_for(encoding: str | None) -> Glyphs:
    """Blocks where the output can hold them."""
    try:
        every = "".join((BLOCKS.run, BLOCKS.wait, BLOCKS.kill, BLOCKS.fail, BLOCKS.eighths, BLOCKS.level, BLOCKS.dots))
        every.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return BLOCKS


def text_of(line: Line) -> str:
    """A line without its styles and without blanks at its end."""
    return "".join(text for text, _style in line).rstrip()


def fitted(text: str, width: int, dots: str) -> str:
    """The text in exactly ``width`` cells, cut or filled up; wide characters take two."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(set_cell_size(text, max(0, width - 1)) + dots, width)


def cells_of(begin: float, end: float, scale: float, width: int) -> range:
    """The columns of a time span: at least one, inside of the width. ``scale``: columns a second."""
    first = min(width - 1, int(begin * scale))
    return range(first, min(width, max(first + 1, round(end * scale))))


def pieces_of(cells: Sequence[Piece]) -> Line:
    """Neighbours of one style as one piece."""
    found: list[Piece] = []
    for text, style in cells:
        if found and found[-1][1] == style:
            found[-1] = (found[-1][0] + text, style)
        else:
            found.append((text, style))
    return tuple(found)


def columns_of(
    points: Sequence[tuple[float, int]], seconds: float, width: int, fold: Callable[[int, int], int]
) -> list[int | None]:
    """The value of each column: its own points folded, else that of the column before; None before the first."""
    columns: list[int | None] = [None] * width
    scale = width / seconds if seconds > 0 else 0.0
    for at, value in points:
        place = min(width - 1, int(at * scale))
        known = columns[place]
        columns[place] = value if known is None else fold(known, value)
    for place in range(1, width):
        if columns[place] is None:
            columns[place] = columns[place - 1]
    return columns


def curve_rows(
    values: Sequence[int | None], levels: Sequence[int | None], top: int, height: int, glyphs: Glyphs
) -> list[Line]:
    """A filled curve, the top row first, with a line for ``levels`` where the curve leaves room. ``top``: the value of
    the upper edge."""
    rows = []
    for row in range(height - 1, -1, -1):
        cells = [_cell(value, level, top, height, row, glyphs) for value, level in zip(values, levels, strict=True)]
        rows.append(pieces_of(cells))
    return rows


def _cell(value: int | None, level: int | None, top: int, height: int, row: int, glyphs: Glyphs) -> Piece:
    filled = (value or 0) / top * height - row if top > 0 else 0.0
    eighth = min(8, max(0, round(filled * 8)))
    line = None if level is None or top <= 0 else min(height - 1, int(level / top * height))
    if level is not None and level <= top and line == row and eighth < 8:
        return (glyphs.level, "yellow")
    return (glyphs.eighths[eighth], "cyan")
