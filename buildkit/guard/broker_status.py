"""What the broker answers to whoever asks how things are: its pools, builds and units, one message each."""

from __future__ import annotations

import os

from buildkit.guard.broker_core import Core
from buildkit.guard.broker_units import Build, Link, UnitState
from buildkit.guard.wire import VERSION


def status_of(core: Core, link: Link, now: float) -> None:
    """Tell everything; no tokens. Sizes in bytes, times in seconds. The last message is ``end``."""
    link.send("broker", v=VERSION, pid=os.getpid(), builds=len(core.builds))
    for pool in core.pools.values():
        reading = pool.reading
        link.send(
            "pool", name=pool.name, source=pool.source, limit=reading.limit, available=reading.available,
            budget=pool.budget,
        )  # fmt: skip
    for number, build in enumerate(core.builds.values(), start=1):
        units = [unit for unit in core.units.values() if unit.build is build]
        _tell_build(core, link, build, number, units, now)
        for unit in units:
            _tell_unit(link, unit, number, now)
    link.send("end")


def _tell_build(core: Core, link: Link, build: Build, number: int, units: list[UnitState], now: float) -> None:
    tightest = min((core.pools[name] for name in build.pools), key=lambda pool: pool.budget)
    link.send(
        "build", build=number, id=build.name, package=build.package, pid=build.link.pid, seconds=now - build.began,
        jobs=build.jobs, usage=sum(unit.usage for unit in units), budget=tightest.budget, pool=tightest.name,
        done=build.done, killed=build.killed,
    )  # fmt: skip


def _tell_unit(link: Link, unit: UnitState, number: int, now: float) -> None:
    since = unit.started if unit.holds else unit.arrived
    link.send(
        "unit", build=number, name=unit.name, kind=unit.kind, state=unit.state, seconds=max(0.0, now - since),
        usage=unit.usage, peak=unit.peak, bound=unit.bound.memory, strikes=unit.strikes, pid=unit.root,
    )  # fmt: skip
