"""A build's compilations as bars in time, for a page (pure). Places and widths are percents of the build's time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from buildkit.guard.trace import Run, Trace, UnitTrace
from buildkit.recipe.quantities import format_size
from buildkit.report.chrome import lanes
from buildkit.report.page import duration
from buildkit.report.summary import Summary
from buildkit.report.text import printable, shortened

MOST_ROWS = 150
"""Compilations that have a row of their own: the longest."""
MOST_BARS = 2500
"""Bars of all rows together, and of the overview."""
_LONGEST_NAME = 200
_END = 10
"""Characters at the end of a name that are always shown: what tells generated files from each other stands there."""
_SHORTEST = 0.05
"""Seconds in line below which nobody is said to have waited."""


@dataclass(frozen=True)
class Bar:
    """``kind`` is ``run``, ``wait``, ``kill`` or ``fail``, with ``star`` for the longest; places in percents."""

    kind: str
    x: float
    width: float
    title: str


@dataclass(frozen=True)
class Row:
    """One compilation."""

    name: str
    bars: tuple[Bar, ...]
    longest: bool

    @property
    def beginning(self) -> str:
        """What of the file's name is cut where there is no room."""
        return self._file[:-_END]

    @property
    def end(self) -> str:
        """What of it is not."""
        return self._file[-_END:]

    @property
    def _file(self) -> str:
        return self.name.rpartition("/")[2] or self.name


@dataclass(frozen=True)
class Gantt:
    """Rows in the order in which the build asked for them; ``lanes`` are all runs, those side by side beneath each
    other, where not all have a row."""

    rows: tuple[Row, ...]
    left_out: int
    lanes: tuple[tuple[Bar, ...], ...]


def gantt_of(trace: Trace, summary: Summary, *, most: int = MOST_ROWS) -> Gantt:
    """The bars of a trace."""
    total = trace.seconds or 1.0
    chosen = _chosen(trace.units, most)
    rows = tuple(_row(unit, summary, total) for unit in sorted(chosen, key=lambda unit: unit.order))
    left = len(trace.units) - len(rows)
    return Gantt(rows, left + trace.left_out, tuple(_lanes(trace.units, summary.longest, total)) if left else ())


def _chosen(units: Sequence[UnitTrace], most: int) -> list[UnitTrace]:
    """The longest, and what still runs or waits; no more than there is room for bars."""
    found: list[UnitTrace] = []
    bars = 0
    for unit in sorted(units, key=_extent, reverse=True)[:most]:
        bars += 2 * len(unit.runs)
        if bars > MOST_BARS:
            break
        found.append(unit)
    return found


def _extent(unit: UnitTrace) -> float:
    return float("inf") if unit.runs[-1].outcome in {"running", "waiting"} else unit.seconds


def _row(unit: UnitTrace, summary: Summary, total: float) -> Row:
    return Row(_name(unit), tuple(_bars(unit, total)), unit is summary.longest)


def _name(unit: UnitTrace) -> str:
    return shortened(printable(unit.name), _LONGEST_NAME)


def _bars(unit: UnitTrace, total: float) -> Iterator[Bar]:
    for run in unit.runs:
        start = next((at for at in (run.start, run.end, total) if at is not None), total)
        if start - run.queued > _SHORTEST:
            waited = f"{_name(unit)}: stood in line for {duration(start - run.queued)}"
            yield _bar("wait", run.queued, start, total, waited)
        if run.start is not None:
            end = run.end if run.end is not None else max(total, run.start)
            yield _bar(_kind(run), run.start, end, total, _title(unit, run, end - run.start))


def _kind(run: Run) -> str:
    if run.outcome == "killed":
        return "kill"
    return "run" if run.outcome in {"done", "running"} else "fail"


_OUTCOMES = {
    "done": "", "running": ", running", "failed": ", failed", "killed": ", ended and put back in line",
    "given-up": ", given up", "lost": ", lost with its build", "waiting": "",
}  # fmt: skip


def _title(unit: UnitTrace, run: Run, seconds: float) -> str:
    reason = f" ({shortened(printable(run.reason), _LONGEST_NAME)})" if run.reason else ""
    peak = f", {format_size(run.peak)}" if run.peak else ""
    return f"{_name(unit)}: {duration(seconds)}{peak}{_OUTCOMES[run.outcome]}{reason}"


def _bar(kind: str, begin: float, end: float, total: float, title: str) -> Bar:
    x = min(100.0, 100 * begin / total)
    return Bar(kind, round(x, 3), round(max(0.08, min(100.0 - x, 100 * (end - begin) / total)), 3), title)


def _lanes(units: Sequence[UnitTrace], longest: UnitTrace | None, total: float) -> list[tuple[Bar, ...]]:
    """The longest runs that there is room for, in as many lanes as ran at once."""
    runs = [
        (run.start, run.end if run.end is not None else max(total, run.start), unit, run)
        for unit in units
        for run in unit.runs
        if run.start is not None
    ]
    runs = sorted(sorted(runs, key=lambda one: one[0] - one[1])[:MOST_BARS], key=lambda one: one[:2])
    placed = lanes([(begin, end) for begin, end, _, _ in runs])
    found: list[list[Bar]] = [[] for _ in range(max(placed, default=-1) + 1)]
    for (begin, end, unit, run), lane in zip(runs, placed, strict=True):
        kind = f"{_kind(run)} star" if unit is longest else _kind(run)
        found[lane].append(_bar(kind, begin, end, total, f"{_name(unit)[:60]}: {duration(end - begin)}"))
    return [tuple(lane) for lane in found]
