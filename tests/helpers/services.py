"""The service in this process: the real application over a real store and database, in a folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from buildkit.index.catalogue import Catalogue
from buildkit.index.settings import IndexSettings
from buildkit.index.tokens import Tokens
from buildkit.index.uploads_settings import UploadSettings
from buildkit.service.access import Gate, Policy
from buildkit.service.app import create_service_app
from buildkit.service.claims import Claims, Self
from buildkit.service.database import Database
from buildkit.service.outcomes import ending_of
from buildkit.service.queue import Queue
from buildkit.service.runs import Outcome, Runs
from buildkit.service.service import Service
from buildkit.service.settings import ServiceSettings
from buildkit.service.tables import BUILDS, METADATA
from buildkit.store.builds import BuildRecords
from buildkit.store.model import utc_now
from buildkit.store.store import Store

HOST = "127.0.0.1:8080"
BASE = f"http://{HOST}"
RECIPE = """edition = 1
name = "{name}"
summary = "A package of the tests"
license = {{ spdx = "MIT", redistributable = true }}
status = "unconfirmed"

[[version]]
version = "1.0"
folder = "src"

[[version]]
version = "0.9"
folder = "src"

[build]
torch = false

[verify]
imports = ["{module}"]
"""


def write_recipe(folder: Path, name: str = "some-kernels", module: str = "some_kernels") -> Path:
    """``folder/NAME/recipe.toml``, and a folder for its source; returns ``folder``."""
    (folder / name / "src").mkdir(parents=True)
    (folder / name / "recipe.toml").write_text(RECIPE.format(name=name, module=module))
    return folder


def new_database(url: str) -> Database:
    """A database with the tables as they are meant to be: a test holds that the migrations make the same."""
    database = Database(url)
    with database.write() as connection:
        METADATA.drop_all(connection)
        METADATA.create_all(connection)
    return database


def new_service(folder: Path, **settings: Any) -> Service:
    """A service without a worker, with one recipe."""
    recipes = folder / "recipes"
    if not recipes.is_dir():
        write_recipe(recipes)
    cache = folder / "cache"
    store = Store(cache / "store")
    chosen = ServiceSettings(**settings)
    database = new_database(chosen.url(cache))
    return Service(
        settings=chosen,
        database=database,
        queue=Queue(database, limit=chosen.queue_limit),
        runs=Runs(cache / "logs", BuildRecords(cache / "store")),
        catalogue=Catalogue(store, IndexSettings()),
        recipes_in=(recipes,),
        place="here",
        base=f"{BASE}/",
    )


def gate_of(service: Service, tokens: Path, *, guarded: Sequence[Any] = (), **policy: Any) -> Gate:
    """The whole application."""
    known = Tokens(tokens)
    index = IndexSettings(uploads=UploadSettings(known, {"some-kernels": True}), readers=known if guarded else None)
    hosts = frozenset({"127.0.0.1", "localhost"})
    return create_service_app(service, index, Policy(known, frozenset(guarded), hosts, **policy))


@contextmanager
def client_of(gate: Gate, token: str = "") -> Iterator[TestClient]:
    """A client that speaks to it as a person of this machine does."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    client = TestClient(gate, base_url=BASE, headers=headers, raise_server_exceptions=True)
    try:
        yield client
    finally:
        client.close()


def claims_of(database: Database, name: str = "one", *, place: str = "here", lease: float = 60.0) -> Claims:
    """A worker's hands, signed on. Its process is no process of this machine."""
    claims = Claims(database, Self(name, "elsewhere", place, 1, 1, "boot", 2), lease)
    claims.sign_on()
    return claims


def change(database: Database, identifier: str, **values: Any) -> None:
    """Write into a build's row what a test needs to be so."""
    with database.write() as connection:
        connection.execute(BUILDS.update().where(BUILDS.c.id == identifier).values(**values))


def run_to_end(service: Service, identifier: str, answer: Mapping[str, Any], log: bytes = b"") -> str:
    """What a worker writes of a build from beginning to end; the id that its cache knows it by."""
    claims = claims_of(service.database)
    row = claims.take()
    assert row is not None
    assert row["id"] == identifier
    build = service.runs.records.new_id()
    assert claims.begin(row, build, key="ab" * 32, plan={"schema": 1, "key": "ab" * 32, "device": "cpu"})
    service.runs.logs.mkdir(parents=True, exist_ok=True)
    service.runs.log(build).write_bytes(log)
    ending = ending_of(Outcome(dict(answer), None), cancelling=False)
    verdict = answer.get("verdict") or {}
    ended = {"status": ending.status, "ended": utc_now(), "answer": dict(answer), "error": ending.error}
    claims.write(row, {**ended, "grade": verdict.get("grade"), "version": answer.get("version")})
    service.tell(identifier)
    return build


def wait_for(service: Service, identifier: str, *statuses: str, seconds: float = 60.0) -> Any:
    """The row of a build once it has one of these statuses."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        row = service.row(identifier)
        if row["status"] in statuses:
            return row
        time.sleep(0.01)
    raise AssertionError(f"{identifier} is {service.row(identifier)['status']}, not {statuses}")
