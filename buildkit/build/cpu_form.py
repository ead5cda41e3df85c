"""A package that can be built for the CPU too says so where its CUDA build fails."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from buildkit.build.prepare import CPU_CAUSES, Prepared
from buildkit.errors import BuildFailed, CanaryFailed, CpuOnlyWheel, OutOfMemory, TimedOut

_CAUSES = (*CPU_CAUSES, BuildFailed, CanaryFailed, CpuOnlyWheel, OutOfMemory, TimedOut)
"""What a build for the CPU may well not meet."""


@contextmanager
def cpu_form_offered(prepared: Prepared) -> Iterator[None]:
    """Add the CPU form to the hint of a CUDA build's failure, where there is one: a recipe with ``env-cpu``."""
    try:
        yield
    except _CAUSES as error:
        from buildkit.build.canary import is_canary

        loaded = prepared.package.loaded
        if prepared.device == "cuda" and loaded.recipe.build.env_cpu and not is_canary(loaded):
            error.hint = offered(error.hint, prepared.request.package)
        raise


def offered(hint: str, package: str) -> str:
    """The hint with the CPU form behind it."""
    command = f"cudabuild {shlex.quote(package)} --device cpu"
    return f"{hint}; or its form without CUDA: {command}" if hint else f"its form without CUDA: {command}"
