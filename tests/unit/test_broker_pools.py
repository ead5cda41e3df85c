"""What a pool makes of its looks: how fast units and everything else fill it."""

from __future__ import annotations

from buildkit.guard.broker_pools import Level, PoolWatch
from buildkit.guard.pressure import Holder, relieve
from buildkit.machine.memory import Memory

MIB = 1 << 20
LIMIT = 5120 * MIB


class Pool:
    """A pool whose memory a test sets; bytes in MiB."""

    def __init__(self) -> None:
        self.free = 0
        self.watch = PoolWatch("group", lambda _usage: Level(Memory(LIMIT, self.free * MIB, "group"), LIMIT // 20))

    def look(self, at: float, *, units: int, free: int) -> None:
        self.free = free
        self.watch.update(at, units * MIB, fresh=True)


def test_a_compiler_that_ends_is_no_growth_of_something_else() -> None:
    """Its pages are freed after it has left /proc: seen as others' growth, they had a neighbour ended for nothing."""
    pool = Pool()
    pool.look(0.0, units=4170, free=600)
    pool.look(0.1, units=4170, free=600)
    pool.look(0.2, units=2100, free=600)
    left = Holder(1, 1, 2100 * MIB, room=200 * MIB)
    started = Holder(2, 2, 0, room=300 * MIB)
    assert pool.watch.reading.others == 0
    assert relieve(pool.watch.reading, [left, started]).end == ()


def test_what_units_and_others_take_is_told_apart() -> None:
    pool = Pool()
    pool.look(0.0, units=1000, free=3000)
    pool.look(0.1, units=1100, free=2700)
    assert round(pool.watch.reading.growth / MIB) == 1000
    assert round(pool.watch.reading.others / MIB) == 2000


def test_others_that_grow_while_a_unit_shrinks_are_seen_once_the_pool_fills() -> None:
    pool = Pool()
    pool.look(0.0, units=2000, free=1000)
    pool.look(0.1, units=1900, free=800)
    assert round(pool.watch.reading.others / MIB) == 2000
    assert relieve(pool.watch.reading, [Holder(1, 1, 1000 * MIB), Holder(2, 2, 900 * MIB)]).end == ()
    pool.look(0.2, units=1900, free=300)
    assert relieve(pool.watch.reading, [Holder(1, 1, 1000 * MIB), Holder(2, 2, 900 * MIB)]).end == (2,)
