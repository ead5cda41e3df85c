"""How many processors and how much memory a build may use here, whatever binds first.

Processors: the affinity mask, the cgroup quota, Slurm's allocation. Memory: MemTotal, every cgroup limit from this
process's group up (version 1, 2, or both), Slurm's allocation. Page cache that the kernel can drop at once
(``inactive_file``) does not count as used. Swap is not counted: a build that needs it is too big.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.machine.cgroups import Group, own_groups, read_text

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


@dataclass(frozen=True)
class _Memory:
    limit: int
    available: int
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


def _memory_bounds(environ: Mapping[str, str], root: Path) -> Iterator[_Memory]:
    machine = _machine_memory(root)
    yield machine
    for group in own_groups(root, "memory"):
        for bound in _group_memory(group):
            if bound.limit < machine.limit:  # "none" is a huge number in version 1
                yield bound
    slurm = _slurm_memory(environ)
    if slurm is not None and slurm.limit < machine.limit:
        yield slurm


def _machine_memory(root: Path) -> _Memory:
    """MemTotal and MemAvailable of /proc/meminfo (in kB)."""
    lines = re.findall(r"^(\w+):\s+(\d+) kB$", read_text(root / "proc/meminfo"), re.MULTILINE)
    fields = {name: int(number) * 1024 for name, number in lines}
    total = fields.get("MemTotal") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    before_3_14 = fields.get("MemFree", total) + fields.get("Buffers", 0) + fields.get("Cached", 0)
    return _Memory(total, fields.get("MemAvailable", min(total, before_3_14)), "MemTotal")


def _group_memory(group: Group) -> Iterator[_Memory]:
    """Each limit of one group. ``memory.high`` throttles what ``memory.max`` kills: both bind a build."""
    if group.version == 2:
        used, cache = group.number("memory.current"), group.field("memory.stat", "inactive_file")
        limits = {name: group.number(name) for name in ("memory.max", "memory.high")}
    else:
        used = group.number("memory.usage_in_bytes")
        cache = group.field("memory.stat", "total_inactive_file")
        if cache is None:
            cache = group.field("memory.stat", "inactive_file")
        limits = {
            "memory.limit_in_bytes": group.number("memory.limit_in_bytes"),
            # of ancestors too, also of those that a container cannot see
            "memory.stat: hierarchical_memory_limit": group.field("memory.stat", "hierarchical_memory_limit"),
        }
    kept = max(0, (used or 0) - (cache or 0))
    for name, limit in limits.items():
        if limit is not None:
            yield _Memory(limit, max(0, limit - kept), f"{group.name}/{name}")


def _slurm_memory(environ: Mapping[str, str]) -> _Memory | None:
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
            return _Memory(limit, limit, name)
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
