"""The critical path of a build (pure): the chain of compilations that its end waited for.

Walked backwards: from the run that ended last, each time to the run that ended last before the one in hand was started.
That end is what let it start: it gave back memory or a core, or was what the backend waited for. What lies between an
end and the next start is the wait for memory, as far as the later one stood in line, and else the backend's own time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from buildkit.guard.trace import Run, UnitTrace

_SAME = 0.002
"""Seconds that two moments may differ and yet be one: they are written in milliseconds."""


@dataclass(frozen=True)
class Link:
    """One run of the chain; before it ``waited`` seconds in line and ``backend`` seconds in which nothing of it ran."""

    unit: UnitTrace
    run: Run
    waited: float
    backend: float


@dataclass(frozen=True)
class CriticalPath:
    """The links in the order of time, and the seconds from the start of the first to the end of the last."""

    links: tuple[Link, ...] = ()
    seconds: float = 0.0

    def seconds_of(self, unit: UnitTrace) -> float:
        """How long runs of this compilation are on the path."""
        return sum(link.run.seconds for link in self.links if link.unit is unit)

    @property
    def waited(self) -> float:
        """Seconds in line on the way."""
        return sum(link.waited for link in self.links)

    @property
    def backend(self) -> float:
        """Seconds on the way in which none of it ran or stood in line."""
        return sum(link.backend for link in self.links)


def critical_path(units: Sequence[UnitTrace]) -> CriticalPath:
    """The path to the last end that is known; empty where nothing has ended."""
    ended = sorted(
        (
            (run.end, run.start, unit, run)
            for unit in units
            for run in unit.runs
            if run.end is not None and run.start is not None
        ),
        key=lambda one: one[:2],
    )
    if not ended:
        return CriticalPath()
    ends = [one[0] for one in ended]
    links: list[Link] = []
    place = len(ended) - 1
    while True:
        _, start, unit, run = ended[place]
        before = _before(ends, ended, place, start)
        if before is None:
            links.append(Link(unit, run, 0.0, 0.0))
            break
        gap = max(0.0, start - ends[before])
        waited = min(gap, run.wait)
        links.append(Link(unit, run, waited, gap - waited))
        place = before
    links.reverse()
    return CriticalPath(tuple(links), ends[-1] - (links[0].run.start or 0.0))


def _before(
    ends: Sequence[float], ended: Sequence[tuple[float, float, UnitTrace, Run]], place: int, start: float
) -> int | None:
    """The last run that had ended by then and began earlier, so that the walk comes to an end."""
    for other in range(min(bisect_right(ends, start + _SAME), place) - 1, -1, -1):
        if ended[other][1] < start:
            return other
    return None
