"""When the broker looks at memory again (pure): a look is processor time that no compiler gets."""

from __future__ import annotations

from collections.abc import Collection

from buildkit.guard.pressure import Reading

SHORTEST, USUAL, LONGEST = 0.05, 0.1, 0.5
"""Seconds between two looks where memory may be short within a second, where it is not, where it cannot become so."""
_SHARE = 20  # looks may take a twentieth of one processor
_YOUNG = 20  # a unit is looked at this often in the time for which it has run, or as often as is usual
_TOUCHED = 2 << 30
"""Bytes of fresh memory that one processor can take in a second, at most: the kernel clears each page first."""


def pause(readings: Collection[Reading], *, processors: int, youngest: float, cost: float) -> float:
    """Seconds until the next look. ``readings`` are those of all pools, ``youngest`` the seconds for which the unit
    has run that was started last, ``cost`` the seconds that the last look took."""
    longest = min(LONGEST, max(USUAL, youngest / _YOUNG)) if _is_ample(readings, processors) else USUAL
    return min(longest, max(SHORTEST if _is_tight(readings) else longest, cost * _SHARE))


def _is_tight(readings: Collection[Reading]) -> bool:
    return any(one.available - _growth(one) < one.limit / 4 for one in readings)


def _is_ample(readings: Collection[Reading], processors: int) -> bool:
    """Between two looks, and even twice as long, half of each pool stays free, whatever all processors do."""
    touched = 2 * LONGEST * processors * _TOUCHED
    return all(one.available - 2 * LONGEST * _growth(one) > max(one.limit / 2, touched) for one in readings)


def _growth(one: Reading) -> float:
    return max(one.growth + one.others, 0.0)
