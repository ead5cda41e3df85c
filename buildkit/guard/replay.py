"""A traced build as jobs for the simulator (pure): what it would have taken with other memory, cores, schedules."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from buildkit.guard.simulate import Job
from buildkit.guard.trace import Trace


@dataclass(frozen=True)
class Interval:
    """One run of a unit to its good end: seconds since the guard took over, its peak (bytes), its place in line."""

    name: str
    key: str
    kind: str
    order: int
    begin: float
    end: float
    peak: int


def intervals_of(trace: Trace) -> list[Interval]:
    """The units that ended well, as they came."""
    found = []
    for unit in trace.units:
        last = unit.runs[-1]
        if last.outcome == "done" and last.start is not None and last.end is not None:
            found.append(Interval(unit.name, unit.key, unit.kind, unit.order, last.start, last.end, last.peak))
    return sorted(found, key=lambda one: one.order)


def recorded_seconds(intervals: Sequence[Interval]) -> float:
    """From the first start to the last end."""
    return max(one.end for one in intervals) - min(one.begin for one in intervals)


def jobs_of(intervals: Sequence[Interval], speed: Sequence[float] = (1.0,)) -> list[Job]:
    """Jobs with the work that each was: its time, less what it lost to the others beside it (see ``simulate``)."""
    edges = sorted({edge for one in intervals for edge in (one.begin, one.end)})
    work = dict.fromkeys(range(len(intervals)), 0.0)
    for begin, end in itertools.pairwise(edges):
        running = [number for number, one in enumerate(intervals) if one.begin <= begin and end <= one.end]
        for number in running:
            work[number] += (end - begin) * speed[min(len(running), len(speed)) - 1]
    return [Job(one.key, work[number], one.peak, one.peak, one.kind) for number, one in enumerate(intervals)]
