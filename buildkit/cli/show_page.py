"""``cache show`` for people: what is proven of a wheel, and what it was made from. Tables on a terminal, else lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from buildkit.cli.console import printable
from buildkit.cli.output import answer
from buildkit.recipe.quantities import format_size
from buildkit.report.text import evidence_line

if TYPE_CHECKING:
    from rich.table import Table

    from buildkit.cli.show_schema import EntryObject
    from buildkit.verify.verdict import Stage

_COLOUR = {"passed": "green", "failed": "red", "not-executed": "yellow", "executed": "green"}
_LONG = 100
"""Characters of an input that are shown; the JSON has all of it."""
_MARK = {True: "right", False: "WRONG"}


def show(entry: EntryObject) -> None:
    """The whole page on standard output."""
    if sys.stdout.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"}:
        _print_tables(entry)
        return
    for line in lines_of(entry):
        answer(printable(line))


def lines_of(entry: EntryObject) -> Iterator[str]:
    """The page as lines: the wheel, its targets, its stages with their checks, its inputs."""
    yield entry.filename
    for name, value in facts_of(entry):
        yield f"  {name:14} {value}"
    for row in entry.verdict.rows if entry.verdict else ():
        yield f"  target {row.target:8} {row.summary}"
        yield from (f"    | {line}" for line in row.lacking)
    for stage in entry.verdict.stages if entry.verdict else ():
        yield f"  proof {stage.name:8} {stage.outcome:13} {said(stage)}".rstrip()
        yield from (f"    | {line}" for line in details(stage))
    for name, text in inputs_of(entry):
        yield f"  {name:14} {text}"


def facts_of(entry: EntryObject) -> list[tuple[str, str]]:
    """The wheel itself."""
    return [
        ("proven", f"{entry.grade}: {entry.note}" if entry.note else entry.grade),
        ("key", entry.key),
        ("build", f"{entry.build} ({entry.created}, {entry.seconds:.1f} s)"),
        ("sha256", entry.sha256),
        ("size", format_size(entry.size)),
    ]


def said(stage: Stage) -> str:
    """One stage in words."""
    return stage.detail or evidence_line(stage.evidence)


def details(stage: Stage) -> Iterator[str]:
    """What a stage found that does not fit beside its name: a probe's checks, and the kernels that ran."""
    for check in stage.evidence.get("checks", ()):
        yield f"{_MARK[bool(check['passed'])]}: {check['name']}{_off(check)}"
    for kernel in stage.evidence.get("kernels") or ():
        if isinstance(kernel, Mapping):
            yield f"ran {kernel['launches']} times: {kernel['name']} ({kernel['object']})"


def _off(check: Mapping[str, Any]) -> str:
    off, tolerance = check["difference"], check["tolerance"]
    if check["passed"] and not off:
        return ""
    return f" (off by {off:.3g} of {tolerance:g})" if isinstance(off, (int, float)) else f" (off by {off})"


def inputs_of(entry: EntryObject) -> list[tuple[str, str]]:
    """The fields of the key, those that say nothing left out."""
    shown = ((name, str(value)) for name, value in entry.inputs.items() if value not in ("", [], {}, None))
    return [(name, text if len(text) <= _LONG else f"{text[:_LONG]}...") for name, text in shown]


def _print_tables(entry: EntryObject) -> None:
    from rich.console import Console, Group
    from rich.padding import Padding
    from rich.text import Text

    facts = facts_of(entry)
    colours = [_COLOUR.get(entry.grade, "bold"), *("" for _ in facts[1:])]
    parts: list[Any] = [Text(printable(entry.filename), style="bold"), Padding(_table(facts, colours), (0, 2))]
    if entry.verdict is not None:
        rows = [(row.target, row.summary, "\n".join(row.lacking)) for row in entry.verdict.rows]
        colours = ["green" if row.executed else "" for row in entry.verdict.rows]
        parts += [Text("targets", style="bold"), Padding(_table(rows, colours), (0, 2))] if rows else []
        stages = [(s.name, s.outcome, "\n".join([said(s), *details(s)])) for s in entry.verdict.stages]
        colours = [_COLOUR[stage.outcome] for stage in entry.verdict.stages]
        parts += [Text("proof", style="bold"), Padding(_table(stages, colours), (0, 2))]
    parts += [Text("made from", style="bold"), Padding(_table(inputs_of(entry)), (0, 2))]
    Console(file=sys.stdout, highlight=False, markup=False).print(Group(*parts))


def _table(rows: Sequence[Sequence[str]], colours: Sequence[str] = ()) -> Table:
    """Rows without a frame; the second column in the row's colour."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for _ in rows[0] if rows else ():
        table.add_column(overflow="fold")
    for number, row in enumerate(rows):
        colour = colours[number] if colours else ""
        cells = ["\n".join(printable(line) for line in cell.split("\n")) for cell in row]
        table.add_row(*(Text(cell, style=colour if place == 1 else "") for place, cell in enumerate(cells)))
    return table
