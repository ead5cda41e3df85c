"""What was learned of compilations (pure): an upper bound of the memory of each, and how long it takes.

A unit is known by its key (source, normalised flags, targets, threads; the shim's) and the toolkit's version. Of one
that was never seen the bound is taken from what is like it, in this order: the same key with another toolkit, the same
file of the same package with other flags, the package's units of this kind, all units of this kind, a prior.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

_MIB = 1 << 20
_GIB = 1 << 30

MARGIN = 1.06
SLACK = 24 * _MIB
"""Above what was measured: compilers' needs differ a little from run to run."""
DECAY = 0.15
"""How far a bound sinks towards a smaller peak at each build."""
RAISE = 1.5
"""By how much a bound rises above what a unit held when it was killed."""
QUANTILE = 0.5
"""An unseen unit is taken to be as the middle one of its like. Who exceeds that is tracked, and the newest pays: in
simulated first builds (median 0.75 GiB, a quarter at 3 GiB, 4-8 GiB of memory) this takes 0.4-0.66 of the time of the
safe static number of jobs, 0.8 takes 0.86-0.95."""
RECENT = 3
"""Builds after which a unit that is not met any more is no longer expected."""
PRIOR: Mapping[str, int] = {"nvcc": 5 * _GIB // 2, "cxx": 2 * _GIB, "cc": 512 * _MIB, "link": 1 * _GIB}
"""Bytes of a unit of which nothing is known (``torch/extension.h`` alone takes 2 GiB)."""

Source = Literal["seen", "killed", "toolkit", "file", "package", "class", "prior"]


@dataclass(frozen=True)
class Record:
    """One unit's history. ``bound``: the decayed largest peak (bytes, no margin); ``kills`` since it ended well."""

    name: str
    kind: str
    bound: int
    peak: int
    seconds: float
    seen: int = 1
    kills: int = 0
    build: int = 0
    """Serial number of the package's build that saw it last."""
    order: int = 0
    """Its place among that build's units, as they came."""


@dataclass(frozen=True)
class Bound:
    """Bytes at most, the seconds it will take (0: unknown), and where this was taken from."""

    memory: int
    seconds: float
    source: Source


@dataclass
class PackageProfile:
    """What is known of one package: records by (unit key, toolkit), and how many builds have written here."""

    builds: int = 0
    records: dict[tuple[str, str], Record] = field(default_factory=dict)

    def expected_units(self, toolkit: str) -> dict[str, Record]:
        """The units of the last builds with this toolkit, by key, as they came. (The very last may have been resumed,
        and have met few of them.)"""
        mine = {key: record for (key, with_toolkit), record in self.records.items() if with_toolkit == toolkit}
        last = max((record.build for record in mine.values()), default=0)
        recent = (item for item in mine.items() if item[1].build > last - RECENT)
        return dict(sorted(recent, key=lambda item: item[1].order))


@dataclass(frozen=True)
class UnitId:
    """What a unit is asked about by."""

    package: str
    toolkit: str
    key: str
    name: str
    kind: str


def with_margin(bound: int) -> int:
    """The bound to plan with, for a bound that was measured."""
    return round(bound * MARGIN) + SLACK


def learned(record: Record | None, unit: UnitId, *, peak: int, seconds: float, build: int, order: int = 0) -> Record:
    """The record after the unit has ended well: a larger peak counts at once, a smaller one slowly. (A bound that was
    only guessed when the unit was killed, before it had ever ended well, is replaced.)"""
    sunk = peak if record is None or not record.seen else record.bound - round((record.bound - peak) * DECAY)
    seen = 1 + (record.seen if record else 0)
    return Record(unit.name, unit.kind, max(peak, sunk), peak, seconds, seen=seen, build=build, order=order)


def raised(record: Record | None, unit: UnitId, *, usage: int, bound: int, build: int) -> Record:
    """The record after the unit was killed while it held ``usage``, with ``bound`` planned for it."""
    above = max(round(usage * RAISE), bound if usage < bound else round(bound * RAISE))
    if record is None:
        return Record(unit.name, unit.kind, above, usage, 0.0, seen=0, kills=1, build=build)
    return replace(record, bound=max(above, record.bound), peak=max(usage, record.peak), kills=record.kills + 1)


def quantile(values: Iterable[int], share: float) -> int:
    """The smallest value that at least ``share`` of the values do not exceed. Raises ValueError for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def bound_of(unit: UnitId, packages: Mapping[str, PackageProfile], *, prior: int = 0) -> Bound:
    """The best that is known of a unit. ``prior``: bytes for one of which nothing is, in place of ours (0: ours)."""
    own = packages.get(unit.package, PackageProfile())
    record = own.records.get((unit.key, unit.toolkit))
    if record is not None:
        return Bound(with_margin(record.bound), record.seconds, "seen" if record.seen else "killed")
    for source, records in _like(unit, own, packages):
        found = list(records)
        if found:
            memory = quantile((one.bound for one in found), QUANTILE if source in {"package", "class"} else 1.0)
            seconds = max(one.seconds for one in found) if source == "toolkit" else 0.0
            return Bound(_widened(memory, len(found), source), seconds, source)
    return Bound(prior or PRIOR.get(unit.kind, PRIOR["nvcc"]), 0.0, "prior")


def _like(
    unit: UnitId, own: PackageProfile, packages: Mapping[str, PackageProfile]
) -> Iterator[tuple[Source, Iterator[Record]]]:
    """Records of what is like the unit, the nearest first."""
    yield "toolkit", (record for (key, _), record in own.records.items() if key == unit.key)
    kind = [record for record in own.records.values() if record.kind == unit.kind]
    yield "file", (record for record in kind if record.name == unit.name)
    yield "package", iter(kind)
    everywhere = (record for package in packages.values() for record in package.records.values())
    yield "class", (record for record in everywhere if record.kind == unit.kind)


def _widened(memory: int, count: int, source: Source) -> int:
    """With the margin; from a few units more than from many."""
    few = 1.0 + 1.0 / (1 + count) if source in {"package", "class"} else 1.1
    return with_margin(round(memory * few))
