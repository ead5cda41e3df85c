"""What the pages show, made of what the service answers (pure): the matrix as a grid, phases, estimates, hits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from statistics import median
from typing import get_args

from buildkit.report.ansi import pieces
from buildkit.report.text import printable
from buildkit.report.view import BuildView, CopyLine, Diagnosis, Excerpt, Shown, Wheel
from buildkit.service.answers import ENDED, BuildAnswer, CellAnswer, MatrixAnswer, MatrixRow
from buildkit.verify.verdict import GRADES, Grade, meets

PHASES = (
    "source", "fetch", "environment", "torch", "toolkit", "download", "canary", "backend", "build", "repair", "audit",
    "import", "smoke", "probe", "app", "shared",
)  # fmt: skip
_PHASE = re.compile(rf"({'|'.join(PHASES)}) {{2,}}(\S.*)?$")


@dataclass(frozen=True)
class Filter:
    """What of the matrix is wanted, as it stands in the page's address; empty: all."""

    recipe: str = ""
    variant: str = ""
    grade: str = ""
    status: str = ""

    def __bool__(self) -> bool:
        return any((self.recipe, self.variant, self.grade, self.status))


@dataclass(frozen=True)
class Cell:
    """A cell and its look: ``colour`` is the class of its state, ``title`` all of it in words."""

    answer: CellAnswer
    colour: str
    title: str
    age: str


@dataclass(frozen=True)
class Grid:
    """The matrix as a table: a column for each variant, a cell or nothing in each."""

    variants: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]


def grid_of(matrix: MatrixAnswer, wanted: Filter, now: datetime) -> Grid:
    """The part of the matrix that is wanted; variants and recipes without a cell in it are left out."""
    rows = [(row.recipe, _cells(row, wanted)) for row in matrix.rows if wanted.recipe.lower() in row.recipe.lower()]
    rows = [(recipe, cells) for recipe, cells in rows if cells]
    held = {variant for _, cells in rows for variant in cells}
    variants = tuple(variant for variant in matrix.variants if variant in held)
    return Grid(
        variants,
        tuple(
            (recipe, tuple(_cell(cells[each], now) if each in cells else None for each in variants))
            for recipe, cells in rows
        ),
    )


def _cells(row: MatrixRow, wanted: Filter) -> dict[str, CellAnswer]:
    return {cell.variant: cell for cell in row.cells if _is_wanted(cell, wanted)}


def _is_wanted(cell: CellAnswer, wanted: Filter) -> bool:
    grade: Grade = next((grade for grade in GRADES if grade == cell.grade), "none")
    least: Grade = next((grade for grade in GRADES if grade == wanted.grade), "none")
    return (
        wanted.variant.lower() in cell.variant.lower()
        and meets(grade, least)
        and (not wanted.status or wanted.status == (cell.status or ""))
    )


def _cell(cell: CellAnswer, now: datetime) -> Cell:
    age = age_of(cell.created, now) if cell.created else ""
    words = [f"{cell.version}: {cell.grade}, {age} old" if cell.version else "no wheel"]
    if cell.pythons:
        words.append(f"for {', '.join(cell.pythons)}")
    if cell.status and cell.status != "succeeded":
        step = f" at {cell.step}" if cell.step else ""
        words.append(f"newest build {cell.status}{step}{f' ({cell.error})' if cell.error else ''}")
    colour = cell.status if cell.status in {"failed", "running", "queued"} else f"grade-{cell.grade or 'none'}"
    return Cell(cell, colour, "; ".join(words), age)


def age_of(text: str, now: datetime) -> str:
    """``4 min``, ``3 h``, ``12 d``; nothing for what is no time."""
    try:
        then = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return ""
    then = then if then.tzinfo else then.replace(tzinfo=timezone.utc)
    seconds = max(0.0, (now - then).total_seconds())
    if seconds < 3600:
        return f"{int(seconds // 60)} min"
    return f"{int(seconds // 3600)} h" if seconds < 172_800 else f"{int(seconds // 86_400)} d"


# One build


def phase_of(log: Excerpt) -> str:
    """The phase that a running build's log told last, with its detail; empty where none has begun."""
    for line in reversed([*log.head, *log.tail]):
        plain = "".join(text for text, _ in pieces(line)) if "\x1b" in line else line
        if match := _PHASE.match(plain):
            return printable(f"{match[1]}: {match[2]}" if match[2] else match[1])
    return ""


def view_of(answer: BuildAnswer, known: BuildView | None) -> BuildView:
    """The build as its page shows it: what this machine's records know of it, under what the service says."""
    base = known or BuildView(
        build=answer.build or answer.id,
        recipe=printable(answer.recipe),
        status=answer.status,
        started=answer.started or answer.created,
        log=Excerpt(note="It has not begun." if answer.status == "queued" else "Its log is not on this machine."),
        no_trace="It has not begun." if answer.status == "queued" else "There is no trace of it here.",
    )
    asked = dict([*_asked(answer), *base.asked])
    return replace(
        base,
        status=answer.status,
        version=base.version or printable(answer.version or ""),
        key=base.key or answer.key or "",
        seconds=answer.seconds if answer.seconds is not None else base.seconds,
        grade=base.grade or answer.grade or "",
        cause=answer.error.kind if answer.error else base.cause,
        diagnosis=(base.diagnosis or _diagnosis(answer)) if answer.status in ENDED else None,
        wheel=base.wheel or _wheel(answer),
        asked=tuple(asked.items()),
        lines=(*_lines(answer), *(line for line in base.lines if not _is_here(line))),
    )


def _asked(answer: BuildAnswer) -> list[tuple[str, str]]:
    told = {
        "device": answer.device, "targets": ", ".join(answer.targets), "torch": answer.torch or "",
        "required grade": answer.require or "", "priority": str(answer.priority) if answer.priority else "",
        "asked by": answer.by or "", "service id": answer.id,
        "attempt": str(answer.attempt) if answer.attempt > 1 else "", "worker": answer.worker or "",
    }  # fmt: skip
    return [(name, printable(value)) for name, value in told.items() if value]


def _diagnosis(answer: BuildAnswer) -> Diagnosis | None:
    if answer.error is None:
        return None
    error = answer.error
    lines = tuple(Shown(printable(line)) for line in error.evidence.split("\n") if line.strip())
    return Diagnosis(printable(error.message), error.kind, lines, printable(error.hint))


def _wheel(answer: BuildAnswer) -> Wheel | None:
    wheel = answer.wheel
    return Wheel(printable(wheel.filename), wheel.sha256, wheel.size) if wheel is not None else None


def _is_here(line: CopyLine) -> bool:
    """Whether a line names a file of the server's, which is not the reader's."""
    return line.title in {"pip", "uv", "Dockerfile"}


def _lines(answer: BuildAnswer) -> list[CopyLine]:
    """How other machines install the wheel; nothing where the index does not serve it."""
    wheel = answer.wheel
    if wheel is None or not wheel.install:
        return []
    uv = wheel.install.replace("--index-url", "--default-index", 1)
    return [
        CopyLine("pip", wheel.install),
        CopyLine("uv", f"uv {re.sub(r' --trusted-host [^ ]+', '', uv)}"),
        CopyLine("Dockerfile", f"RUN {wheel.install.replace('pip install', 'pip install --no-cache-dir', 1)}"),
    ]


# The queue, the hits


@dataclass(frozen=True)
class Waiting:
    """A build in the queue, and seconds until it is expected to begin and to end; None where nobody can say."""

    answer: BuildAnswer
    begins: float | None
    takes: float | None


def usual_seconds(builds: Iterable[BuildAnswer]) -> dict[str, float]:
    """What builds of each recipe took that were not in the store: the median."""
    took: dict[str, list[float]] = {}
    for one in builds:
        if one.status == "succeeded" and one.cache == "miss" and one.seconds:
            took.setdefault(one.recipe, []).append(one.seconds)
    return {recipe: median(every) for recipe, every in took.items()}


def waiting_line(
    queued: Sequence[BuildAnswer], running: Sequence[BuildAnswer], usual: Mapping[str, float], slots: int
) -> list[Waiting]:
    """The queue in its order with estimates: each begins when the slot that is free first is."""
    free: list[float | None] = [_left(one, usual) for one in running]
    free += [0.0] * max(0, slots - len(free))
    found = []
    for one in sorted(queued, key=lambda build: (build.position or 1 << 30, build.created)):
        known = [at for at in free if at is not None]
        begins, takes = min(known, default=None), usual.get(one.recipe)
        found.append(Waiting(one, begins, takes))
        if begins is not None:
            free[free.index(begins)] = begins + takes if takes is not None else None
    return found


def _left(one: BuildAnswer, usual: Mapping[str, float]) -> float | None:
    takes = usual.get(one.recipe)
    return max(0.0, takes - (one.seconds or 0.0)) if takes is not None else None


@dataclass(frozen=True)
class Hits:
    """Of the last builds that gave a wheel: how many the store had, and the seconds that this saved."""

    builds: int
    hits: int
    saved: float


def hits_of(builds: Iterable[BuildAnswer], made_in: Mapping[str, float]) -> Hits:
    """``made_in``: seconds that making each key's wheel took."""
    ended = [one for one in builds if one.status == "succeeded" and one.cache in {"hit", "miss"}]
    hits = [one for one in ended if one.cache == "hit"]
    saved = sum(max(0.0, made_in.get(one.key or "", 0.0) - (one.seconds or 0.0)) for one in hits)
    return Hits(len(ended), len(hits), saved)


STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")
KNOWN_GRADES = tuple(grade for grade in get_args(Grade) if grade != "none")
