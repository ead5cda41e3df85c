"""The service's queue on a real PostgreSQL: the same checks as on SQLite, and the migrations of two servers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from postgres import postgres
from queue_checks import CHECKS
from services import new_database
from sqlalchemy import inspect

from buildkit.service.database import Database
from buildkit.service.tables import METADATA

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres() as made:
        yield made


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    made = new_database(url)
    yield made
    made.close()


def test_two_servers_that_start_at_once_migrate_once(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    databases = [Database(url) for _ in range(2)]
    with databases[0].write() as connection:
        METADATA.drop_all(connection)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda database: database.migrate(), databases))
    with databases[0].read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        partial = {
            index["name"]: index["dialect_options"]["postgresql_where"]
            for index in inspect(connection).get_indexes("builds")
            if index.get("dialect_options", {}).get("postgresql_where")
        }
    assert partial.keys() == {"builds_one_asked", "builds_one_key"}
    for database in databases:
        database.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_queue_on_postgresql(check: Callable[[Database], None], database: Database) -> None:
    check(database)
