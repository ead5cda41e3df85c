"""What the broker knows of its clients: builds, and their units from the line to their end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from buildkit.guard.profile import Bound, Record, UnitId
from buildkit.guard.profile_store import ProfileFolder
from buildkit.machine.cgroups import Group

State = Literal["waiting", "running", "ending", "gone"]
Reason = Literal["", "preempted", "pressure", "exceeded", "alone"]
"""Why a unit was told to end: for an older one; as the newest; that and it held more than its bound; too big alone."""

_COOL = 2.0  # seconds
STRIKES = 3
"""So many kills (not counted: for the sake of others) end the build by the unit's name."""


@dataclass(frozen=True)
class Cooling:
    """After units were ended for memory, others must not start into the same growth: a pool is held for a while,
    longer each time, until one of its units has ended well."""

    until: float = 0.0
    seconds: float = 0.0

    def again(self, now: float) -> Cooling:
        """Another time."""
        seconds = max(_COOL, 2 * self.seconds)
        return Cooling(now + seconds, seconds)


class Link(Protocol):
    """A connection, as the broker's logic sees it."""

    pid: int

    def send(self, verb: str, **values: object) -> None:
        """Queue one message."""

    def close(self) -> None:
        """Close once everything queued is sent."""


@dataclass
class Build:
    """One build that holds a connection. Sizes in bytes; ``budget`` and ``slurm`` are 0 where nothing is limited so."""

    link: Link
    token: str
    package: str
    toolkit: str
    jobs: int
    cpus: int
    budget: int
    slurm: int
    job: str
    prior: int
    profile: ProfileFolder
    serial: int
    tmpdir: Path | None = None
    processors: int = 1
    """Of the machine, where ``cpus`` may be more because more was asked for."""
    pools: tuple[str, ...] = ()
    groups: list[Group] = field(default_factory=list)
    place: str = ""
    """The names of its shims' control groups, as /proc/PID/cgroup has them."""
    overhead: int = 0
    arrived: int = 0
    longest_first: bool = False
    unknown: bool = False
    """No build of this package with this toolkit has been seen."""
    burst: float = 0.0
    """When the last unit came while there was no other."""
    bursts: int = 0
    to_come: dict[str, Record] = field(default_factory=dict)
    name: str = ""
    """What the build calls itself (its id), for people."""
    began: float = 0.0
    done: int = 0
    killed: int = 0

    def tell(self, what: str, **values: object) -> None:
        """An event for the trace and for people."""
        self.link.send("event", what=what, **values)


@dataclass
class UnitState:
    """One unit that holds a connection."""

    number: int
    link: Link
    build: Build
    kind: str
    name: str
    key: str
    root: int
    threads: int
    slot: int
    order: int
    arrived: float
    bound: Bound
    state: State = "waiting"
    reason: Reason = ""
    granted: int = 1
    started: float = 0.0
    told: float = 0.0
    usage: int = 0
    peak: int = 0
    largest: int = 0
    strikes: int = 0
    preempted: int = 0
    kills_before: int = 0
    doubted: bool = False
    pids: frozenset[int] = frozenset()
    cpu: float = 0.0
    """Processor seconds of this run, as its shim has said; 0 until then."""
    cpu_before: float = 0.0
    """Those of its earlier runs."""
    known: dict[int, int] = field(default_factory=dict)
    """Its processes as they were seen: pid to start time."""
    scratch: str = ""
    """The folder of its temporary files, which its processes are known by."""

    @property
    def holds(self) -> bool:
        """It has processes."""
        return self.state in {"running", "ending"}

    def profile_key(self) -> str:
        """Its key; with several threads it is another unit, as far as memory goes."""
        return self.key if self.granted == 1 else f"{self.key}#{self.granted}"

    def id(self) -> UnitId:
        """What the profile is asked by."""
        return UnitId(self.build.package, self.build.toolkit, self.profile_key(), self.name, self.kind)

    def effective_bound(self) -> int:
        """Its bound, or more once it holds more: nobody knows where it will stop, least of all if it was a guess."""
        if self.usage <= self.bound.memory:
            return self.bound.memory
        return self.usage + self.usage // (4 if self.bound.source == "seen" else 2)

    def room(self) -> int | None:
        """Bytes that it may yet take; None where nobody knows: its bound is a guess, or it has gone beyond it."""
        known = self.bound.source == "seen" and self.usage <= self.bound.memory
        return self.bound.memory - self.usage if known else None

    def seconds_left(self, now: float) -> float:
        """By history; 0 where it has none."""
        if not self.bound.seconds:
            return 0.0
        return self.bound.seconds if not self.holds else max(0.5, self.bound.seconds - (now - self.started))


def gibibytes(size: int) -> str:
    """A size for people."""
    return f"{size / 2**30:.2f} GiB" if size >= 1 << 30 else f"{size / 2**20:.0f} MiB"
