"""What workers do to the queue: they take builds under a lease, give signs, hand them on, and write how they ended."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from buildkit.service.database import Database
from buildkit.service.queue import Row
from buildkit.service.tables import BUILDS, WORKERS
from buildkit.store.model import utc_now

FORGOTTEN = 24 * 3600.0
"""Seconds without a sign after which a worker is not listed any more."""


@dataclass(frozen=True)
class Self:
    """Which worker this is. ``place`` is the id of its cache; ``pid``, ``start`` and ``boot`` name its process."""

    id: str
    host: str
    place: str
    pid: int
    start: int
    boot: str
    slots: int


class Claims:
    """A worker's hands on the queue. Raises DatabaseError. ``lease`` is in seconds."""

    def __init__(self, database: Database, me: Self, lease: float) -> None:
        self.database, self.me, self.lease = database, me, lease

    def sign_on(self) -> None:
        """Be listed among the workers."""
        values = {**vars(self.me), "started": utc_now(), "seen": time.time()}
        with self.database.write() as connection:
            connection.execute(delete(WORKERS).where(WORKERS.c.id == self.me.id))
            connection.execute(delete(WORKERS).where(WORKERS.c.seen < time.time() - FORGOTTEN))
            connection.execute(insert(WORKERS).values(**values))

    def sign_off(self) -> None:
        """Leave; what this worker held may be taken at once."""
        mine = and_(BUILDS.c.worker == self.me.id, BUILDS.c.status.in_(("queued", "running")))
        with self.database.write() as connection:
            connection.execute(update(BUILDS).where(mine, BUILDS.c.status == "queued").values(worker=None, lease=0.0))
            connection.execute(update(BUILDS).where(mine).values(lease=0.0))
            connection.execute(delete(WORKERS).where(WORKERS.c.id == self.me.id))

    def beat(self) -> None:
        """Give a sign, and hold what is held."""
        now = time.time()
        mine = and_(BUILDS.c.worker == self.me.id, BUILDS.c.status.in_(("queued", "running")))
        with self.database.write() as connection:
            known = connection.execute(update(WORKERS).where(WORKERS.c.id == self.me.id).values(seen=now))
            connection.execute(update(BUILDS).where(mine).values(lease=now + self.lease))
        if not known.rowcount:  # silent for so long that another one has struck it off
            self.sign_on()

    def mine(self) -> list[Row]:
        """The running builds that this worker watches."""
        asked = select(BUILDS).where(BUILDS.c.worker == self.me.id, BUILDS.c.status == "running")
        with self.database.read() as connection:
            return list(connection.execute(asked).mappings())

    def others(self) -> list[Row]:
        """Workers of this very cache beside this one."""
        asked = select(WORKERS).where(WORKERS.c.place == self.me.place, WORKERS.c.id != self.me.id)
        with self.database.read() as connection:
            return list(connection.execute(asked).mappings())

    def adopt(self, gone: Collection[str], silence: float) -> list[Row]:
        """Take over the running builds of this cache whose worker is gone: known to be, or without a sign. What such a
        worker was about to begin waits again.

        Builds of another cache whose worker gave no sign for ``silence`` seconds are taken as well: to be queued
        again, since nobody here can see what became of them.
        """
        now = time.time()
        lost = or_(BUILDS.c.lease < now, BUILDS.c.worker.in_(list(gone)))
        free = or_(
            and_(BUILDS.c.place == self.me.place, lost),
            and_(BUILDS.c.place != self.me.place, BUILDS.c.lease < now - silence),
        )
        theirs = and_(BUILDS.c.status == "running", or_(BUILDS.c.worker != self.me.id, BUILDS.c.worker.is_(None)), free)
        waiting = and_(BUILDS.c.status == "queued", BUILDS.c.worker.in_(list(gone)))
        with self.database.write() as connection:
            connection.execute(update(BUILDS).where(waiting).values(worker=None, lease=0.0))
            names = list(connection.execute(select(BUILDS.c.id).where(theirs)).scalars())
            taken = update(BUILDS).where(theirs).values(worker=self.me.id, lease=now + self.lease)
            if not names or not connection.execute(taken).rowcount:
                return []
            return list(connection.execute(select(BUILDS).where(BUILDS.c.id.in_(names))).mappings())

    def take(self) -> Row | None:
        """The next build to plan, held from now on; None where none waits that may begin."""
        for _ in range(5):
            now = time.time()
            with self.database.write() as connection:
                row = connection.execute(_next(now).limit(1)).mappings().first()
                if row is None:
                    return None
                taken = connection.execute(
                    update(BUILDS)
                    .where(BUILDS.c.id == row["id"], _takeable(now))
                    .values(worker=self.me.id, lease=now + self.lease)
                )
            if taken.rowcount:
                return row
        return None

    def begin(self, row: Row, build: str, *, key: str | None, plan: Any) -> bool:
        """Write that a build runs, under this id. False where another one of the same key does: it waits for that."""
        values = {"status": "running", "build": build, "started": utc_now(), "place": self.me.place, "note": ""}
        try:
            return self._change(row, {**values, "key": key, "plan": plan}, "queued")
        except IntegrityError:
            note = "another build makes the same wheel: waits for it"
            self._change(row, {"key": key, "plan": plan, "worker": None, "lease": 0.0, "note": note}, "queued")
            return False

    def write(self, row: Row, values: dict[str, Any]) -> bool:
        """Change a build that this worker holds; False where it does not hold it any more."""
        return self._change(row, values, "queued", "running")

    def _change(self, row: Row, values: dict[str, Any], *statuses: str) -> bool:
        held = and_(BUILDS.c.id == row["id"], BUILDS.c.worker == self.me.id, BUILDS.c.status.in_(statuses))
        with self.database.write() as connection:
            return bool(connection.execute(update(BUILDS).where(held).values(**values)).rowcount)

    def is_cancelled(self, row: Row) -> bool:
        """Whether its end was asked for meanwhile."""
        with self.database.read() as connection:
            asked = select(BUILDS.c.cancelling).where(BUILDS.c.id == row["id"])
            return bool(connection.execute(asked).scalar())


def _takeable(now: float) -> Any:
    return and_(BUILDS.c.status == "queued", or_(BUILDS.c.worker.is_(None), BUILDS.c.lease < now))


def _next(now: float) -> Select[Any]:
    """Those that wait, best first; without those whose wheel is being made."""
    other = BUILDS.alias("other")
    running = select(other.c.key).where(other.c.status == "running", other.c.key.is_not(None))
    free = or_(BUILDS.c.key.is_(None), BUILDS.c.key.not_in(running))
    ready = and_(_takeable(now), BUILDS.c.not_before <= now, free)
    return select(BUILDS).where(ready).order_by(BUILDS.c.priority.desc(), BUILDS.c.seq)


def workers_of(database: Database, since: float) -> tuple[Sequence[Row], dict[str, list[str]]]:
    """All workers with a sign since then (seconds since the epoch), and what each runs."""
    with database.read() as connection:
        listed = connection.execute(select(WORKERS).where(WORKERS.c.seen >= since).order_by(WORKERS.c.started))
        found = list(listed.mappings())
        running: dict[str, list[str]] = {}
        held = select(BUILDS.c.id, BUILDS.c.worker).where(BUILDS.c.status == "running")
        for name, worker in connection.execute(held):
            running.setdefault(worker or "", []).append(name)
    return found, running


def waiting(database: Database) -> int:
    """How many builds wait."""
    with database.read() as connection:
        return connection.execute(select(func.count()).where(BUILDS.c.status == "queued")).scalar_one()
