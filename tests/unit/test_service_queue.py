"""The service's queue on SQLite, its migrations, and how a database that cannot be used is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from queue_checks import CHECKS
from services import new_database
from sqlalchemy import inspect, text

from buildkit.service.database import Database, DatabaseError
from buildkit.service.tables import METADATA


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with empty tables, to be copied."""
    file = tmp_path_factory.mktemp("database") / "empty.db"
    database = new_database(f"sqlite:///{file}")
    with database.read() as connection:
        connection.exec_driver_sql("SELECT 1")
    database.close()
    return file


@pytest.fixture
def database(empty: Path, tmp_path: Path) -> Iterator[Database]:
    shutil.copyfile(empty, tmp_path / "service.db")
    made = Database(f"sqlite:///{tmp_path / 'service.db'}")
    yield made
    made.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_queue_on_sqlite(check: Callable[[Database], None], database: Database) -> None:
    check(database)


def test_the_migrations_make_the_tables_as_they_are_used(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = Database(f"sqlite:///{tmp_path / 'new' / 'service.db'}")
    database.migrate()
    database.migrate()  # which changes nothing
    plain = new_database(f"sqlite:///{tmp_path / 'plain.db'}")
    with database.read() as connection, plain.read() as other:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        partial = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '%WHERE%' ORDER BY name"
        mine, meant = (list(one.exec_driver_sql(partial)) for one in (connection, other))
        assert len(meant) == 2
        assert mine == meant, "autogenerate does not compare an index's WHERE"
        assert "alembic_version" in inspect(connection).get_table_names()
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '999'"))
    with pytest.raises(DatabaseError, match="another version of cudabuild"):
        database.migrate()
    database.close()
    plain.close()


def test_a_database_that_cannot_be_used_is_told_without_its_password(tmp_path: Path) -> None:
    database = Database("postgresql+psycopg://me:hidden@127.0.0.1:1/none")
    with pytest.raises(DatabaseError) as caught:
        database.check()
    assert "hidden" not in f"{caught.value.message} {caught.value.evidence} {caught.value.hint} {database}"
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(DatabaseError):
        Database(f"sqlite:///{tmp_path / 'folder.db'}").check()
