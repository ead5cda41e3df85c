"""How often the broker looks: as often as memory could run short, and no more often than that."""

from __future__ import annotations

import pytest

from buildkit.guard.pace import LONGEST, SHORTEST, USUAL, pause
from buildkit.guard.pressure import Reading

GIB = 1 << 30


def reading(limit: float, available: float, growth: float = 0.0, others: float = 0.0) -> Reading:
    return Reading(int(limit * GIB), int(available * GIB), 0, growth=growth * GIB, others=others * GIB)


DESKTOP = reading(24, 20)


@pytest.mark.parametrize(
    ("readings", "youngest", "expected"),
    [
        ([DESKTOP], 100.0, LONGEST),
        ([DESKTOP], 4.0, 0.2),
        ([DESKTOP], 0.0, USUAL),  # a unit has just begun
        ([reading(24, 20, growth=9)], 100.0, USUAL),  # in a second it would be below half
        ([reading(24, 20, others=9)], 100.0, USUAL),
        ([reading(24, 20, growth=-5, others=3)], 100.0, LONGEST),
        ([reading(24, 11)], 100.0, USUAL),
        ([reading(5, 4.5)], 100.0, LONGEST),
        ([reading(5, 3.9)], 100.0, USUAL),  # two processors can take 4 GiB in a second
        ([reading(24, 5)], 100.0, SHORTEST),
        ([reading(24, 10, growth=5)], 100.0, SHORTEST),
        ([DESKTOP, reading(4, 0.5)], 100.0, SHORTEST),  # the tightest counts
        ([DESKTOP, reading(4, 2)], 100.0, USUAL),
    ],
)
def test_the_pause_follows_the_memory(readings: list[Reading], youngest: float, expected: float) -> None:
    assert pause(readings, processors=2, youngest=youngest, cost=0.001) == pytest.approx(expected)


def test_many_processors_fill_memory_sooner() -> None:
    assert pause([DESKTOP], processors=16, youngest=100.0, cost=0.001) == USUAL


def test_looks_that_take_long_are_fewer_but_never_rare() -> None:
    tight = [reading(24, 5)]
    assert pause(tight, processors=2, youngest=9.0, cost=0.004) == pytest.approx(0.08)
    assert pause(tight, processors=2, youngest=9.0, cost=1.0) == USUAL
