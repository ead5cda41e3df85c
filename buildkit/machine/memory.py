"""Memory of the machine and of control groups now: limits, and what is free below them.

Page cache does not count as used, active or not: the kernel drops it before it kills. What is written to a tmpfs is
no page cache in this sense and does count.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from buildkit.machine.cgroups import Group, read_text

_SMALLEST_RESERVE = 512 << 20
_GIB = 1 << 30
_MEMINFO = re.compile(r"^(MemTotal|MemFree|MemAvailable|Buffers|Cached):\s+(\d+) kB$", re.MULTILINE)
_FIELDS = re.compile(r"^(\w+) (\d+)$", re.MULTILINE)


WHOLE_MACHINE = "MemTotal"
"""The source of a limit that is none but the machine's size: other programs live below it, too."""


@dataclass(frozen=True)
class Memory:
    """A limit, what is free below it (bytes; not below 0), and where the limit stands."""

    limit: int
    available: int
    source: str


def reserve(memory: int) -> int:
    """Bytes that stay free for everything else: 5 %, at least 512 MiB, but never more than an eighth of the machine."""
    return min(max(_SMALLEST_RESERVE, memory // 20), memory // 8)


def capped_reserve(limit: int) -> int:
    """Bytes kept free inside an explicit limit, where nothing else lives: 5 % of it, at most 1 GiB."""
    return min(limit // 20, _GIB)


def machine_memory(root: Path) -> Memory:
    """MemTotal and MemAvailable of /proc/meminfo (in kB)."""
    fields = {name: int(number) * 1024 for name, number in _MEMINFO.findall(read_text(root / "proc/meminfo"))}
    total = fields.get(WHOLE_MACHINE) or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    before_3_14 = fields.get("MemFree", total) + fields.get("Buffers", 0) + fields.get("Cached", 0)
    return Memory(total, fields.get("MemAvailable", min(total, before_3_14)), WHOLE_MACHINE)


def group_memory(group: Group) -> list[Memory]:
    """Each limit of one group. ``memory.high`` throttles what ``memory.max`` kills: both bind a build."""
    stat = {name: int(number) for name, number in _FIELDS.findall(group.text("memory.stat"))}
    if group.version == 2:
        used = group.number("memory.current") or 0
        droppable = stat.get("inactive_file", 0) + stat.get("active_file", 0) + stat.get("slab_reclaimable", 0)
        limits = {name: group.number(name) for name in ("memory.max", "memory.high")}
    else:
        used = group.number("memory.usage_in_bytes") or 0
        droppable = sum(stat.get(f"total_{name}", stat.get(name, 0)) for name in ("inactive_file", "active_file"))
        limits = {
            "memory.limit_in_bytes": group.number("memory.limit_in_bytes"),
            # of ancestors too, also of those that a container cannot see
            "memory.stat: hierarchical_memory_limit": stat.get("hierarchical_memory_limit"),
        }
    kept = max(0, used - droppable)
    known = {name: limit for name, limit in limits.items() if limit is not None}
    return [Memory(limit, max(0, limit - kept), f"{group.name}/{name}") for name, limit in known.items()]
