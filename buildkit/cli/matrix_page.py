"""A matrix and its runs as lines for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from buildkit.cli.console import clock
from buildkit.cli.matrix_schema import OutlookObject, ShowObject
from buildkit.matrix.results import CellObject, DroppedObject, RunObject
from buildkit.recipe.quantities import format_size


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of equally wide columns; the last one as it is."""
    if not rows:
        return
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()


def show_lines(shown: ShowObject) -> Iterator[str]:
    """The grid, what was dropped, and the totals."""
    header = ("cell", "store", "proven", "time", "memory", "")
    yield from columns([header, *(_outlook_row(cell) for cell in shown.cells)])
    yield from dropped_lines(shown.dropped)
    totals = shown.totals
    states = ", ".join(f"{count} {state}" for state, count in totals.states.items()) or "none"
    yield f"{totals.cells} cells: {states}"
    hints = dict.fromkeys((cell.note, cell.hint) for cell in shown.cells if cell.hint)
    for note, hint in hints:
        yield f"{note}\n  next: {hint}"
    if totals.unknown and not totals.seconds:
        yield f"to do: {totals.unknown} cells of which no time is known"
    elif totals.seconds:
        unknown = f", and {totals.unknown} of which no time is known" if totals.unknown else ""
        yield (
            f"to do: about {clock(totals.seconds)} of work{unknown}; about {clock(totals.makespan)} with "
            f"{totals.slots} cells at a time that do not slow each other"
        )


def _outlook_row(cell: OutlookObject) -> tuple[str, ...]:
    time = "" if cell.expected_seconds is None else clock(cell.expected_seconds)
    mark = "~" if cell.expected_from == "alike" and time and cell.expected_seconds else ""
    memory = format_size(cell.expected_memory) if cell.expected_memory and cell.state != "stored" else ""
    why = "; ".join([*cell.differs[:2], *([f"{len(cell.differs) - 2} more"] if len(cell.differs) > 2 else [])])
    return (cell.id, cell.state, cell.grade or "", mark + time, memory, "; ".join(filter(None, (cell.note, why))))


def dropped_lines(dropped: Sequence[DroppedObject]) -> Iterator[str]:
    """What is no cell, each with its reason."""
    if dropped:
        yield "dropped:"
        yield from columns([(f"  {one.id}", one.kind, one.reason) for one in dropped])


def run_lines(state: RunObject) -> Iterator[str]:
    """What became of each cell, what was proven where, and what failed why."""
    yield from columns([_cell_row(cell) for cell in state.cells])
    yield from dropped_lines(state.dropped)
    yield from _proofs(state)
    for cell in state.cells:
        yield from _failure(cell)
    counts = state.counts
    figures = [
        f"{counts.cells} cells",
        *([f"{counts.built} built"] if counts.built else []),
        *([f"{counts.hits} from the store"] if counts.hits else []),
        *([f"{counts.failed} failed"] if counts.failed else []),
        *([f"{counts.left} left"] if counts.left else []),
        *([f"{counts.retries} tried again"] if counts.retries else []),
    ]
    yield f"run {state.run} ({state.status}): {', '.join(figures)}, in {clock(state.seconds)}"


def _cell_row(cell: CellObject) -> tuple[str, ...]:
    last = cell.attempts[-1] if cell.attempts else None
    tries = f"{len(cell.attempts)} tries" if len(cell.attempts) > 1 else ""
    time = clock(cell.seconds) if cell.seconds is not None and cell.cache != "hit" else ""
    return (cell.id, outcome(cell), cell.grade or "", time, last.where if last else "", tries)


def outcome(cell: CellObject) -> str:
    """How it stands with a cell, in a word or two."""
    if cell.status == "succeeded":
        return "stored" if cell.cache == "hit" else "built"
    return cell.error.kind if cell.error is not None else cell.status


def _proofs(state: RunObject) -> Iterator[str]:
    """What was proven where: by GPU for what ran, else by machine."""
    ran: dict[str, int] = {}
    for cell in state.cells:
        gpus = {f"{run.gpu} ({run.capability})" for row in cell.proven for run in row.runs}
        where = cell.attempts[-1].where if cell.attempts else ""
        places = gpus if cell.grade == "executed" else {where} if cell.status == "succeeded" else set()
        for place in places:
            name = f"{cell.grade} on {place}" if place else str(cell.grade)
            ran[name] = ran.get(name, 0) + 1
    if ran:
        yield f"proven: {'; '.join(f'{name}: {count}' for name, count in sorted(ran.items()))}"


def _failure(cell: CellObject) -> Iterator[str]:
    if cell.error is None:
        return
    yield f"{cell.id}: {cell.error.message}"
    yield from (f"  {line}" for line in cell.error.evidence.splitlines()[:5])
    if cell.error.hint:
        yield f"  next: {cell.error.hint}"
    if cell.error.log:
        yield f"  log: {cell.error.log}"
