"""For which device a package is built: what leads to the CPU, what refuses it, and when a failure offers it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from buildkit.build.package import Package
from buildkit.errors import (
    BuildFailed,
    CanaryFailed,
    CpuOnlyWheel,
    NoCpuForm,
    NoCudaCode,
    NoTarget,
    NoToolkit,
    OutOfMemory,
    TimedOut,
    TorchMismatch,
)
from buildkit.plan.request import Request

if TYPE_CHECKING:
    from buildkit.build.prepare import Prepared

CPU_CAUSES = (TorchMismatch, NoToolkit, NoTarget, NoCudaCode)
"""With ``--device auto``, these and no others lead to a CPU build; it is said loudly and recorded."""
_HELPED = (*CPU_CAUSES, BuildFailed, CanaryFailed, CpuOnlyWheel, OutOfMemory, TimedOut)
"""What a build for the CPU may well not meet."""


def may_be_for_cpu(request: Request, package: Package) -> bool:
    """Whether a cause of :data:`CPU_CAUSES` leads to a build for the CPU."""
    return request.device == "auto" and package.loaded.recipe.build.cpu


def refuse_device(device: str, package: Package, why: str = "") -> None:
    """Raise NoCpuForm for a build for the CPU of a package that has no form for it."""
    if device == "cpu" and not package.loaded.recipe.build.cpu:
        hint = "give another torch: --torch VERSION+cuXXX" if why else "leave --device cpu out"
        raise NoCpuForm(f"{package.name} has no form for the CPU{why}", hint=hint)


@contextmanager
def cpu_form_offered(prepared: Prepared) -> Iterator[None]:
    """Add the CPU form to the hint of a CUDA build's failure, where the package has one."""
    try:
        yield
    except _HELPED as error:
        from buildkit.build.canary import is_canary

        if prepared.device == "cuda" and has_cpu_form(prepared.package) and not is_canary(prepared.package.loaded):
            error.hint = offered(error.hint, prepared.request.package)
        raise


def has_cpu_form(package: Package) -> bool:
    """Whether it is known that there is one: a recipe says so, a source without a recipe by its switches."""
    build = package.loaded.recipe.build
    return build.cpu and bool(package.has_recipe or build.env_cpu)


def offered(hint: str, package: str) -> str:
    """The hint with the CPU form behind it."""
    command = f"cudabuild {shlex.quote(package)} --device cpu"
    return f"{hint}; or its form without CUDA: {command}" if hint else f"its form without CUDA: {command}"
