"""Whether a cell can be built at all, on whatever machine: by the tables and the solver. Pure."""

from __future__ import annotations

from functools import cache

from buildkit.errors import CudabuildError
from buildkit.machine import compat, facts
from buildkit.machine.arch import parse_targets
from buildkit.machine.solver.examine import examine
from buildkit.machine.solver.host import Host, HostCompiler, HostToolkit, host_torch
from buildkit.matrix.cell import Cell
from buildkit.matrix.packages import Wanted

_GLIBC = "2.39"
"""New enough for every torch, and older than the one whose headers clash with CUDA 12's (2.41)."""
_GCC = 13
"""For a CUDA that the tables do not hold."""


def impossible(cell: Cell, wanted: Wanted) -> str:
    """Why no machine can build this cell, in a sentence; empty where one could."""
    if cell.device == "cpu":
        return "" if wanted.cpu else f"the recipe {wanted.name} has no form for the CPU"
    if not cell.cuda:
        return f"torch {cell.torch} is not in cudabuild's tables: name its CUDA, as in {cell.torch}+cu130"
    if not cell.targets:
        return f"no target set is given for CUDA {cell.cuda}"
    if wanted.torch and (reason := _by_solver(cell)):
        return reason
    try:
        compat.check_targets(
            parse_targets(cell.targets),
            toolkit=cell.cuda,
            torch=cell.torch if wanted.torch else None,
            setuptools_path=False,
            torch_cuda=cell.cuda,
        )
    except CudabuildError as error:
        return error.message
    return ""


def _by_solver(cell: Cell) -> str:
    """What blocks on a machine that is as good as it can be: with a fitting toolkit, compiler and C library."""
    problems = _problems(cell.python, cell.torch, cell.cuda, cell.targets, cell.platform.removeprefix("linux_"))
    return " ".join(problems)


@cache
def _problems(python: str, torch: str, cuda: str, targets: tuple[str, ...], machine: str) -> tuple[str, ...]:
    host = Host(
        python=python,
        glibc=_GLIBC,
        torch=host_torch(torch, cuda),
        toolkits=(HostToolkit(cuda),),
        compiler=HostCompiler("gcc", facts.newest_gcc(cuda) or _GCC),
        machine=machine,
        project="cmake",  # which takes every target that the toolkit makes
        targets=parse_targets(targets),
    )
    return tuple(problem.sentence for problem in examine(host) if problem.blocking)
