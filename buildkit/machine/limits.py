"""How many processors and how much memory a build may use here, whatever binds first.

Processors: the affinity mask, the cgroup quota, Slurm's allocation. Memory: MemTotal, every cgroup limit from this
process's group up (version 1, 2, or both), Slurm's allocation. Page cache does not count as used
(:mod:`buildkit.machine.memory`). Swap is not counted: a build that needs it is too big.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.machine.cgroups import Group, own_groups, read_text
from buildkit.machine.memory import Memory, group_memory, machine_memory

_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """``memory`` is the limit, ``memory_available`` what is free below it (bytes); the sources name what binds."""

    cpus: int
    cpu_source: str
    memory: int
    memory_available: int
    memory_source: str


@dataclass(frozen=True)
class _Cpus:
    count: int
    source: str


def read_limits(environ: Mapping[str, str], *, root: Path = Path("/")) -> Limits:
    """What binds here. ``root`` is ``/``, or a tree with ``proc`` and ``sys`` made by a test."""
    cpus = min(_cpu_bounds(environ, root), key=lambda bound: bound.count)
    memory = list(_memory_bounds(environ, root))
    tightest = min(memory, key=lambda bound: bound.limit)
    available = min(bound.available for bound in memory)
    return Limits(cpus.count, cpus.source, tightest.limit, max(0, min(available, tightest.limit)), tightest.source)


def _cpu_bounds(environ: Mapping[str, str], root: Path) -> Iterator[_Cpus]:
    yield _affinity(root)
    for group in own_groups(root, "cpu"):
        quota = _quota(group)
        if quota is not None:
            file = "cpu.max" if group.version == 2 else "cpu.cfs_quota_us"
            yield _Cpus(max(1, math.floor(quota)), f"{group.name}/{file}")
    slurm = _slurm_cpus(environ)
    if slurm is not None:
        yield slurm


def _affinity(root: Path) -> _Cpus:
    """The processors this process may run on (taskset, cpusets), from /proc/self/status: ``0-3,8``."""
    listed = re.search(r"^Cpus_allowed_list:\s*([\d,-]+)$", read_text(root / "proc/self/status"), re.MULTILINE)
    if listed is None:
        return _Cpus(os.cpu_count() or 1, "the machine's processors")
    count = 0
    for part in listed[1].split(","):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return _Cpus(max(1, count), "the processors this process may run on")


def _quota(group: Group) -> float | None:
    """Processor time per period, in processors; None without a quota."""
    if group.version == 2:
        match = re.fullmatch(r"(\d+) (\d+)", group.text("cpu.max").strip())
        quota, period = (int(match[1]), int(match[2])) if match else (None, None)
    else:
        quota, period = group.number("cpu.cfs_quota_us"), group.number("cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def _slurm_cpus(environ: Mapping[str, str]) -> _Cpus | None:
    """A task's processors, or all of the job's on this node."""
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        count = _whole(environ.get(name))
        if count:
            return _Cpus(count, name)
    return None


def _memory_bounds(environ: Mapping[str, str], root: Path) -> Iterator[Memory]:
    machine = machine_memory(root)
    yield machine
    for group in own_groups(root, "memory"):
        for bound in group_memory(group):
            if bound.limit < machine.limit:  # "none" is a huge number in version 1
                yield bound
    slurm = _slurm_memory(environ)
    if slurm is not None and slurm.limit < machine.limit:
        yield slurm


def _slurm_memory(environ: Mapping[str, str]) -> Memory | None:
    """The job's memory on this node; the variables are in MB, exclude one another, and 0 means all of it."""
    factors = {
        "SLURM_MEM_PER_NODE": 1,
        "SLURM_MEM_PER_CPU": _whole(environ.get("SLURM_CPUS_ON_NODE")) or _whole(environ.get("SLURM_CPUS_PER_TASK")),
        "SLURM_MEM_PER_GPU": _slurm_gpus(environ),
    }
    for name, factor in factors.items():
        amount = _whole(environ.get(name))
        if amount:
            limit = amount * (factor or 1) * _MIB
            return Memory(limit, limit, name)
    return None


def _slurm_gpus(environ: Mapping[str, str]) -> int | None:
    """GPUs of the job on this node: a number, ``a100:2``, or a list of ids."""
    for name in ("SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE"):
        count = _whole(environ.get(name, "").rpartition(":")[2])
        if count:
            return count
    ids = [one for one in environ.get("SLURM_JOB_GPUS", "").split(",") if one]
    return len(ids) or None


def _whole(text: str | None) -> int | None:
    """A variable's number; None where it is unset or something else."""
    return int(text) if text is not None and re.fullmatch(r"\d+", text, re.ASCII) else None
