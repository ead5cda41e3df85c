"""A build's memory over time, for a page (pure): what the plot is drawn from, and the same in words and figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from buildkit.guard.trace import Trace
from buildkit.recipe.quantities import format_size
from buildkit.report.summary import Summary

_ROWS = 12
"""Moments that the table for those who do not see the plot has."""


@dataclass(frozen=True)
class Curves:
    """``data`` is what the plot is drawn from: seconds and bytes. ``words`` says what can be seen."""

    data: dict[str, Any]
    words: str
    rows: tuple[tuple[float, int | None, int | None, int | None], ...]
    """Seconds, what compilations held, the budget, what all processes held."""


def curves_of(trace: Trace, summary: Summary) -> Curves | None:
    """The curves; None where nothing was measured."""
    if not trace.memory and not trace.tree:
        return None
    times, held = [point.at for point in trace.memory], [point.units for point in trace.memory]
    marks, budgets = times, [point.budget for point in trace.memory]
    if not trace.memory and trace.planned:
        marks, budgets = [0.0, trace.seconds], [trace.planned, trace.planned]
    tree = [point.memory for point in trace.tree]
    peak = max([*held, *tree, summary.peak if trace.admitted else 0])
    least = min(budgets, default=0)
    in_sight = 0 < least <= 4 * peak  # one far above would leave the curve no room
    data = {
        "seconds": trace.seconds,
        "units": [times, held],
        "budget": [marks, budgets] if in_sight else [[], []],
        "tree": [[point.at for point in trace.tree], tree],
        "top": max([peak, *(value for value in budgets if in_sight and value <= 4 * peak)]),
    }
    return Curves(data, _words(trace, summary, least, in_sight=in_sight), _rows(trace))


def _words(trace: Trace, summary: Summary, budget: int, *, in_sight: bool) -> str:
    what = "Compilations" if trace.admitted and trace.memory else "All processes"
    peak = summary.peak or max((point.memory for point in trace.tree), default=0)
    text = f"{what} held {format_size(peak)} at most"
    if budget:
        text += f"; the budget was {format_size(budget)} at least" + ("" if in_sight else ", far above")
    return f"{text}."


def _rows(trace: Trace) -> tuple[tuple[float, int | None, int | None, int | None], ...]:
    """A dozen moments: the worst that was seen up to each."""
    if trace.seconds <= 0:
        return ()
    step = trace.seconds / _ROWS
    found = []
    for number in range(_ROWS):
        begin, end = number * step, (number + 1) * step
        points = [point for point in trace.memory if begin <= point.at < end or point.at == end == trace.seconds]
        samples = [point.memory for point in trace.tree if begin <= point.at < end]
        found.append((
            round(end, 1),
            max((point.units for point in points), default=None),
            min((point.budget for point in points), default=None),
            max(samples, default=None),
        ))  # fmt: skip
    return tuple(row for row in found if row[1:] != (None, None, None))
