"""A recorded build as jobs for the simulator (pure): what it would have taken with other memory, cores, schedules.

A record is the broker's events, one mapping each, as a build's client hears them (values may be text).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from buildkit.guard.simulate import Job

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Interval:
    """One run of one unit to its good end: seconds of the monotonic clock, its peak (bytes), its place as they came."""

    name: str
    key: str
    kind: str
    order: int
    begin: float
    end: float
    peak: int


def intervals_of(events: Iterable[Event]) -> list[Interval]:
    """The units that ended well, as they came. Raises KeyError or ValueError for what is no record."""
    found = []
    for event in events:
        if event.get("what") == "ended" and int(event["code"]) == 0:
            end = float(event["at"])
            begin = end - float(event["seconds"])
            who = (str(event["name"]), str(event["key"]), str(event["kind"]), int(event["order"]))
            found.append(Interval(*who, begin, end, int(event["peak"])))
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
