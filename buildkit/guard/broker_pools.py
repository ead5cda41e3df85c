"""The memory that builds draw on, read live: the machine's, each limited control group's, what a build was given.

What the broker plans with is a pool's *budget*: what is free there, plus what its units hold already, less a reserve.
Everything else that lives there (other programs, the backend, files on a tmpfs) is thereby taken off as it comes.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from buildkit.guard.pressure import Reading
from buildkit.machine.cgroups import Group, own_groups, read_text
from buildkit.machine.memory import Memory, capped_reserve, group_memory, machine_memory, reserve

MACHINE = "machine"
_LOOK_BACK = 0.21  # seconds over which growth is measured, where there were looks in them
_OLDEST = 1.0  # else since the last look, unless it is older than this
_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_FULL = re.compile(r"^full .*total=(\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Level:
    """A pool at one moment: its limit and what is free (bytes), the reserve, and microseconds stalled since ever."""

    memory: Memory
    reserve: int
    stalled: int = 0


class PoolWatch:
    """One pool over time. ``read`` gets the bytes that the broker's units and their builds hold by its own looks."""

    def __init__(self, name: str, read: Callable[[int], Level | None]) -> None:
        self.name = name
        self.source = name
        self.limit = 0
        self._read = read
        self._looks: deque[tuple[float, int, int, int]] = deque(maxlen=8)
        self.reading = Reading(0, 0, 0)
        self.budget = 0
        self.gone = False

    def update(self, now: float, usage: int, *, fresh: bool) -> None:
        """Look. ``usage``: bytes that the units of this pool hold; ``fresh``: now, not at the last look."""
        level = self._read(usage)
        if level is None:
            self.gone = True
            return
        memory = level.memory
        self.source, self.limit = memory.source, memory.limit
        self.reading = replace(self.reading, limit=memory.limit, available=memory.available, reserve=level.reserve)
        if fresh:
            self._grow(now, memory.limit - memory.available, usage, level.stalled)
        self.budget = max(0, memory.available + usage - level.reserve)

    def _grow(self, now: float, used: int, usage: int, stalled: int) -> None:
        """How fast it fills, from the looks of the last moments: by its units, and by what else is there.

        A process that ends holds nothing any more in /proc, while the kernel still frees its pages, for seconds where
        it is large and processors are busy. That is no growth of anything else: only what the pool as a whole has
        gained beyond its units counts.
        """
        before = next((look for look in self._looks if 0.02 <= now - look[0] <= _LOOK_BACK), None)
        if before is None and self._looks and 0.02 <= now - self._looks[-1][0] <= _OLDEST:
            before = self._looks[-1]
        self._looks.append((now, used, usage, stalled))
        if before is not None:
            elapsed = now - before[0]
            units = usage - before[2]
            others = used - before[1] - max(units, 0)
            waited = (stalled - before[3]) / 1e6
            self.reading = replace(
                self.reading, growth=units / elapsed, others=others / elapsed, stalled=waited / elapsed
            )

    def most(self) -> int:
        """What one unit could have at most if nothing else were here."""
        return self.limit - self.reading.reserve


def machine_pool() -> PoolWatch:
    """MemAvailable, and the stalls of the whole machine."""

    def read(_usage: int) -> Level:
        memory = machine_memory(Path("/"))
        return Level(memory, reserve(memory.limit), _stalled(Path("/proc/pressure/memory")))

    return PoolWatch(MACHINE, read)


def group_pool(group: Group) -> PoolWatch:
    """One control group; gone when its limit (or the group) is."""

    def read(_usage: int) -> Level | None:
        limits = group_memory(group)
        if not limits:
            return None
        memory = min(limits, key=lambda bound: bound.available)
        return Level(memory, capped_reserve(memory.limit), _stalled(group.folder / "memory.pressure"))

    return PoolWatch(str(group.folder), read)


def given_pool(name: str, source: str, limit: Callable[[], int], overhead: Callable[[], int]) -> PoolWatch:
    """What a build was given: counted by the broker's own looks, since the kernel keeps no such account."""

    def read(usage: int) -> Level:
        given = limit()
        memory = Memory(given, max(0, given - usage - overhead()), source)
        return Level(memory, capped_reserve(given))

    return PoolWatch(name, read)


def memory_groups(pid: int) -> list[Group]:
    """The memory groups of a process, its own first; none when it has ended."""
    return own_groups(Path("/"), "memory", str(pid))


def group_names(pid: int) -> str:
    """The names of a process's control groups, in the kernel's words; empty when it has ended."""
    return read_text(Path("/proc", str(pid), "cgroup"))


def limited(groups: Iterable[Group]) -> list[Group]:
    """Those with a limit below the machine's memory."""
    whole = machine_memory(Path("/")).limit
    return [group for group in groups if any(bound.limit < whole for bound in group_memory(group))]


def kills_by_kernel() -> int:
    """How often the kernel has killed for memory since it started, in whatever group (proc_vmstat's oom_kill)."""
    match = _KILLS.search(read_text(Path("/proc/vmstat")))
    return int(match[1]) if match else 0


def _stalled(file: Path) -> int:
    match = _FULL.search(read_text(file))
    return int(match[1]) if match else 0
