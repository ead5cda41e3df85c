"""The service's database: SQLite in WAL, or PostgreSQL; its tables are made, and brought up to date, by migrations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from buildkit.errors import CannotServe
from buildkit.process import redact
from buildkit.store.disk import disk_causes, make_folder

_MIGRATIONS = Path(__file__).with_name("migrations")
_MIGRATING = 0x6375_6461
"""PostgreSQL's advisory lock under which one server at a time migrates."""
SQLITE_PATIENCE = 30.0
"""Seconds to wait for another writer."""


class DatabaseError(CannotServe):
    """The service's database cannot be reached, or is another version's."""


class Database:
    """An engine, and transactions on it. Raises DatabaseError; used by several threads."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            folder = Path(self.url.database).parent
            with disk_causes(folder):
                make_folder(folder)
        self.engine = _engine(url, is_sqlite=self.is_sqlite)

    def __str__(self) -> str:
        """For people: never with its password."""
        return self.url.render_as_string(hide_password=True)

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection to ask with."""
        with _causes(self), self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction; it lasts when the block has ended, or nothing of it does."""
        with _causes(self), self.engine.execution_options(cudabuild_write=True).begin() as connection:
            yield connection

    def migrate(self) -> None:
        """Make or update the tables. One server does it, others wait."""
        from alembic import command
        from alembic.util.exc import CommandError

        with self.write() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATING})
            try:
                command.upgrade(migrations(connection), "head")
            except CommandError as error:
                raise DatabaseError(
                    f"the database {self} was made by another version of cudabuild",
                    evidence=str(error),
                    hint="serve it with that version, or name another database: --database URL",
                ) from error

    def check(self) -> None:
        """Ask it anything. Raises DatabaseError."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def migrations(connection: Connection) -> Any:
    """Alembic's configuration for the migrations on a connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _engine(url: str, *, is_sqlite: bool) -> Engine:
    if not is_sqlite:
        # A connection that the server has closed meanwhile is found before it is used.
        patience = {"connect_timeout": 10}
        return create_engine(url, pool_size=20, max_overflow=30, pool_pre_ping=True, connect_args=patience)
    engine = create_engine(url, pool_size=20, max_overflow=30, connect_args={"timeout": SQLITE_PATIENCE})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say so
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """Whoever will write takes the lock at once: two readers that both go on to write would have to fail."""
    writes = connection.get_execution_options().get("cudabuild_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _causes(database: Database) -> Iterator[None]:
    from sqlalchemy.exc import IntegrityError

    try:
        yield
    except IntegrityError:
        raise  # the caller's to handle: two wanted the same
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()
        raise DatabaseError(
            f"the service's database {database} cannot be used",
            evidence=redact(cause[0] if cause else ""),
            hint="check that it runs and that this user may write to it; docs/how-to/run-a-service.md says more",
        ) from error
