"""What becomes of each cell if the matrix is run now: stored already, stale, missing; and what it will take.

Nothing is installed, fetched or asked of a network. What a plan needs and is not here leaves the cell `unknown`, where
an entry of it is stored, else `missing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from buildkit.build.admit_entry import sound
from buildkit.build.context import Context, WouldInstall
from buildkit.build.lookup import grafts_not_here, superset_of
from buildkit.build.prepare import Prepared, prepare
from buildkit.errors import CudabuildError, NotCached
from buildkit.machine.interpreter import active_interpreter
from buildkit.matrix.cell import Cell
from buildkit.matrix.history import Estimate, Past, estimate, is_same
from buildkit.matrix.packages import Wanted
from buildkit.plan.key import differing
from buildkit.plan.request import Request
from buildkit.store.model import Entry

State = Literal["stored", "stale", "missing", "unknown", "not-here", "elsewhere"]
"""``not-here``: this machine, as it is, cannot build it; ``elsewhere``: for another platform than this machine's."""


@dataclass(frozen=True)
class Outlook:
    """One cell: what the store has of it, and what it will take."""

    cell: Cell
    state: State
    estimate: Estimate
    key: str | None = None
    entry: Entry | None = None
    """The one that serves, or the stale one."""
    differs: tuple[str, ...] = ()
    """What has changed since a stale one was made, as `cudabuild plan` writes it."""
    note: str = ""
    hint: str = ""
    """The next command to type where it cannot be built here."""

    @property
    def grade(self) -> str | None:
        """How far the entry's wheel is proven."""
        return str(self.entry.verdict.get("grade")) if self.entry is not None else None


RequestOf = Callable[[Cell], Request]


def request_of(base: Request, python: Callable[[Cell], str | None]) -> RequestOf:
    """From a cell to what its build asks for; ``base`` holds what is the same for all."""

    def request(cell: Cell) -> Request:
        named = python(cell)
        return replace(
            base,
            package=package_word(cell),
            targets=cell.targets,
            torch=cell.torch,
            python=Path(named) if named else base.python,
            memory=cell.memory or base.memory,
            timeout=cell.timeout or base.timeout,
            device="cpu" if cell.device == "cpu" else "cuda",
            require=_requirement(cell) or base.require,
        )

    return request


def _requirement(cell: Cell) -> Literal["built", "audited", "imported", "executed"] | None:
    found = [grade for grade in ("built", "audited", "imported", "executed") if grade == cell.require]
    return found[0] if found else None


def package_word(cell: Cell) -> str:
    """What `cudabuild build` is given for a cell."""
    is_folder = "/" in cell.recipe or cell.recipe in {".", ".."}
    return f"{cell.recipe}=={cell.version}" if cell.version and not is_folder else cell.recipe


def python_word(cell: Cell, context: Context) -> str | None:
    """What goes after ``--python`` for a build on this machine: nothing where the active one is of this version."""
    active = active_interpreter(None, context.environ, context.cwd, context.memo)
    return None if active.abi == f"cp{cell.python.replace('.', '')}" else f"python{cell.python}"


def look(
    cells: Iterable[Cell],
    packages: Mapping[tuple[str, str], Wanted],
    pasts: Sequence[Past],
    request: RequestOf,
    configured: tuple[str, ...],
    context: Context,
    platform: str,
) -> list[Outlook]:
    """The outlook of each cell. ``context`` must be offline, and may install nothing."""
    entries: dict[str, list[Entry]] = {}
    for entry in context.store.entries():
        entries.setdefault(entry.recipe, []).append(entry)
    found = []
    for cell in cells:
        wanted = packages[cell.recipe, cell.version]
        expected = estimate(cell, wanted, pasts)
        if cell.platform != platform:
            note = f"for {cell.platform}, and this machine is {platform}"
            found.append(Outlook(cell, "elsewhere", expected, note=note))
            continue
        earlier = newest_entry(cell, entries.get(wanted.name, ()))
        found.append(_judged(cell, expected, earlier, request(cell), configured, context))
    return found


def newest_entry(cell: Cell, entries: Iterable[Entry]) -> Entry | None:
    """The last wheel that was made of this cell, from whatever recipe, source, toolkit and compiler."""
    mine = [entry for entry in entries if entry.inputs.get("device") == cell.device and is_same(_past(entry), cell)]
    return max(mine, key=lambda entry: entry.created, default=None)


def _past(entry: Entry) -> Past:
    return Past(
        package=entry.recipe,
        version=entry.version,
        torch=entry.torch,
        python=str(entry.inputs.get("python", "")).rpartition(" ")[2],
        targets=entry.targets,
        device=str(entry.inputs.get("device", "cuda")),
        seconds=entry.seconds,
        memory=0,
        jobs=0,
        created=entry.created,
    )


def _judged(
    cell: Cell,
    expected: Estimate,
    earlier: Entry | None,
    request: Request,
    configured: tuple[str, ...],
    context: Context,
) -> Outlook:
    state: State = "unknown" if earlier is not None else "missing"
    try:
        prepared = prepare(request, configured, context)
    except WouldInstall as error:
        return Outlook(cell, state, expected, entry=earlier, note=f"{error.what} first")
    except NotCached as error:
        return Outlook(cell, state, expected, entry=earlier, note=error.message.partition(", and --offline")[0])
    except CudabuildError as error:
        return Outlook(cell, "not-here", expected, note=error.message, hint=error.hint)
    serving, note = _serving(prepared, context)
    if serving is not None:
        return Outlook(cell, "stored", replace(expected, seconds=0.0), prepared.key, serving, note=note)
    if earlier is None:
        return Outlook(cell, "missing", expected, prepared.key, note=note)
    differs = tuple(differing(prepared.inputs.as_dict(), earlier.inputs))
    return Outlook(cell, "stale", expected, prepared.key, earlier, differs, note)


def _serving(prepared: Prepared, context: Context) -> tuple[Entry | None, str]:
    """The entry that would be handed out, and what is to be said of it."""
    lookup = sound(prepared.key, context.store)
    if lookup.entry is not None and (other := grafts_not_here(lookup.entry, context)):
        return None, f"the stored wheel holds a copy of another {', '.join(other)} than is here"
    if lookup.entry is not None:
        return lookup.entry, ""
    wider = superset_of(prepared, context)
    if wider is not None:
        return wider, f"an entry with the targets {';'.join(wider.targets)} serves"
    return None, lookup.note
