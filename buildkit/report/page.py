"""A build's report for a terminal (pure): timeline, memory against the budget, the longest compilations, advice."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from buildkit.guard.trace import Run, Trace, UnitTrace
from buildkit.recipe.quantities import format_size
from buildkit.report.canvas import (
    Glyphs,
    Line,
    Piece,
    cells_of,
    columns_of,
    curve_rows,
    fitted,
    pieces_of,
)
from buildkit.report.summary import Summary, summarise

NARROWEST = 40
"""Columns that a report takes at least; a narrower terminal wraps it."""
_CURVE = 6  # rows of the memory curve
_STYLES = {"done": "green", "running": "green", "failed": "red", "killed": "magenta", "given-up": "red", "lost": "red"}


def report_lines(trace: Trace, *, width: int, glyphs: Glyphs, most: int = 30) -> Iterator[Line]:
    """The whole report. ``most``: how many compilations the timeline and the table have. Names must be printable."""
    width = max(width, NARROWEST)
    summary = summarise(trace)
    yield from _wrapped(facts_of(trace, summary), width)
    if trace.units:
        yield ()
        yield from _timeline(trace, width, glyphs, most)
    if trace.memory or trace.tree:
        yield ()
        yield from _memory(trace, summary, width, glyphs)
    if summary.longest is not None:
        yield ()
        yield from _table(trace, summary, width, glyphs, min(most, 10))
        yield ()
        yield from _wrapped([(longest_sentence(summary), "bold")], width)
    yield from _wrapped([(sentence, "yellow") for sentence in summary.advice], width)


def facts_of(trace: Trace, summary: Summary) -> list[Piece]:
    """The build in a few lines."""
    state = "" if trace.complete else " so far"
    parts = [f"{duration(trace.seconds)}{state}"]
    if trace.admitted:
        parts.append(f"{summary.units} compilation{'s' if summary.units != 1 else ''}")
        parts += [f"{summary.running} running, {summary.waiting} waiting"] if not trace.complete else []
        parts.append(f"{summary.together} at once at most, of {trace.jobs}")
    else:
        parts.append("compilations not known: they were not admitted one by one")
    if summary.kills:
        parts.append(f"{summary.kills} ended and made again ({duration(summary.thrown_away)} thrown away)")
    if summary.cpu:
        parts.append(f"{duration(summary.cpu)} of processor time")
    return [(", ".join(parts), "")]


def longest_sentence(summary: Summary) -> str:
    """The longest compilation, by name, and what it means for the whole."""
    unit = summary.longest
    if unit is None:
        return ""
    text = f"longest: {unit.name}, {duration(unit.seconds)}"
    if summary.share > 0:
        return f"{text}: {summary.share:.0%} of the critical path of {duration(summary.path.seconds)}"
    return f"{text}, which is not on the critical path of {duration(summary.path.seconds)}"


def duration(seconds: float) -> str:
    """``0.8 s``, ``12.3 s``, ``2:05``, ``1:02:03``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _wrapped(texts: Sequence[Piece], width: int) -> Iterator[Line]:
    for text, style in texts:
        for part in textwrap.wrap(text, width):
            yield ((part, style),)


# The timeline


def _timeline(trace: Trace, width: int, glyphs: Glyphs, most: int) -> Iterator[Line]:
    """A bar a compilation, the longest ones if there are too many, in the order in which they came."""
    shown = sorted(sorted(trace.units, key=_extent, reverse=True)[:most], key=lambda unit: unit.order)
    label = _label_width(shown, width)
    columns = width - label - 1
    scale = columns / trace.seconds if trace.seconds > 0 else 0.0
    yield ((fitted("", label, "") + " ", ""), *_axis(trace.seconds, columns))
    for unit in shown:
        yield ((fitted(unit.name, label, glyphs.dots) + " ", ""), *_bar(unit, trace.seconds, scale, columns, glyphs))
    if left := len(trace.units) - len(shown) + trace.left_out:
        yield ((f"and {left} shorter one{'s' if left > 1 else ''}", "dim"),)
    yield from _wrapped([(_legend(shown, glyphs), "dim")], width)


def _extent(unit: UnitTrace) -> float:
    """What still runs or waits is long enough to be shown."""
    return float("inf") if unit.runs[-1].outcome in {"running", "waiting"} else unit.seconds


def _label_width(units: Sequence[UnitTrace], width: int) -> int:
    from rich.cells import cell_len

    return min(max((cell_len(unit.name) for unit in units), default=0), width * 3 // 10)


def _axis(seconds: float, columns: int) -> Line:
    end = duration(seconds)
    return (("0" + end.rjust(columns - 1), "dim"),)


def _bar(unit: UnitTrace, seconds: float, scale: float, columns: int, glyphs: Glyphs) -> Line:
    cells: list[Piece] = [(" ", "")] * columns
    for run in unit.runs:
        start = run.start if run.start is not None else (run.end if run.end is not None else seconds)
        if start - run.queued > 0.05:
            for place in cells_of(run.queued, start, scale, columns):
                cells[place] = (glyphs.wait, "dim")
    for run in unit.runs:
        if run.start is not None:
            for place in cells_of(run.start, run.end if run.end is not None else seconds, scale, columns):
                cells[place] = (_glyph(run, glyphs), _STYLES.get(run.outcome, ""))
    return pieces_of(cells)


def _glyph(run: Run, glyphs: Glyphs) -> str:
    if run.outcome == "killed":
        return glyphs.kill
    return glyphs.run if run.outcome in {"done", "running"} else glyphs.fail


def _legend(units: Sequence[UnitTrace], glyphs: Glyphs) -> str:
    outcomes = {run.outcome for unit in units for run in unit.runs}
    parts = [f"{glyphs.run} runs", f"{glyphs.wait} waits"]
    parts += [f"{glyphs.kill} ended and made again"] * ("killed" in outcomes)
    parts += [f"{glyphs.fail} failed or lost"] * bool(outcomes & {"failed", "given-up", "lost"})
    return "   ".join(parts)


# Memory


def _memory(trace: Trace, summary: Summary, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """What was held, over time, and the budget as a line where it is in sight."""
    label = 10
    columns = width - label - 1
    points, budgets = _curves(trace)
    budget = min((value for _at, value in budgets), default=0)
    peak = max([value for _at, value in points] + [summary.peak if trace.admitted else 0], default=0)
    # A budget far above all that was held would leave the curve no room.
    in_sight = 0 < budget <= 4 * peak
    top = max([peak, *(value for _at, value in budgets if value <= 4 * peak)]) if in_sight else peak
    over = f", budget {format_size(budget)} at least" if budget else ""
    what = "compilations" if trace.admitted and trace.memory else "all processes"
    far = "" if in_sight or not budget else ": far above"
    yield from _wrapped([(f"memory of {what}: {format_size(peak)} at most{over}{far}", "")], width)
    values = columns_of(points, trace.seconds, columns, max)
    levels = columns_of(budgets, trace.seconds, columns, min) if in_sight else [None] * columns
    for number, row in enumerate(curve_rows(values, levels, top, _CURVE, glyphs)):
        mark = format_size(top) if number == 0 else "0" if number == _CURVE - 1 else ""
        yield ((mark.rjust(label) + " ", "dim"), *row)


def _curves(trace: Trace) -> tuple[list[tuple[float, int]], list[tuple[float, int]]]:
    """What was held and what could be: of compilations under the broker, else of all processes."""
    if trace.admitted and trace.memory:
        held = [(point.at, point.units) for point in trace.memory]
        return held, [(point.at, point.budget) for point in trace.memory]
    return [(point.at, point.memory) for point in trace.tree], [(0.0, trace.planned)] if trace.planned else []


# The table


def _table(trace: Trace, summary: Summary, width: int, glyphs: Glyphs, most: int) -> Iterator[Line]:
    """The longest ones; what does not fit a narrow terminal is left out from the right."""
    units = sorted((unit for unit in trace.units if unit.seconds > 0), key=lambda unit: unit.seconds, reverse=True)
    rows = [_row(unit, summary) for unit in units[:most]]
    heads = ("seconds", "waited", "peak", "cpu", "kills", "path")
    sizes = [max(len(head), *(len(row[number]) for row in rows)) for number, head in enumerate(heads)]
    shown = len(heads)
    while shown > 2 and width - sum(size + 2 for size in sizes[:shown]) < 14:
        shown -= 1
    name = min(
        max(len("the longest"), *(len(unit.name) for unit in units[:most])),
        width - sum(size + 2 for size in sizes[:shown]),
    )
    yield ((fitted("the longest", name, glyphs.dots), "bold"), (_joined(heads[:shown], sizes), "bold"))
    for unit, row in zip(units, rows, strict=False):
        yield ((fitted(unit.name, name, glyphs.dots), ""), (_joined(row[:shown], sizes), ""))


def _row(unit: UnitTrace, summary: Summary) -> tuple[str, ...]:
    share = summary.path.seconds_of(unit) / summary.path.seconds if summary.path.seconds else 0.0
    return (
        f"{unit.seconds:.1f}",
        f"{unit.wait:.1f}",
        format_size(unit.peak),
        f"{unit.cpu:.1f}",
        str(unit.kills),
        f"{share:.0%}" if share else "-",
    )


def _joined(words: Sequence[str], sizes: Sequence[int]) -> str:
    return "".join(f"  {word.rjust(size)}" for word, size in zip(words, sizes, strict=False))
