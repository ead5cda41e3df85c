"""What cells will probably take, from wheels that were made before. Pure, but for :func:`past_builds`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from buildkit.machine.arch import parse_targets, torch_arch_list
from buildkit.matrix.cell import Cell
from buildkit.matrix.packages import Wanted
from buildkit.matrix.results import RunObject
from buildkit.store.builds import BuildRecord, BuildRecords
from buildkit.store.model import Entry
from buildkit.store.store import Store

Source = Literal["same", "alike", "recipe"]
"""``same``: an earlier build of the same cell; ``alike``: one of the same package; ``recipe``: what the recipe says."""

MEMORY_MARGIN = 1.2
"""Above what a build has held before: another number of compilations may run at once."""


@dataclass(frozen=True)
class Past:
    """One wheel that was made. ``seconds`` from its begin to its proof, ``memory`` what all of it held (0: unknown)."""

    package: str
    version: str
    torch: str
    python: str
    targets: tuple[str, ...]
    device: str
    seconds: float
    memory: int
    jobs: int
    created: str
    whole: bool = True
    """False where an ended try had done a part of it."""


@dataclass(frozen=True)
class Estimate:
    """What a cell will take; None where nothing is known."""

    seconds: float | None
    memory: int | None
    jobs: int | None
    source: Source


def estimate(cell: Cell, wanted: Wanted, pasts: Iterable[Past]) -> Estimate:
    """By the build that is most like it, scaled by the number of targets as a build's own estimate is."""
    mine = [past for past in pasts if past.package == wanted.name and past.device == cell.device and past.seconds > 0]
    if not mine:
        return Estimate(None, wanted.memory_per_unit if wanted.known else None, None, "recipe")
    best = max(mine, key=lambda past: _likeness(past, cell))
    scale = (1 + _count(cell.targets)) / (1 + _count(best.targets))
    memory = max((past.memory for past in mine if past.targets == best.targets), default=0)
    return Estimate(
        round(best.seconds * scale, 1), memory or None, best.jobs or None, "same" if is_same(best, cell) else "alike"
    )


def is_same(past: Past, cell: Cell) -> bool:
    """Whether it was a build of this very cell, of whatever recipe, toolkit and machine."""
    own = (cell.torch, f"cp{cell.python.replace('.', '')}", _plain(cell.targets))
    return (past.torch or cell.torch, past.python, _plain(past.targets)) == own and _version_fits(past, cell)


def _likeness(past: Past, cell: Cell) -> tuple[bool, bool, bool, bool, bool, str]:
    python = f"cp{cell.python.replace('.', '')}"
    return (
        past.whole,
        _version_fits(past, cell),
        _plain(past.targets) == _plain(cell.targets),
        past.torch == cell.torch,
        past.python == python,
        past.created,
    )


def _version_fits(past: Past, cell: Cell) -> bool:
    return not cell.version or past.version.partition("+")[0] == cell.version


def _plain(targets: tuple[str, ...]) -> str:
    return torch_arch_list(parse_targets(targets)) if targets else ""


def _count(targets: tuple[str, ...]) -> int:
    return len(parse_targets(targets)) if targets else 1


def past_builds(store: Store) -> list[Past]:
    """Every wheel of the store that was built here, with the seconds of its build's record where that is kept."""
    records = BuildRecords(store.root)
    return [past for entry in store.entries() for past in _past(entry, records.read_if_any(entry.build))]


def _past(entry: Entry, record: BuildRecord | None) -> Iterator[Past]:
    guard = entry.guard or {}
    seconds = entry.seconds
    if record is not None and record.status == "succeeded" and record.finished:
        seconds = max(seconds, _between(record.started, record.finished))
    if seconds <= 0:
        return
    try:
        targets = tuple(str(target) for target in parse_targets(entry.targets)) if entry.targets else ()
    except ValueError:
        return
    yield Past(
        package=entry.recipe,
        version=entry.version,
        torch=entry.torch,
        python=str(entry.inputs.get("python", "")).rpartition(" ")[2],
        targets=targets,
        device=str(entry.inputs.get("device", "cuda")),
        seconds=seconds,
        memory=int(guard.get("peak_memory") or 0),
        jobs=int(entry.plan.get("jobs") or 0),
        created=entry.created,
        whole=not guard.get("kept"),
    )


def _between(started: str, finished: str) -> float:
    """Seconds between two moments as records write them."""
    begin, end = (datetime.fromisoformat(text.rstrip("Z")) for text in (started, finished))
    return (end - begin).total_seconds()


def past_cells(states: Iterable[RunObject], packages: Mapping[tuple[str, str], Wanted]) -> Iterator[Past]:
    """The cells that earlier runs have built, on whatever machine, as far as these packages are theirs."""
    for state in states:
        for cell in state.cells:
            wanted = packages.get((cell.recipe, cell.version))
            if wanted is None or cell.cache != "miss" or cell.status != "succeeded" or not cell.seconds:
                continue
            yield Past(
                package=wanted.name,
                version=cell.version,
                torch=cell.torch,
                python=f"cp{cell.python.replace('.', '')}",
                targets=tuple(str(target) for target in parse_targets(cell.targets)) if cell.targets else (),
                device=cell.device,
                seconds=cell.seconds,
                memory=cell.peak_memory or 0,
                jobs=cell.jobs or 0,
                created=state.finished or state.started,
                whole=len(cell.attempts) <= 1,
            )
