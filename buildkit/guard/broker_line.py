"""The broker's state as the schedule sees it, and the order of the line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from buildkit.guard.broker_pools import PoolWatch
from buildkit.guard.broker_units import Build, UnitState
from buildkit.guard.pressure import Relief
from buildkit.guard.profile import Record, with_margin
from buildkit.guard.schedule import Pool, Unit

PATIENCE = 60.0
"""Seconds that an empty pool waits for memory that others hold, before a unit is tried all the same."""
SETTLE = 0.1
"""Seconds for which a build that nothing is known of looks at what comes before C++ takes the processors."""
MOST_SETTLED = 10
"""How often it does so: a configure step compiles its probes one by one."""
MOST_SIMULATED = 200
"""Units of a build up to which both lines are simulated: less than a second."""


def schedule_unit(unit: UnitState, now: float) -> Unit:
    """A unit for the schedule."""
    return Unit(
        name=unit.number,
        slot=unit.slot,
        bound=unit.effective_bound(),
        pools=unit.build.pools,
        cores=unit.granted,
        seconds=unit.seconds_left(now),
        ending=unit.state == "ending",
        preempted=unit.preempted,
        build=unit.build.token,
        sure=unit.bound.source == "seen",
    )


def schedule_pools(
    pools: Mapping[str, PoolWatch],
    builds: Iterable[Build],
    relief: Mapping[str, Relief],
    starved_since: Mapping[str, float],
    now: float,
) -> dict[str, Pool]:
    """All pools for the schedule, with what their builds are expected to bring yet."""
    to_come: dict[str, list[int]] = {name: [] for name in pools}
    for build in builds:
        bounds = [with_margin(record.bound) for record in build.to_come.values()]
        for name in build.pools:
            to_come[name] += bounds
    return {
        name: Pool(
            pool.budget,
            tuple(to_come[name]),
            held=relief.get(name, Relief()).hold,
            starved=now - starved_since.get(name, now - PATIENCE) < PATIENCE,
        )
        for name, pool in pools.items()
    }


def starved(pool: PoolWatch, inside: Sequence[UnitState], waiting: Sequence[UnitState]) -> bool:
    """Whether an empty pool has lost most of its memory to others, so that trying again at once is no use."""
    if inside or not waiting:
        return False
    smallest = min(unit.bound.memory for unit in waiting)
    return pool.budget < smallest and pool.budget < pool.most() // 4


def place_in_line(waiting: Sequence[UnitState]) -> None:
    """Deal the places of one build's waiting units out anew: the longest first. Of those whose time is unknown, device
    code comes before the rest (its units are the ones that a whole build waits for); otherwise they stay as they came.
    """
    slots = sorted(unit.slot for unit in waiting)
    longest = sorted(waiting, key=lambda unit: (-unit.bound.seconds, unit.kind != "nvcc", unit.slot))
    for unit, slot in zip(longest, slots, strict=True):
        unit.slot = slot


def settling(unit: UnitState, now: float) -> bool:
    """Whether a C++ unit waits a moment for longer ones, which were started together with it, to come into line."""
    build = unit.build
    return build.unknown and unit.kind == "cxx" and build.bursts <= MOST_SETTLED and now < build.burst + SETTLE


def longest_first(records: Iterable[Record], *, budget: int, cores: int, jobs: int, window: int) -> bool:
    """Whether a build like the last ones would be done earlier with its longest units first."""
    from buildkit.guard.simulate import Job, best_line

    known = [
        Job(record.name, record.seconds, with_margin(record.bound), with_margin(record.bound), record.kind)
        for record in records
        if record.seconds
    ]
    if len(known) < 3 or len(known) > MOST_SIMULATED or budget <= 0:
        return False
    return best_line(known, budget=budget, cores=min(cores, jobs), window=window)
