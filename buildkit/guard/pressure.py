"""When memory runs short (pure): stop admitting; end the newest units; never the oldest; at last the lone one.

Memory is looked at every 50-100 ms, and ending a process of some GiB takes a while, so what counts is where the
memory will be by then: what is free now, less what the growth of the last looks makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MIB = 1 << 20

HORIZON = 0.35
"""Seconds from one look until memory that is ordered back is there: a look, the order, the end of a big process."""
ALONE_HORIZON = 0.1
"""The same for the last unit of a pool: it is ended only when the kernel would do it next."""
FLOOR_SHARE = 3
"""Below a third of the reserve, units are ended; admission stops above it already."""
STALLED = 0.25
"""Share of time in which everything waited for memory (PSI ``full``) from which on nothing more starts."""


@dataclass(frozen=True)
class Holder:
    """A running unit: what its tree holds now (bytes). ``ending``: it has been told to end. ``room``: what it may yet
    take by its measured bound; None where there is none, or it has gone beyond it."""

    name: int
    slot: int
    usage: int
    ending: bool = False
    room: int | None = None


@dataclass(frozen=True)
class Reading:
    """A pool now: its limit, what is free below it (page cache counts as free), its reserve (bytes), how fast its units
    and everything else fill it (bytes a second, of the last looks), and the share of time in which all stalled."""

    limit: int
    available: int
    reserve: int
    growth: float = 0.0
    others: float = 0.0
    stalled: float = 0.0


@dataclass(frozen=True)
class Relief:
    """``hold``: start nothing here; ``end``: units to end and requeue; ``lone``: this one does not fit even alone."""

    hold: bool = False
    end: tuple[int, ...] = ()
    lone: int | None = None


def relieve(reading: Reading, holders: Sequence[Holder]) -> Relief:
    """The next step of the ladder for one pool."""
    coming = sum(holder.usage for holder in holders if holder.ending)
    line = sorted((holder for holder in holders if not holder.ending), key=lambda holder: holder.slot)
    floor = reading.reserve // FLOOR_SHARE
    short = floor - _expected(reading, HORIZON, line) - coming
    if len(line) > 1 and short > 0:
        return Relief(hold=True, end=_newest(line, short))
    if len(line) == 1 and not coming and _last_moment(reading, line[0]):
        return Relief(hold=True, lone=line[0].name)
    return Relief(hold=reading.available < 2 * floor or reading.stalled >= STALLED)


def _expected(reading: Reading, seconds: float, line: Sequence[Holder]) -> int:
    """Bytes that will be free then, if the growth goes on; units whose bounds are known grow no further than those."""
    units = max(reading.growth, 0.0) * seconds
    rooms = [holder.room for holder in line if holder.room is not None]
    if len(rooms) == len(line):
        units = min(units, sum(rooms))
    return reading.available - round(units + max(reading.others, 0.0) * seconds)


def _newest(line: Sequence[Holder], short: int) -> tuple[int, ...]:
    """The newest ones that give back what is short, but never the oldest."""
    chosen: list[int] = []
    for holder in reversed(line[1:]):
        chosen.append(holder.name)
        short -= holder.usage
        if short <= 0:
            break
    return tuple(chosen)


def _last_moment(reading: Reading, holder: Holder) -> bool:
    """Whether the kernel would soon kill the last unit. One that holds little is not what fills the pool."""
    floor = min(reading.limit // 100, 64 * _MIB)
    return _expected(reading, ALONE_HORIZON, [holder]) < floor and holder.usage > reading.available
