"""What a worker has, and what a cell needs of one, both as Dask's resources: names with amounts.

The scheduler gives a cell to a worker that has all of its names, so that a worker of another version or platform, or
without the toolkit, gets none, whenever it joins.
"""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buildkit import __version__
from buildkit.errors import MachineError, TooLittleMemory
from buildkit.machine.gpus import visible_gpus
from buildkit.machine.identity import Memo
from buildkit.machine.limits import read_limits
from buildkit.machine.memory import capped_reserve
from buildkit.matrix.executor import Need
from buildkit.plan.key import BUILD_EDITION

PLENTY = 1e6
"""Of what is there or not: as much as all cells together can take."""
VERSION = f"cudabuild {__version__} edition {BUILD_EDITION}"
_SMALLEST = 256 << 20


@dataclass(frozen=True)
class Survey:
    """A machine as a worker: what is told of it, and what cells are given to it for."""

    version: str
    platform: str
    """As wheels name it: ``linux_x86_64``."""
    memory: int
    """Bytes for all of its cells together."""
    cpus: int
    gpus: tuple[str, ...]
    """Their names, as they are typed (``rtx4090``)."""
    compiler: str
    toolkits: tuple[str, ...]
    """Releases of CUDA toolkits (``12.8``)."""
    wheels: tuple[int, ...] = field(default=())
    """Majors of toolkits that can be made from wheels here."""


def plain_name(gpu: str) -> str:
    """A GPU's name without its maker and blanks: ``NVIDIA GeForce RTX 4090`` is ``rtx4090``."""
    words = [word for word in re.split(r"[^a-z0-9]+", gpu.lower()) if word not in {"nvidia", "geforce", "tesla", ""}]
    return "".join(words)


def resources(survey: Survey) -> dict[str, float]:
    """What a worker offers."""
    majors = {int(release.partition(".")[0]) for release in survey.toolkits} | set(survey.wheels)
    offered = {"memory": float(survey.memory), "cpus": float(survey.cpus)}
    offered |= dict.fromkeys((survey.version, survey.platform, *(f"cuda {major}" for major in majors)), PLENTY)
    if survey.gpus:
        offered["GPU"] = float(len(survey.gpus))
    for gpu in survey.gpus:
        offered[f"GPU {gpu}"] = offered.get(f"GPU {gpu}", 0.0) + 1.0
    return offered


def this_platform() -> str:
    """As wheels name it, and matrices: ``linux_x86_64``."""
    return re.sub(r"[-.]", "_", sysconfig.get_platform())


def needed(need: Need, words: Sequence[str]) -> dict[str, float]:
    """What a cell takes of a worker while it runs. ``words``: of `cudabuild build`."""
    taken = {"memory": float(need.memory), VERSION: 1.0, need.platform or this_platform(): 1.0}
    major = cuda_major(words)
    if major is not None:
        taken[f"cuda {major}"] = 1.0
    if need.gpu is not None:
        taken["GPU"] = 1.0
    if need.gpu:
        taken[f"GPU {plain_name(need.gpu)}"] = 1.0
    return taken


def lacking(taken: Mapping[str, float], offered: Mapping[str, float]) -> list[str]:
    """What of it a worker could never give, for people; empty: it could."""
    return [_said(name, amount) for name, amount in taken.items() if offered.get(name, 0.0) < amount]


def _said(name: str, amount: float) -> str:
    return f"{amount / (1 << 30):.1f} GiB of memory" if name == "memory" else name


def cuda_major(words: Sequence[str]) -> int | None:
    """The major release of CUDA that a build is for, where its words say so (``--torch 2.13.0+cu130``)."""
    if _after("--device", words) == "cpu":
        return None
    found = re.search(r"\+cu(\d+)\d$", _after("--torch", words))
    return int(found[1]) if found else None


def _after(option: str, words: Sequence[str]) -> str:
    for place, word in enumerate(words):
        if word == option and place + 1 < len(words):
            return words[place + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return ""


def look(environ: Mapping[str, str], memo: Path, *, memory: int | None = None, offline: bool = False) -> Survey:
    """What is here; toolkits that do not run are left out. Raises NoCompiler, TooLittleMemory."""
    from buildkit.machine.compiler import find_host_compiler
    from buildkit.machine.installable import WHEEL_MAJORS
    from buildkit.machine.toolkit import look_at_toolkits

    known = Memo(memo)
    compiler = find_host_compiler(environ, known)
    limits = read_limits(environ)
    room = memory or limits.memory - capped_reserve(limits.memory)
    if room < _SMALLEST:
        raise TooLittleMemory(
            f"a worker with {room >> 20} MiB builds nothing", evidence=limits.memory_source, hint="give it more"
        )
    return Survey(
        version=VERSION,
        platform=this_platform(),
        memory=room,
        cpus=limits.cpus,
        gpus=tuple(plain_name(gpu.name) for gpu in visible_gpus(environ).gpus),
        compiler=f"{compiler.kind} {compiler.version}",
        toolkits=tuple(toolkit.release for toolkit in look_at_toolkits(environ, known)),
        wheels=() if offline else tuple(WHEEL_MAJORS),
    )


def none_can(taken: Mapping[str, float], workers: Mapping[str, Mapping[str, float]]) -> MachineError | None:
    """Why no worker could ever be given a cell, by the one that lacks least; None where one could, or none is there."""
    if not workers:
        return None
    short = {name: lacking(taken, offered) for name, offered in workers.items()}
    name = min(short, key=lambda each: len(short[each]))
    if not short[name]:
        return None
    return MachineError(
        "no worker can build it",
        evidence=f"{name}, which comes nearest, has no {', no '.join(short[name])}",
        hint="start one that has: cudabuild matrix worker ADDRESS (`dask worker` says nothing of what it has)",
    )
