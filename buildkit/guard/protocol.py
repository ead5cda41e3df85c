"""What the guard and its supervisor say to each other, and what the guard tells its caller.

The supervisor (``csrc/supervisor/main.c``) writes lines to a socket: ``started PID CONTAINMENT ISOLATION [FOLDER]``,
``refused ERRNO`` or ``lacking ERRNO``, then ``exited RETURNCODE`` and ``ended SURVIVORS``. The only word it is sent
is ``end``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Reason = Literal["exited", "timeout", "stalled", "interrupted", "terminated"]
Containment = Literal["cgroup", "namespace", "subreaper"]
Isolation = Literal["namespace", "none"]
Sources = Literal["isolated", "trusted"]

SOURCES: dict[Isolation, Sources] = {"namespace": "isolated", "none": "trusted"}
"""What an isolation means for a source's own code: ``trusted``, nothing kept it from reading and writing the store."""

END = b"end\n"


@dataclass(frozen=True)
class Sample:
    """The process tree now: resident bytes, processor seconds used so far, live processes, seconds since the start."""

    memory: int
    cpu_seconds: float
    processes: int
    elapsed: float


@dataclass(frozen=True)
class Outcome:
    """How a guarded command ended.

    ``containment``: what held its processes. ``cgroup``: a leaf of its own, with a pid namespace in it where that is
    permitted; ``namespace``: a pid namespace; ``subreaper``: nothing but the supervisor's sweeping.

    ``returncode`` is negative for a signal. ``peak_memory`` is the largest sampled sum of resident bytes of the tree.
    ``survivors`` counts processes that could not be ended. ``isolation`` is ``none`` where the kernel or a container's
    rules permit no namespaces: then nothing kept the command from writing into protected folders.
    """

    returncode: int
    reason: Reason
    peak_memory: int
    containment: Containment
    survivors: int
    seconds: float
    isolation: Isolation


@dataclass(frozen=True)
class Started:
    """The command runs; ``cgroup`` is the folder of its cgroup, if it has one."""

    pid: int
    containment: Containment
    isolation: Isolation
    cgroup: Path | None


@dataclass(frozen=True)
class Refused:
    """The command could not be started (errno)."""

    error: int


@dataclass(frozen=True)
class Lacking:
    """The containment that was insisted on cannot be had (errno): nothing was started."""

    error: int


@dataclass(frozen=True)
class Exited:
    """The command itself has ended."""

    returncode: int


@dataclass(frozen=True)
class Ended:
    """All that it started has ended, but for so many."""

    survivors: int


Message = Started | Refused | Lacking | Exited | Ended


def parse_message(line: str) -> Message:
    """One line of the supervisor; ``ValueError`` for anything it does not say."""
    word, _, rest = line.partition(" ")
    if word == "refused":
        return Refused(int(rest))
    if word == "lacking":
        return Lacking(int(rest))
    if word == "exited":
        return Exited(int(rest))
    if word == "ended":
        return Ended(int(rest))
    if word != "started":
        raise ValueError(f"not a message of the supervisor: {line!r}")
    pid, containment, isolation, folder = (*rest.split(" ", 3), "")[:4]
    return Started(
        int(pid),
        "cgroup" if containment == "cgroup" else "namespace" if containment == "namespace" else "subreaper",
        "namespace" if isolation == "namespace" else "none",
        Path(folder) if folder else None,
    )
