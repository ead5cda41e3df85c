"""A log as tools wrote it, out of all that was put around it on the way: colours, progress, other programs' prefixes.

Pure. What pip, Docker BuildKit, GitHub Actions and CMake do to the lines of a compiler is undone, so that one rule fits
them all; each line keeps the number it has in the file.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

LONGEST_LINE = 2000
"""Characters of a line that are looked at: its first and its last half of this. Commands of nvcc are longer."""

_COLOURS = re.compile(r"\x1b(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[@-Z\\^_=>])")
_BUILDKIT = re.compile(r"^#\d+ (?:\d+\.\d+ ?)?", re.MULTILINE)
_BUILDKIT_SUMMARY = re.compile(r"^\d+\.\d{1,4} ", re.MULTILINE)
_MOMENT = re.compile(
    r"^(?:[^\t\n]{0,200}\t[^\t\n]{0,200}\t)?\ufeff?"
    r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?Z?\]? (?:##\[error\])?",
    re.MULTILINE,
)
_FRAME = " \t│╰├─▶└>\N{MULTIPLICATION SIGN}╎┃"


@dataclass(frozen=True)
class Log:
    """Lines without what was around them (indentation is kept), and the number each has in the file, from 1."""

    lines: Sequence[str]
    numbers: Sequence[int]

    @cached_property
    def whole(self) -> str:
        """The lines as one text, each without its indentation: what rules are searched in."""
        return "\n".join([core(line) for line in self.lines])

    @cached_property
    def data(self) -> bytes:
        """:attr:`whole` in UTF-8: texts are found twice as fast in it."""
        return self.whole.encode("utf-8", "surrogatepass")

    @cached_property
    def _starts(self) -> list[int]:
        return list(accumulate((len(line) + 1 for line in self.data.split(b"\n")), initial=0))

    def holding(self, text: str) -> Iterator[int]:
        """The index of each line that holds a text."""
        data, wanted, starts = self.data, text.encode(), self._starts
        position = data.find(wanted)
        while position >= 0:
            index = bisect_right(starts, position) - 1
            yield index
            position = data.find(wanted, starts[index + 1])


def core(line: str) -> str:
    """A line without indentation, frames drawn around it, and blanks at its end."""
    return line.strip() if line.isascii() and line[:1] != ">" else line.strip().strip(_FRAME)


def read_log(text: str, *, first: int = 1) -> Log:
    """The lines of a text whose first line has the number ``first``. Takes time in proportion to its length."""
    text = _peeled(text)
    lines: list[str] = []
    numbers: list[int] = []
    for number, line in enumerate(text.split("\n"), start=first):
        if "\r" in line:  # progress that was written over itself; an error can stand in any of it
            pieces = [piece for piece in line.split("\r") if piece.strip()]
            lines += [_short(piece) for piece in pieces]
            numbers += [number] * len(pieces)
        else:
            lines.append(line if len(line) <= LONGEST_LINE else _short(line))
            numbers.append(number)
    if lines and not lines[-1]:
        del lines[-1], numbers[-1]
    return _unwrapped(lines, numbers) if "CMake Error" in text else Log(lines, numbers)


def unwrapped(lines: Sequence[str]) -> list[str]:
    """The lines as the tools printed them: what CMake reports of a compiler it breaks at 77 columns.

    In its report lines are indented by two blanks, and an empty line stands between two lines of the tool's.
    """
    return list(_unwrapped(lines, range(1, len(lines) + 1)).lines)


def _peeled(text: str) -> str:
    text = text.replace("\r\n", "\n")
    if "\x1b" in text:
        text = _COLOURS.sub("", text)
    if _MOMENT.search(text[:1000]):
        text = _MOMENT.sub("", text)
    if text.startswith("#") or "\n#" in text:
        text = _BUILDKIT.sub("", text)
    if "\n > [" in text:
        text = _BUILDKIT_SUMMARY.sub("", text)
    return text


def _short(line: str) -> str:
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} ... {line[-half:]}"


def _unwrapped(lines: Sequence[str], numbers: Sequence[int]) -> Log:
    whole: list[str] = []
    kept: list[int] = []
    edge = ""
    reporting = going_on = False
    for number, line in zip(numbers, lines, strict=True):
        begins = line.lstrip().startswith("CMake Error")
        if begins:
            edge = line[: len(line) - len(line.lstrip())]
        indented = line.startswith(f"{edge}  ") and not line.startswith(f"{edge}   ")
        reporting = begins or (reporting and (not line.strip() or line.startswith(f"{edge}  ")))
        if reporting and indented and going_on:
            whole[-1] = f"{whole[-1]} {line.strip()}"
        else:
            whole.append(line)
            kept.append(number)
        going_on = reporting and indented
    return Log(whole, kept)
