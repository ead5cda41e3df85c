"""A shared store: what it has is brought here and judged, and whatever is wrong with it, the build goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from stored import entry_of, inputs_of, wheel_of

from buildkit.build import second_level
from buildkit.build.context import Context
from buildkit.build.exchange import export
from buildkit.build.foreign import is_unproven, refused
from buildkit.build.places import Places
from buildkit.build.prepare import Prepared
from buildkit.build.second_level import SharedStores
from buildkit.errors import ImportFailed, OutOfMemory
from buildkit.index.store_routes import store_routes
from buildkit.machine.arch import parse_targets
from buildkit.plan.key import family_of, key_of
from buildkit.progress import Silent
from buildkit.store import in_use
from buildkit.store.model import Entry
from buildkit.store.shared import SharedServer
from buildkit.store.signing import HEADER, new_key
from buildkit.store.store import Store


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Keep it."""
        self.warnings.append(text)


class Here:
    """This machine's store, and a command that misses in it."""

    def __init__(self, folder: Path) -> None:
        self.heard = Heard()
        self.places = Places(folder / "cache", folder / "elsewhere")
        self.store = Store(self.places.store)
        self.offline = False

    def bring(
        self, place: str, number: int = 1, *, trusted: tuple[str, ...] = (), targets: str = "", glibc: str = ""
    ) -> Entry | None:
        inputs = inputs_of(number, glibc=glibc, **({"targets": targets.split(";")} if targets else {}))
        plan = SimpleNamespace(
            key=key_of(inputs), family=family_of(inputs), survey=SimpleNamespace(targets=parse_targets(inputs.targets))
        )
        index = SimpleNamespace(cert=None, client_cert=None, proxy=None)
        context = SimpleNamespace(
            store=self.store, places=self.places, reporter=self.heard, offline=self.offline, index=index
        )
        shared = SharedStores(place, trusted, Path("/"))
        own = self.store.get(plan.key)
        return shared.bring(cast(Prepared, plan), cast(Context, context), lambda: own.entry)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


@pytest.fixture(autouse=True)
def _hold_nothing() -> Iterator[None]:
    yield
    in_use.let_go()


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """Another cudabuild's store, whose folders are nobody else's to write to."""
    before = os.umask(0o022)
    store = Store(tmp_path / "other" / "store")
    wheel = wheel_of(tmp_path / "made", 1)
    store.put(wheel, entry_of(wheel, 1))
    os.umask(before)
    return store


@contextmanager
def served(store: Store, monkeypatch: pytest.MonkeyPatch, key: Path | None = None) -> Iterator[str]:
    """The store behind an application; requests go to it without a socket (with one: tests/integration)."""
    client = TestClient(Starlette(routes=store_routes(store, key)), base_url="http://cache.example")
    monkeypatch.setattr(httpx2, "Client", lambda **_options: client)
    yield "http://user:secret@cache.example"


@pytest.mark.parametrize("below", ["", "store"])
def test_a_folder(here: Here, other: Store, below: str) -> None:
    entry = here.bring(str(other.root.parent / below))
    assert entry is not None
    assert is_unproven(entry)
    assert here.store.get(entry.key).entry == entry
    assert "comes from the shared store" in here.heard.notes[0]
    assert "proven again" in here.heard.notes[0]
    assert here.heard.warnings == []


def test_nothing_there(here: Here, other: Store) -> None:
    assert here.bring(str(other.root), number=2) is None
    assert (here.heard.notes, here.heard.warnings) == ([], [])


def test_one_with_more_targets(here: Here, tmp_path: Path) -> None:
    store = Store(tmp_path / "wide")
    for targets in (["12.0"], ["8.6", "12.0"]):
        inputs = inputs_of(1, targets=targets)
        wheel = wheel_of(tmp_path / "made", 1, inputs)
        store.put(wheel, entry_of(wheel, 1, key=key_of(inputs), family=family_of(inputs), inputs=inputs.as_dict()))
    entry = here.bring(str(store.root), targets="8.6")
    assert entry is not None
    assert entry.inputs["targets"] == ["8.6", "12.0"]


def test_an_export_that_is_signed_is_believed(here: Here, other: Store, tmp_path: Path) -> None:
    public = new_key(tmp_path / "key.pem")
    export(other, [], tmp_path / "out", key=tmp_path / "key.pem")
    (tmp_path / "out").chmod(0o777)  # whoever can write there cannot sign
    entry = here.bring(str(tmp_path / "out"), trusted=(public,))
    assert entry is not None
    assert not is_unproven(entry)
    assert here.bring(str(tmp_path / "out"), trusted=(public,)) == entry


def test_a_link_leads_to_a_store_and_none_leads_out_of_it(here: Here, other: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(other.root)
    assert here.bring(str(tmp_path / "link")) is not None
    (other.root / "blobs").rename(tmp_path / "elsewhere")
    (other.root / "blobs").symlink_to(tmp_path / "elsewhere")
    second = Here(tmp_path / "second")
    assert second.bring(str(other.root)) is None
    assert any("it is a link" in warning for warning in second.heard.warnings)


@pytest.mark.parametrize("place", ["", "entries", "blobs/sha256", "BLOB"])
def test_what_others_can_write_to_is_refused(here: Here, other: Store, place: str) -> None:
    (blob,) = other.blobs.all()
    path = blob if place == "BLOB" else other.root / place
    path.chmod(path.stat().st_mode | 0o020)
    assert here.bring(str(other.root)) is None
    (warning,) = here.heard.warnings
    assert "others may write there" in warning
    assert "chmod -R go-w" in warning
    assert list(here.store.entries()) == []


def test_what_belongs_to_another_user_is_refused(here: Here, other: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    owner = other.root.stat().st_uid
    if owner == 0:  # root's are believed: give it to somebody
        os.chown(other.root, 54321, -1)
    assert here.bring(str(other.root)) is None
    assert "belongs to user" in here.heard.warnings[0]


def test_over_http(here: Here, other: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with served(other, monkeypatch) as address:
        entry = here.bring(address)
    assert entry is not None
    assert is_unproven(entry)
    assert "cache.example" in here.heard.notes[0]
    assert "secret" not in here.heard.notes[0] + str(entry.verdict)


def test_over_http_signed(here: Here, other: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    public = new_key(tmp_path / "key.pem")
    with served(other, monkeypatch, tmp_path / "key.pem") as address:
        entry = here.bring(address, trusted=(public,))
    assert entry is not None
    assert not is_unproven(entry)
    assert public in here.heard.notes[0]


def test_over_http_one_with_more_targets(here: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = Store(tmp_path / "wide")
    inputs = inputs_of(1, targets=["8.6", "12.0"])
    wheel = wheel_of(tmp_path / "made", 1, inputs)
    store.put(wheel, entry_of(wheel, 1, key=key_of(inputs), family=family_of(inputs), inputs=inputs.as_dict()))
    with served(store, monkeypatch) as address:
        assert here.bring(address, targets="12.0") is not None
        assert here.bring(address, number=2) is None


def test_the_routes(other: Store, tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem")
    (entry,) = other.entries()
    with TestClient(Starlette(routes=store_routes(other, tmp_path / "key.pem"))) as client:
        answer = client.get(f"/store/entries/{entry.key}.json")
        assert answer.content == entry.as_bytes()
        assert answer.headers[HEADER].startswith("ed25519:")
        assert client.get(f"/store/families/{entry.family}.json").json() == {"schema": 1, "keys": [entry.key]}
        assert client.get(f"/store/families/{'0' * 64}.json").json()["keys"] == []
        blob = client.get(f"/store/blobs/{entry.sha256}")
        assert (len(blob.content), blob.headers["etag"]) == (entry.size, f'"{entry.sha256}"')
        for path in (f"entries/{'0' * 64}.json", "entries/..json", f"blobs/{'0' * 64}", "blobs/x", "blobs/..%2f..%2fx"):
            assert client.get(f"/store/{path}").status_code == 404, path
        assert client.post(f"/store/blobs/{entry.sha256}").status_code == 405


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("/nowhere/at/all", "is not a store"),
        ("http://127.0.0.1:9", "cannot be reached"),
        ("http://[broken", "going on without it"),
        ("http://a..b", "cannot be reached"),
    ],
)
def test_what_cannot_be_reached_is_a_warning(here: Here, place: str, says: str) -> None:
    assert here.bring(place) is None
    assert says in here.heard.warnings[0]


def test_offline_asks_no_server(here: Here) -> None:
    here.offline = True
    assert here.bring("http://127.0.0.1:9") is None
    assert "--offline" in here.heard.warnings[0]


def _lying(store: Store, **changes: Any) -> None:
    (entry,) = store.entries()
    lie = entry.model_copy(update=changes)
    (store.root / "entries" / f"{entry.key}.json").unlink()
    (store.root / "entries" / f"{lie.key}.json").write_bytes(lie.as_bytes())


def of_another_key() -> dict[str, Any]:
    """Key and inputs that fit each other, beside a wheel that was made from others."""
    inputs = inputs_of(1, glibc="9.99")
    return {"key": key_of(inputs), "family": family_of(inputs), "inputs": inputs.as_dict()}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inputs": inputs_of(2).as_dict()}, "is not the hash of the inputs"),
        ({"recipe": "other"}, "another recipe"),
        (of_another_key(), "under the key"),
        ({"version": "9.9"}, "another recipe or version"),
        ({"sha256": "a" * 64}, "cannot be read"),
        ({"size": 5}, "not the wheel that was announced"),
    ],
)
def test_what_lies_is_not_used(here: Here, other: Store, changes: dict[str, Any], says: str) -> None:
    _lying(other, **changes)
    asked: dict[str, Any] = {"glibc": "9.99"} if "key" in changes else {}
    assert here.bring(str(other.root), **asked) is None
    assert says in here.heard.warnings[0]
    assert list(here.store.entries()) == []


def test_a_server_that_sends_other_bytes(here: Here, other: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (blob,) = other.blobs.all()
    blob.chmod(0o644)
    data = bytearray(blob.read_bytes())
    data[50] ^= 1
    blob.write_bytes(data)
    with served(other, monkeypatch) as address:
        assert here.bring(address) is None
        assert "another wheel than it announced" in here.heard.warnings[0]
        blob.write_bytes(data + b"more")
        assert here.bring(address) is None
        assert "more than it announced" in here.heard.warnings[1]
        blob.unlink()
        assert here.bring(address) is None
        assert "not its wheel" in here.heard.warnings[2]


@pytest.mark.parametrize(("refusal", "says"), [(500, "HTTP 500"), (401, "https://__token__:TOKEN@HOST")])
def test_a_server_that_is_no_store(here: Here, monkeypatch: pytest.MonkeyPatch, refusal: int, says: str) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        status = refusal if "entries" in request.url.path else 200
        return httpx2.Response(status, content=b"<html>")

    client = httpx2.Client(transport=httpx2.MockTransport(answer))
    monkeypatch.setattr(second_level, "SharedServer", lambda *_arguments: SharedServer("http://x", "x", client))
    assert here.bring("http://x") is None
    assert says in here.heard.warnings[0]


def test_what_fails_its_first_proof_here_is_put_away(here: Here, other: Store) -> None:
    entry = here.bring(str(other.root))
    assert entry is not None
    context = cast(Context, SimpleNamespace(store=here.store, reporter=here.heard))
    assert not refused(entry, None, context)
    assert not refused(entry, OutOfMemory("no memory"), context)
    assert here.store.get(entry.key).entry is not None
    assert refused(entry, ImportFailed("it does not import"), context)
    assert here.store.get(entry.key).entry is None
    assert "built here instead" in here.heard.warnings[0]
    own = entry_of(wheel_of(here.places.cache, 1), 1)
    assert not refused(own, ImportFailed("it does not import"), context)
