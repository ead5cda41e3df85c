"""How many compilations may run at once (pure). Each figure comes with the sentence that explains it."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.errors import TooLittleMemory
from buildkit.machine.limits import Limits
from buildkit.machine.memory import WHOLE_MACHINE, capped_reserve, reserve

_MIB = 1 << 20
_GIB = 1 << 30


@dataclass(frozen=True)
class Budget:
    """Memory that the build may use, in bytes, and why that much."""

    bytes: int
    reason: str


@dataclass(frozen=True)
class Jobs:
    """Compilations at once (MAX_JOBS), and why that many."""

    jobs: int
    reason: str


def memory_budget(limits: Limits, asked: int | None) -> Budget:
    """What is free here less the reserve, or what was asked for if that is less (bytes)."""
    kept = reserve(limits.memory) if limits.memory_source == WHOLE_MACHINE else capped_reserve(limits.memory)
    free = max(limits.memory_available - kept, 0)
    have = (
        f"{_size(limits.memory_available)} free of {_size(limits.memory)} ({limits.memory_source}), "
        f"{_size(kept)} kept in reserve"
    )
    if asked is not None and asked <= free:
        return Budget(asked, f"{_size(asked)}: as asked for; {have}")
    if asked is not None:
        return Budget(free, f"{_size(free)}: less than the {_size(asked)} asked for; {have}")
    return Budget(free, f"{_size(free)}: {have}")


def plan_jobs(*, cpus: int, memory_budget: int, memory_per_unit: int, requested: int | None) -> Jobs:
    """The most that processors, memory and the request allow.

    Raises :class:`TooLittleMemory` when not even one compilation fits.
    """
    fitting = memory_budget // memory_per_unit
    if fitting < 1:
        raise TooLittleMemory(
            f"the memory budget of {_size(memory_budget)} is below the {_size(memory_per_unit)} "
            "that one compilation of this recipe is expected to need",
            hint=f"free memory or raise the limit, then give at least --memory {_rounded_up(memory_per_unit)}",
        )
    jobs = min(max(cpus, 1), fitting, requested or fitting)
    memory = f"{_size(memory_budget)} of memory fits {fitting} of {_size(memory_per_unit)} each"
    processors = f"{cpus} processor{'s' if cpus != 1 else ''}"
    if requested is not None and jobs == requested:
        return Jobs(jobs, f"{jobs} at once: as asked for; {processors}, {memory}")
    over = f"; {requested} asked for" if requested is not None else ""
    if jobs == fitting and fitting < cpus:
        return Jobs(jobs, f"{jobs} at once: {memory} ({processors}){over}")
    return Jobs(jobs, f"{jobs} at once: {processors} ({memory}){over}")


def _size(size: int) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / _MIB:.0f} MiB"


def _rounded_up(size: int) -> str:
    return f"{-(-size // _MIB)}MiB"
