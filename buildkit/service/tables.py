"""The service's tables. Alembic's migrations make them; a test holds that both say the same.

Moments are texts like the store's (UTC, fixed width: their order is the order in time), so that SQLite and PostgreSQL
keep the very same values.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

METADATA = MetaData()
_ACTIVE = text("status IN ('queued', 'running')")
_RUNNING = text("status = 'running'")

BUILDS = Table(
    "builds",
    METADATA,
    # SQLite counts by itself only in a plain INTEGER.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("status", String(16), nullable=False),
    Column("recipe", String(64), nullable=False),
    Column("request", JSON, nullable=False),  # a BuildRequest
    Column("fingerprint", String(64), nullable=False),  # of what was asked for: the same request is the same build
    Column("priority", Integer, nullable=False),
    Column("requested_by", String(64), nullable=False),
    Column("created", String(32), nullable=False),
    Column("not_before", Float, nullable=False),  # seconds since the epoch: when a retry may begin
    Column("started", String(32)),
    Column("ended", String(32)),
    Column("key", String(128)),
    Column("build", String(128)),  # the build's id in the records of the cache
    Column("attempt", Integer, nullable=False),
    Column("tries", JSON, nullable=False),  # of the attempts that ended: [{"build": ID, "cause": KIND}, ...]
    Column("place", String(64)),  # which cache has its record, log and answer
    Column("worker", String(64)),
    Column("lease", Float, nullable=False),  # seconds since the epoch, until which the worker holds it
    Column("cancelling", Boolean, nullable=False),
    Column("grade", String(16)),
    Column("version", String(128)),
    Column("exit_code", Integer),
    Column("error", JSON),  # an ErrorAnswer
    Column("plan", JSON),  # the object of `cudabuild plan --json`
    Column("answer", JSON),  # the object of `cudabuild build --json`
    Column("note", Text, nullable=False),
    Index("builds_status", "status", "priority", "seq"),
    Index("builds_recipe", "recipe", "seq"),
    Index("builds_one_asked", "fingerprint", unique=True, sqlite_where=_ACTIVE, postgresql_where=_ACTIVE),
    Index("builds_one_key", "key", unique=True, sqlite_where=_RUNNING, postgresql_where=_RUNNING),
)
"""Every build that was asked for. The two partial indexes are what makes one flight of two requests."""

ASKED = Table(
    "asked",
    METADATA,
    Column("requested_by", String(64), nullable=False),
    Column("idempotency", String(255), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("build", String(32), nullable=False),
    Column("created", String(32), nullable=False),
    PrimaryKeyConstraint("requested_by", "idempotency"),
)
"""Idempotency keys, each with the build that it was answered with."""

WORKERS = Table(
    "workers",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("place", String(64), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("start", BigInteger, nullable=False),  # clock ticks since boot, as a build's record has it
    Column("boot", String(64), nullable=False),
    Column("slots", Integer, nullable=False),
    Column("started", String(32), nullable=False),
    Column("seen", Float, nullable=False),  # seconds since the epoch
)
