"""In which order cells are begun, and how long that takes: list scheduling, the longest first. Pure.

The longest first is at most 4/3 of the best there is where the times are known (Graham 1969); how far estimates of an
earlier run keep to that is what `benchmarks/matrix_makespan.py` shows.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence


def longest_first(cells: Sequence[str], seconds: Mapping[str, float | None]) -> list[str]:
    """The cells in the order in which they are begun. One of which nothing is known may be the longest: it is taken to
    be as long as the longest known one. Of equal ones the first named is first."""
    known = [value for value in seconds.values() if value is not None]
    unknown = max(known, default=0.0)

    def length(cell: str) -> float:
        value = seconds.get(cell)
        return unknown if value is None else value

    return sorted(cells, key=length, reverse=True)


def makespan(order: Sequence[str], seconds: Mapping[str, float], slots: int) -> float:
    """Seconds until all are done, when each is begun in this order as soon as one of ``slots`` is free."""
    free = [0.0] * max(1, slots)
    end = 0.0
    for cell in order:
        done = heapq.heappop(free) + seconds[cell]
        heapq.heappush(free, done)
        end = max(end, done)
    return end


def lower_bound(seconds: Mapping[str, float], slots: int) -> float:
    """No order takes less: all the work over all slots, and the longest cell."""
    if not seconds:
        return 0.0
    return max(sum(seconds.values()) / max(1, slots), *seconds.values())
