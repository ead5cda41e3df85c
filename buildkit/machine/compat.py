"""What goes together: targets, toolkit, torch, compiler, driver. Pure: decided by the tables of ``facts``.

Refusals raise the cause's class with one sentence for each thing that does not fit; things that merely may not
fit come back as notes (one sentence each).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Literal

from buildkit.errors import NoCompiler, TorchMismatch
from buildkit.machine import facts
from buildkit.machine.facts import release_number, short_release
from buildkit.machine.target import Target, torch_arch_list
from buildkit.machine.target_support import TargetDecision, check_targets, cuda_of_torch, makeable_targets

__all__ = [
    "TargetDecision",
    "check_compiler",
    "check_driver",
    "check_glibc",
    "check_targets",
    "check_torch_toolkit",
    "cuda_of_torch",
    "driver_number",
    "driver_runs",
    "lowest_driver",
    "makeable_targets",
    "newest_torch",
]


def check_torch_toolkit(torch_cuda: str | None, toolkit: str, *, hip: str | None = None) -> tuple[str, ...]:
    """Whether a torch of this CUDA (None: built without) can be extended by this toolkit; notes for what may matter.

    Raises TorchMismatch for a ROCm torch (``hip`` is its version), a CPU-only torch and another CUDA major.
    """
    if hip is not None:
        raise TorchMismatch(
            f"this torch is built for AMD GPUs (ROCm {hip}); cudabuild builds for CUDA only",
            hint="install a CUDA build of torch, or name one: --torch 2.13.0+cu130",
        )
    if torch_cuda is None:
        raise TorchMismatch(
            "this torch is a CPU-only build: CUDA code cannot be built against it",
            hint="install a CUDA build of torch, name one (--torch 2.13.0+cu130), or build with --device cpu",
        )
    built, here = release_number(torch_cuda), release_number(toolkit)
    if built[0] != here[0]:
        raise TorchMismatch(
            f"torch was built with CUDA {torch_cuda}, the toolkit is CUDA {toolkit}: torch refuses another major",
            hint=f"use a CUDA {built[0]}.x toolkit (--cuda-home; `cudabuild toolkit install` brings one), "
            f"or a torch built with CUDA {here[0]}.x (--torch)",
        )
    if built != here:
        return (f"torch is of CUDA {torch_cuda}, the toolkit of CUDA {short_release(toolkit)}: the same major fits.",)
    return ()


def check_compiler(version: str, toolkit: str, *, kind: Literal["gcc", "clang"] = "gcc") -> tuple[str, ...]:
    """Whether nvcc of this toolkit takes this host compiler; NoCompiler where it is too new."""
    newest = facts.newest_gcc(toolkit) if kind == "gcc" else facts.newest_clang(toolkit)
    release = short_release(toolkit)
    if newest is None:
        return (
            f"CUDA {release} is not in cudabuild's tables: nvcc itself will tell whether it takes {kind} {version}.",
        )
    if int(version.partition(".")[0]) <= newest:
        return ()
    newest_known = facts.toolkit_release(toolkit)
    if newest_known is not None and newest_known.release != release:
        return (f"CUDA {newest_known.release} takes {kind} up to {newest}; CUDA {release} may take {kind} {version}.",)
    package, c_name, cxx_name = ("g++", "gcc", "g++") if kind == "gcc" else ("clang", "clang", "clang++")
    raise NoCompiler(
        f"{kind} {version} is too new for CUDA {release}: its nvcc takes {kind} up to {newest}",
        hint=f"sudo apt-get install {package}-{newest}, then run again with "
        f"CC={c_name}-{newest} CXX={cxx_name}-{newest}",
    )


def check_glibc(glibc: str, toolkit: str) -> tuple[str, ...]:
    """A note where the C library's math headers clash with the toolkit's (glibc 2.41 with CUDA 12.9 or older)."""
    if release_number(glibc) >= (2, 41) and release_number(toolkit) <= (12, 9):
        release = short_release(toolkit)
        return (f"glibc {glibc} and CUDA {release} both declare cospi and sinpi: if nvcc stops there, use CUDA 13.",)
    return ()


def lowest_driver(cuda: str | int) -> str | None:
    """The lowest driver that runs what this CUDA major series makes (``13`` or ``13.0``: 580); None where unknown."""
    major = int(str(cuda).split(".")[0])
    return next((series.driver for series in facts.toolkit_table().series if series.major == major), None)


def driver_runs(driver: str, cuda: str | int) -> bool:
    """Whether this driver runs machine code made by any release of this CUDA major series."""
    lowest = lowest_driver(cuda)
    return lowest is not None and driver_number(driver) >= driver_number(lowest)


def check_driver(driver: str | None, toolkit: str, targets: Iterable[Target] = ()) -> tuple[str, ...]:
    """Notes on running here what this toolkit makes: a driver too old for the series, or for its PTX."""
    if driver is None:
        return ()
    release = short_release(toolkit)
    lowest = lowest_driver(release)
    if lowest is not None and not driver_runs(driver, release):
        return (f"driver {driver} does not run what CUDA {release} makes: it takes driver {lowest} or newer.",)
    known = facts.toolkit_release(toolkit)
    shipped = known.driver if known else None
    with_ptx = [target for target in targets if target.ptx]
    if with_ptx and shipped is not None and driver_number(driver) < driver_number(shipped):
        listed = torch_arch_list(with_ptx)
        return (f"driver {driver} is older than CUDA {release}'s own ({shipped}): it may refuse the PTX of {listed}.",)
    return ()


def driver_number(text: str) -> tuple[int, ...]:
    """``580.65.06`` as numbers that can be compared; ``580`` is 580.0.0."""
    numbers = [int(part) for part in re.findall(r"\d+", text)]
    return (*numbers, 0, 0, 0)[:3]


def newest_torch(driver: str | None, python: str, *, toolkit_majors: Collection[int] = (13,)) -> list[str]:
    """The torch versions to try when none was asked for, newest first (the first release of each series: ``2.14.0``).

    Those whose default wheel exists for this Python (``3.11``, ``3.11.2``, ``3.14t``), was built with a CUDA that
    this driver runs (None: no driver here, so any), and of a major for which there is a toolkit:
    ``toolkit_majors``, which is 13 alone where toolkits can only come from wheels.
    """
    return [
        f"{known.version}.0"
        for known in reversed(facts.torch_releases())
        if known.has_python(python)
        and release_number(known.default_cuda)[0] in toolkit_majors
        and (driver is None or driver_runs(driver, known.default_cuda))
    ]
