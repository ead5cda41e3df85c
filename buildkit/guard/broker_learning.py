"""What the end of a unit teaches, and what is said of one that cannot be built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from buildkit.guard.broker_pools import PoolWatch
from buildkit.guard.broker_units import UnitState, gibibytes
from buildkit.guard.profile import bound_of, learned, raised

OTHERS = "by something else on this machine"
_KILLERS = {
    "out-of-memory": "by the kernel, for want of memory",
    "killed-outside": f"{OTHERS} (signal 9, and the kernel counts no kill for memory)",
    "memory": "because memory ran short",
}
_SMALL = 64 << 20  # bytes; nothing takes more within one look


def learn(unit: UnitState, seconds: float, others: Iterable[UnitState]) -> None:
    """It ended well. Those of its build that wait and were never seen themselves are better known now, too."""
    records = unit.build.profile.package(unit.build.package).records
    key = (unit.profile_key(), unit.build.toolkit)
    unit.peak = unit.peak or _SMALL  # over before the first look
    records[key] = learned(
        records.get(key), unit.id(), peak=unit.peak, seconds=seconds, build=unit.build.serial, order=unit.order
    )
    for one in others:
        if one.state == "waiting" and one.build is unit.build and one.bound.source not in {"seen", "killed"}:
            one.bound = bound_of(one.id(), one.build.profile.packages, prior=one.build.prior)


def raise_bound(unit: UnitState) -> None:
    """It was killed for what it held itself, or by somebody else."""
    records = unit.build.profile.package(unit.build.package).records
    key = (unit.profile_key(), unit.build.toolkit)
    records[key] = raised(
        records.get(key), unit.id(), usage=unit.peak, bound=unit.bound.memory, build=unit.build.serial
    )
    unit.bound = bound_of(unit.id(), unit.build.profile.packages)


def failure_text(unit: UnitState, pools: Sequence[PoolWatch], why: str) -> str:
    """By name, with its peak and with what there is."""
    tightest = min(pools, key=lambda pool: pool.most())
    limit = f"{gibibytes(tightest.limit)} ({tightest.source})"
    if why == "too-big":
        return (
            f"{unit.name} needs more memory than there is: alone it held {gibibytes(unit.peak)} "
            f"and was still growing, in {limit}"
        )
    by = _KILLERS.get(why, why)
    return f"{unit.name} was killed {unit.strikes} times {by}; it held up to {gibibytes(unit.peak)}, in {limit}"
