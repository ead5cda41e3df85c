"""The queue: what people do to it. Durable, one flight for the same request; who runs builds stands in `claims`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, false, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from buildkit.errors import CannotCancel, CudabuildError, UsageError
from buildkit.service.answers import ENDED, BuildRequest
from buildkit.service.database import Database
from buildkit.service.tables import ASKED, BUILDS
from buildkit.store.model import utc_now

Row = Mapping[Any, Any]
ACTIVE = ("queued", "running")
_AGAIN = 8
"""Times that a submission is tried against others that come at the same moment."""


class Conflict(UsageError):
    """What was asked for contradicts what is there (409)."""


class QueueFull(CudabuildError):
    """As many builds wait as may (503)."""


class Queue:
    """Builds in the database. Raises DatabaseError."""

    def __init__(self, database: Database, *, limit: int = 10_000) -> None:
        self.database = database
        self._limit = limit

    # Submitting

    def submit(
        self, request: BuildRequest, fingerprint: str, *, who: str, idempotency: str | None = None
    ) -> tuple[Row, bool]:
        """The build that this request leads to, and whether it is a new one.

        The same request as one that waits or runs is that one, whoever asked; its priority becomes the higher of
        both. Raises Conflict for an idempotency key that came with another request, and QueueFull.
        """
        for _ in range(_AGAIN):
            try:
                with self.database.write() as connection:
                    return self._submit(connection, request, fingerprint, who, idempotency)
            except IntegrityError:  # noqa: PERF203 - another submission was faster: now it is there
                continue
        raise QueueFull("too many of the same requests at once", hint="try again in a moment")

    def _submit(
        self, connection: Connection, request: BuildRequest, fingerprint: str, who: str, idempotency: str | None
    ) -> tuple[Row, bool]:
        if idempotency is not None and (known := _asked(connection, who, idempotency)) is not None:
            if known["fingerprint"] != fingerprint:
                text = f"the idempotency key {idempotency!r} came with another request before"
                raise Conflict(text, hint="send a new key with a new request")
            return _one(connection, BUILDS.c.id == known["build"]), False
        active = and_(BUILDS.c.fingerprint.in_(_forms(fingerprint)), BUILDS.c.status.in_(ACTIVE))
        same = and_(active, BUILDS.c.cancelling.is_(False))
        row: Row | None = connection.execute(select(BUILDS).where(same)).mappings().first()
        is_new = row is None
        if row is None:
            ending = set(connection.execute(select(BUILDS.c.fingerprint).where(active, BUILDS.c.cancelling)).scalars())
            free = [form for form in _forms(fingerprint) if form not in ending]
            row = self._insert(connection, request, free[0] if free else fingerprint, who)
        elif row["priority"] < request.priority:
            connection.execute(update(BUILDS).where(same).values(priority=request.priority))
            row = {**row, "priority": request.priority}
        if idempotency is not None:
            asked = {"requested_by": who, "idempotency": idempotency, "fingerprint": fingerprint, "build": row["id"]}
            connection.execute(insert(ASKED).values(**asked, created=utc_now()))
        return row, is_new

    def _insert(self, connection: Connection, request: BuildRequest, fingerprint: str, who: str) -> Row:
        waiting = connection.execute(select(func.count()).where(BUILDS.c.status == "queued")).scalar_one()
        if waiting >= self._limit:
            raise QueueFull(f"{waiting} builds wait, and no more may", hint="try again when some have ended")
        name = secrets.token_hex(8)
        values = {
            "id": name,
            "status": "queued",
            "recipe": request.recipe,
            "request": request.model_dump(mode="json"),
            "fingerprint": fingerprint,
            "priority": request.priority,
            "requested_by": who,
            "created": utc_now(),
            "not_before": 0.0,
            "attempt": 1,
            "tries": [],
            "lease": 0.0,
            "cancelling": False,
            "note": "",
        }
        connection.execute(insert(BUILDS).values(**values))
        return _one(connection, BUILDS.c.id == name)

    # Asking

    def get(self, identifier: str) -> Row | None:
        """A build by its id."""
        with self.database.read() as connection:
            return connection.execute(select(BUILDS).where(BUILDS.c.id == identifier)).mappings().first()

    def find(self, text: str) -> Row | None:
        """The newest build meant by an id, an id of its cache's, ``last``, a recipe's name, or a key's beginning."""
        escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        meant = (
            BUILDS.c.id == text,
            BUILDS.c.build == text,
            BUILDS.c.recipe == text,
            BUILDS.c.key.like(f"{escaped}%", escape="\\") if len(text) >= 4 else false(),
        )
        with self.database.read() as connection:
            for condition in (select(BUILDS),) if text == "last" else (select(BUILDS).where(one) for one in meant):
                row = connection.execute(condition.order_by(BUILDS.c.seq.desc()).limit(1)).mappings().first()
                if row is not None:
                    return row
        return None

    def newest_first(
        self, *, recipe: str | None = None, status: str | None = None, limit: int = 50, after: int | None = None
    ) -> list[Row]:
        """Builds whose number is below ``after``."""
        asked = select(BUILDS).order_by(BUILDS.c.seq.desc()).limit(limit)
        if recipe is not None:
            asked = asked.where(BUILDS.c.recipe == recipe)
        if status is not None:
            asked = asked.where(BUILDS.c.status == status)
        if after is not None:
            asked = asked.where(BUILDS.c.seq < after)
        with self.database.read() as connection:
            return list(connection.execute(asked).mappings())

    def positions(self, rows: Sequence[Row]) -> dict[str, int]:
        """The place in the queue, from 1, of those that wait."""
        waiting = [row["id"] for row in rows if row["status"] == "queued"]
        if not waiting:
            return {}
        if len(waiting) == 1:
            return {waiting[0]: self._position(next(row for row in rows if row["status"] == "queued"))}
        order = select(BUILDS.c.id).where(BUILDS.c.status == "queued").order_by(BUILDS.c.priority.desc(), BUILDS.c.seq)
        with self.database.read() as connection:
            places = {name: place for place, name in enumerate(connection.execute(order).scalars(), start=1)}
        return {name: places[name] for name in waiting if name in places}

    def _position(self, row: Row) -> int:
        same = and_(BUILDS.c.priority == row["priority"], BUILDS.c.seq < row["seq"])
        before = and_(BUILDS.c.status == "queued", or_(BUILDS.c.priority > row["priority"], same))
        with self.database.read() as connection:
            return 1 + int(connection.execute(select(func.count()).where(before)).scalar_one())

    def counts(self) -> dict[str, int]:
        """How many builds there are of each status."""
        asked = select(BUILDS.c.status, func.count()).group_by(BUILDS.c.status)
        with self.database.read() as connection:
            return {str(status): int(count) for status, count in connection.execute(asked)}

    # Changing

    def cancel(self, identifier: str) -> Row:
        """End a build: one that waits at once; of one that runs its worker is asked to. Raises CannotCancel."""
        free = or_(BUILDS.c.worker.is_(None), BUILDS.c.lease < time.time())
        with self.database.write() as connection:
            here = BUILDS.c.id == identifier
            row = _one(connection, here)
            if row["status"] in ENDED:
                text = f"build {identifier} is not running: it {row['status']} before"
                raise CannotCancel(text, hint=f"cudabuild log {identifier}")
            ended = {"status": "cancelled", "ended": utc_now(), "error": CANCELLED, "exit_code": 143, "worker": None}
            waits = connection.execute(update(BUILDS).where(here, BUILDS.c.status == "queued", free).values(**ended))
            if not waits.rowcount:
                connection.execute(update(BUILDS).where(here, BUILDS.c.status.in_(ACTIVE)).values(cancelling=True))
            return _one(connection, here)

    def retry(self, identifier: str) -> Row:
        """Queue one again that failed or was cancelled. Raises Conflict for others."""
        try:
            return self._retry(identifier)
        except IntegrityError as error:  # somebody asked for the same at this very moment
            raise Conflict("the same is built at this moment", hint="cudabuild log last --follow") from error

    def _retry(self, identifier: str) -> Row:
        with self.database.write() as connection:
            here = BUILDS.c.id == identifier
            row = _one(connection, here)
            if row["status"] not in {"failed", "cancelled"}:
                text = f"build {identifier} cannot be tried again: it {_how(row['status'])}"
                raise Conflict(text, hint=f"look at it: cudabuild log {identifier}")
            same = and_(BUILDS.c.fingerprint == row["fingerprint"], BUILDS.c.status.in_(ACTIVE))
            other = connection.execute(select(BUILDS.c.id).where(same)).scalar()
            if other is not None:
                raise Conflict(f"the same is built by {other} at this moment", hint=f"cudabuild log {other} --follow")
            connection.execute(update(BUILDS).where(here).values(**again(row, "retry")))
            return _one(connection, here)


CANCELLED = {"kind": "cancelled", "exit_code": 143, "message": "cancelled before it began", "evidence": "", "hint": ""}


def again(row: Row, cause: str, *, not_before: float = 0.0, note: str = "") -> dict[str, Any]:
    """What is written of a build that is queued once more; the attempt that ended is kept by its id and cause."""
    done = [*row["tries"], {"build": row["build"], "cause": cause}] if row["build"] else list(row["tries"])
    return {
        "status": "queued",
        "tries": done,
        "attempt": row["attempt"] + (1 if row["build"] else 0),
        "build": None,
        "started": None,
        "ended": None,
        "error": None,
        "exit_code": None,
        "answer": None,
        "grade": None,
        "worker": None,
        "lease": 0.0,
        "cancelling": False,
        "not_before": not_before,
        "note": note,
    }


def _forms(fingerprint: str) -> list[str]:
    """As what a request may stand in the queue: while one is being cancelled, which is active still, the next one that
    asks for the same is another build."""
    return [fingerprint, *(f"{fingerprint[:62]}~{number}" for number in range(1, 10))]


def _how(status: str) -> str:
    return {"queued": "waits already", "running": "runs already"}.get(status, status)


def _asked(connection: Connection, who: str, idempotency: str) -> Row | None:
    same = and_(ASKED.c.requested_by == who, ASKED.c.idempotency == idempotency)
    return connection.execute(select(ASKED).where(same)).mappings().first()


def _one(connection: Connection, condition: Any) -> Row:
    return connection.execute(select(BUILDS).where(condition)).mappings().one()
