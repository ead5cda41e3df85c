"""From a matrix to its cells: each combination, what is impossible or left out beside it with the reason. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Literal

from buildkit.errors import ConfigError
from buildkit.machine.arch import parse_targets, torch_arch_list
from buildkit.machine.compat import cuda_of_torch
from buildkit.machine.variants import cuda_label, variant_targets
from buildkit.matrix.cell import Cell, cell_id
from buildkit.matrix.feasible import impossible
from buildkit.matrix.model import DEFAULT_SET, Axes, Matrix, Override, Rule
from buildkit.matrix.packages import Wanted
from buildkit.recipe.conditions import applies

MOST_CELLS = 2000
"""Combinations of one file. Beyond what anybody builds; lists that multiply by mistake would fill memory and disk."""

DropKind = Literal["impossible", "excluded"]


@dataclass(frozen=True)
class Here:
    """What stands for an axis that is not given: this machine's own."""

    python: str
    """Two numbers (``3.11``)."""
    platform: str


@dataclass(frozen=True)
class Dropped:
    """A combination that is no cell, and why. ``impossible``: no machine can build it."""

    cell: Cell
    kind: DropKind
    reason: str


@dataclass(frozen=True)
class Expansion:
    """The cells of a matrix, in the order of its lists, and what was dropped."""

    cells: tuple[Cell, ...]
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True)
class _Candidate:
    """A cell with the words that it comes from, which rules name it by."""

    cell: Cell
    word: str
    wanted: Wanted


def words_of_recipes(matrix: Matrix) -> tuple[str, ...]:
    """Every word for a package in the matrix, each once."""
    words = [*matrix.recipes, *(word for more in matrix.include for word in more.recipes)]
    return tuple(dict.fromkeys(words))


def expand(matrix: Matrix, packages: Mapping[str, Sequence[Wanted]], here: Here) -> Expansion:
    """The cells. ``packages`` maps each of :func:`words_of_recipes` to what it means.

    Raises ConfigError where there are too many.
    """
    candidates: list[_Candidate] = []
    for axes in (matrix, *(_inherited(more, matrix) for more in matrix.include)):
        candidates += islice(_combinations(axes, matrix, packages, here), MOST_CELLS + 1)
        if len(candidates) > MOST_CELLS:
            text = f"the matrix has more than {MOST_CELLS} combinations"
            raise ConfigError(text, hint="make lists shorter, or several files of it: --file FILE")
    cells: dict[str, Cell] = {}
    dropped: dict[str, Dropped] = {}
    for one in _named([_overridden(one, matrix.override) for one in candidates]):
        excluded = next((rule for rule in matrix.exclude if _is_about(rule, one)), None)
        if excluded is not None:
            reason = excluded.reason or f"excluded{f' by: {excluded.when}' if excluded.when else ''}"
            dropped.setdefault(one.cell.id, Dropped(one.cell, "excluded", reason))
        elif reason := impossible(one.cell, one.wanted):
            dropped.setdefault(one.cell.id, Dropped(one.cell, "impossible", reason))
        else:
            cells.setdefault(one.cell.id, one.cell)
    return Expansion(tuple(cells.values()), tuple(dropped.values()))


def _inherited(more: Axes, matrix: Matrix) -> Axes:
    """Added cells with the matrix's own axes where they give none."""
    own = {name: value for name in Axes.model_fields if (value := getattr(more, name))}
    return Axes.model_construct(**{name: own.get(name, getattr(matrix, name)) for name in Axes.model_fields})


def _combinations(
    axes: Axes, matrix: Matrix, packages: Mapping[str, Sequence[Wanted]], here: Here
) -> Iterator[_Candidate]:
    packaged = [(word, wanted) for word in axes.recipes for wanted in packages[word]]
    pairs = list(dict.fromkeys(_torches(axes)))
    pythons, platforms = axes.python or (here.python,), axes.platforms or (here.platform,)
    for (word, wanted), (torch, cuda), python, platform in product(packaged, pairs, pythons, platforms):
        for targets in _target_sets(axes, cuda):
            cell = Cell(
                id="",
                recipe=wanted.recipe,
                version=wanted.version,
                torch=torch,
                cuda=cuda,
                python=python,
                targets=targets,
                device=axes.device or "cuda",
                platform=platform,
                require=matrix.require,
            )
            yield _Candidate(cell, word, wanted)


def _torches(axes: Axes) -> Iterator[tuple[str, str]]:
    """Each torch with each CUDA it is wanted with: its full version, the CUDA release (empty: not known)."""
    for torch in axes.torch:
        if "+" in torch or not axes.cuda:
            cuda = cuda_of_torch(torch) or ""
            full = f"{torch}+{cuda_label(cuda)}" if cuda and "+" not in torch else torch
            yield full, cuda
            continue
        yield from ((f"{torch}+{cuda_label(cuda)}", cuda) for cuda in axes.cuda)


def _target_sets(axes: Axes, cuda: str) -> Iterator[tuple[str, ...]]:
    """The target sets that go with a CUDA: those of its release, of its major, every CUDA's, the declared one."""
    major = cuda.partition(".")[0]
    sets = next((axes.targets[key] for key in (cuda, major, DEFAULT_SET) if key in axes.targets), None)
    if sets is None:
        declared = variant_targets(cuda)
        yield (torch_arch_list(declared),) if declared and not axes.targets else ()
        return
    yield from ((torch_arch_list(parse_targets([one])),) for one in sets)


def _overridden(one: _Candidate, overrides: Iterable[Override]) -> _Candidate:
    """With the settings of every override that is about it; for the CPU without CUDA and targets."""
    for override in overrides:
        if _is_about(override, one):
            given = {name: value for name in _SET if (value := getattr(override, name)) is not None}
            one = replace(one, cell=replace(one.cell, **given))
    cell = one.cell
    if cell.device == "cpu":
        cell = replace(cell, cuda="", targets=(), gpu=None)
    elif cell.gpu is None and cell.require == "executed":
        cell = replace(cell, gpu="")
    return replace(one, cell=cell)


_SET = ("memory", "timeout", "device", "require", "gpu")


def _is_about(rule: Rule, one: _Candidate) -> bool:
    cell = one.cell
    if rule.recipes and not {one.word, cell.recipe, f"{cell.recipe}=={cell.version}"} & set(rule.recipes):
        return False
    if rule.platforms and cell.platform not in rule.platforms:
        return False
    if rule.targets and not any((torch_arch_list(parse_targets([text])),) == cell.targets for text in rule.targets):
        return False
    return applies(rule.when, _values(cell))


def _values(cell: Cell) -> dict[str, str]:
    """A cell as conditions see it."""
    return {
        "torch": cell.torch.partition("+")[0],
        "cuda": cell.cuda,
        "python": cell.python,
        "version": cell.version,
        "device": cell.device,
    }


def _named(candidates: Sequence[_Candidate]) -> Iterator[_Candidate]:
    """Each with its id: torch's series, or its whole version where the series alone would be two cells; and the whole
    word for a package where its name alone would be two packages.
    """  # fmt: skip
    short = [_id(one, exact=False) for one in candidates]
    both = list(zip(short, candidates, strict=True))
    torches = Counter(name for name, _ in {(name, one.cell.torch.partition("+")[0]) for name, one in both})
    sources = Counter(name for name, _ in {(name, _source(one.wanted)) for name, one in both})
    for name, one in both:
        exact = torches[name] > 1 and one.wanted.torch
        whole = sources[name] > 1 and not one.wanted.known
        identifier = _id(one, exact=exact, whole=whole) if exact or whole else name
        yield replace(one, cell=replace(one.cell, id=identifier))


def _source(wanted: Wanted) -> str:
    return str(wanted.folder or wanted.recipe)


def _id(one: _Candidate, *, exact: bool, whole: bool = False) -> str:
    wanted, cell = one.wanted, one.cell
    name = wanted.name if wanted.known or wanted.recipe.strip("./") == "" else wanted.recipe
    return cell_id(
        recipe=re.sub(r"[/:]+", "_", wanted.recipe.replace("..", "up")) if whole else name,
        version=cell.version,
        torch=cell.torch if one.wanted.torch else "",
        cuda=cell.cuda,
        python=cell.python,
        targets=cell.targets,
        device=cell.device,
        platform=cell.platform,
        exact=exact,
    )
