"""From cells and their estimates to what is run: commands, needs, order, the document of a new or continued run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from buildkit.matrix.cell import Cell
from buildkit.matrix.executor import Need
from buildkit.matrix.history import MEMORY_MARGIN, Estimate
from buildkit.matrix.outlook import package_word
from buildkit.matrix.packages import Wanted
from buildkit.matrix.results import CellObject, RunObject
from buildkit.matrix.run import Task
from buildkit.matrix.schedule import longest_first

_LEAST_MEMORY = 1 << 30
_BESIDE = 512 << 20
"""Bytes beside one compilation: the backend, Python, the proof."""
_JOBS = 4
"""Compilations at once where nothing is known of a package."""
_ROOM = 900.0
"""Seconds around a build for fetching, installing torch, the canary and the proof."""
_TIMES = 3.0
"""As a build's own deadline: so much longer than expected is no longer as expected."""


def words_of(
    cell: Cell, common: Sequence[str], python: str | None, jobs: int | None, memory: int | None
) -> tuple[str, ...]:
    """The words of `cudabuild build` for a cell. ``common``: options that are the same for all; ``python``: what goes
    after ``--python``; ``memory``: bytes."""
    words = ["build", package_word(cell), "--torch", cell.torch, "--device", cell.device]
    for target in cell.targets:
        words += ["--target", target]
    if python:
        words += ["--python", python]
    if memory is not None:
        words += ["--memory", f"{max(1, memory >> 20)}MiB"]
    if cell.timeout is not None:
        words += ["--timeout", f"{max(1, round(cell.timeout))}s"]
    if cell.require is not None:
        words += ["--require", cell.require]
    if jobs is not None:
        words += ["--jobs", str(jobs)]
    return (*words, *common)


def need_of(cell: Cell, wanted: Wanted, expected: Estimate, jobs: int | None) -> Need:
    """What a cell takes: what was measured and a margin, else what its recipe says of one compilation."""
    cpus = jobs or expected.jobs or _JOBS
    if cell.memory is not None:
        memory = cell.memory
    elif expected.source == "recipe" or not expected.memory:
        memory = wanted.memory_per_unit * min(cpus, _JOBS) + _BESIDE
    else:
        memory = round(expected.memory * MEMORY_MARGIN) + _BESIDE
    seconds = expected.seconds or 0.0
    deadline = cell.timeout or max(wanted.timeout, _TIMES * seconds)
    return Need(max(memory, _LEAST_MEMORY), cpus, cell.gpu, seconds, deadline + _ROOM, cell.platform)


def tasks_of(
    cells: Iterable[Cell],
    packages: Mapping[tuple[str, str], Wanted],
    estimates: Mapping[str, Estimate],
    common: Sequence[str],
    python: Callable[[Cell], str | None],
    jobs: int | None,
) -> list[Task]:
    """What is to be run, the longest first."""
    found = {}
    for cell in cells:
        need = need_of(cell, packages[cell.recipe, cell.version], estimates[cell.id], jobs)
        found[cell.id] = Task(cell.id, _words(cell, common, python(cell), jobs), need, cell.memory)
    order = longest_first(list(found), {identifier: estimates[identifier].seconds for identifier in found})
    return [found[identifier] for identifier in order]


def _words(
    cell: Cell, common: Sequence[str], python: str | None, jobs: int | None
) -> Callable[[int | None], tuple[str, ...]]:
    return lambda memory: words_of(cell, common, python, jobs, memory)


def fingerprint(cells: Sequence[Cell], packages: Mapping[tuple[str, str], Wanted], common: Sequence[str]) -> str:
    """What tells one matrix from another: its cells, the recipes' files, the options."""
    recipes = sorted((one.recipe, one.version, one.sha256) for one in packages.values())
    return hashlib.sha256(repr((list(cells), recipes, list(common))).encode()).hexdigest()


def continued(new: RunObject, before: RunObject, kept: Callable[[CellObject], bool]) -> RunObject:
    """A run that goes on where another one was interrupted: its id, its tries, and the wheels that are ``kept``."""
    known = {cell.id: cell for cell in before.cells}
    cells = []
    for cell in new.cells:
        old = known.get(cell.id)
        if old is None:
            cells.append(cell)
        elif old.status == "succeeded" and kept(old):
            cells.append(old)
        else:
            cells.append(cell.model_copy(update={"attempts": old.attempts}))
    return new.model_copy(update={"run": before.run, "started": before.started, "cells": tuple(cells)})
