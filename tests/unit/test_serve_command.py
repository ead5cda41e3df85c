"""`cudabuild serve`: what it refuses and by which name, where it says it is, what it says it serves."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path
from typing import Any

import pytest
from certificates import certificate
from index_wheels import publish
from stored import entry_of, wheel_of

from buildkit.cli.main import main
from buildkit.cli.serve_command import _greet
from buildkit.errors import CannotServe
from buildkit.index.serve import Place, base_url, check_certificate, is_shared, listen
from buildkit.index.settings import IndexSettings
from buildkit.recipe.loader import bundled_recipes, list_recipes
from buildkit.recipe.owned import owned_names
from buildkit.store.store import Store

pytestmark = pytest.mark.usefixtures("empty_machine")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--database", "postgresql://me:secret@db/x"), 2, "the list of processes would show it"),
        (("--database", "mysql://db/x"), 3, "--database: it is a database of SQLite or PostgreSQL"),
        (("--on-stop", "never"), 2, "keep"),
        (("--host", "192.0.2.1", "--port", "0"), 10, "no address that can be listened on"),
        (("--index-only", "--tls-key", "key.pem"), 2, "--tls-cert"),
        (("--index-only", "--root-path", "wheels"), 2, "--root-path /wheels"),
        (("--index-only", "--root-path", "/a?b"), 2, "'/a?b' is no prefix of an address"),
        (("--index-only", "--trust-proxy", "nonsense"), 2, "--trust-proxy nonsense is no address"),
        (("--index-only", "--trust-proxy", "10.0.0.1,10.0.0.1/8"), 2, "has host bits set"),
        (("--index-only", "--upstream", "index.example/simple"), 2, "http(s)://HOST/simple/"),
        (("--index-only", "--upstream", "http://[index"), 2, "is not the URL of an index"),
        (
            ("--index-only", "--upstream", "https://a:b@index.example/simple/"),
            2,
            "--upstream https://index.example/simple/",
        ),
        (("--index-only", "--port", "65536"), 2, "65536"),
        (("--index-only", "--host", "a..b", "--port", "0"), 10, "no address that can be listened on"),
        (("--index-only", "--host", "192.0.2.1", "--port", "0"), 10, "no address that can be listened on"),
        (("--index-only", "--host", "no.such.host.invalid", "--port", "0"), 10, "no address that can be listened on"),
        (("--index-only", "--tls-cert", "absent.pem"), 10, "there is no file absent.pem"),
        (("--index-only", "--recipes", "absent"), 2, "there is no such folder"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *words]) == code
    assert said in capsys.readouterr().err


def test_a_missing_extra_names_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else real(name))
    assert main(["serve", "--index-only"]) == 3
    said = capsys.readouterr().err
    assert "uvicorn" in said
    assert "pip install 'cudabuild[service]'" in said


def test_wheels_that_were_stored_before_there_were_releases_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "cache" / "store")
    wheel = wheel_of(tmp_path, 1)
    store.put(wheel, entry_of(wheel, 1))
    monkeypatch.setattr("buildkit.index.serve.run", lambda _app, _place, _listener, greet: greet())
    assert main(["serve", "--index-only", "--port", "0"]) == 0
    assert "serving 1 wheels" in capsys.readouterr().err
    assert [release.filename for release in store.releases()] == [wheel.name]


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "--index-only", "--port", str(port)]) == 10
    said = capsys.readouterr().err
    assert f"another program listens on 127.0.0.1 port {port}" in said
    assert "--port" in said


def test_certificates(tmp_path: Path) -> None:
    (cert, key), (_, another) = certificate(tmp_path, "one"), certificate(tmp_path, "two")
    check_certificate(Place("127.0.0.1", 0, cert, key))
    (sealed, locked) = certificate(tmp_path, "sealed", password=b"secret")
    for one, wrong in ((cert, another), (cert, cert), (sealed, locked)):
        with pytest.raises(CannotServe, match="cannot be used with the key") as caught:
            check_certificate(Place("127.0.0.1", 0, one, wrong))
        assert "openssl" in caught.value.hint


@pytest.mark.parametrize(
    ("place", "shared", "shown"),
    [
        (Place("127.0.0.1", 0), False, "http://127.0.0.1:PORT/"),
        (Place("localhost", 0), False, "http://localhost:PORT/"),
        (Place("127.0.0.1", 0, Path("cert.pem"), root_path="/wheels/"), False, "https://127.0.0.1:PORT/wheels/"),
        (Place("0.0.0.0", 0), True, "http://HOST:PORT/"),  # noqa: S104
    ],
)
def test_where_it_is(place: Place, shared: bool, shown: str) -> None:
    with listen(place) as listener:
        port = str(listener.getsockname()[1])
        assert is_shared(listener) is shared
        assert base_url(place, listener) == shown.replace("PORT", port).replace("HOST", socket.gethostname())


def greeting(store: Store, capsys: pytest.CaptureFixture[str], base: str, **settings: Any) -> str:
    _greet(store, IndexSettings(**settings), base)
    return capsys.readouterr().err


def test_what_is_said_at_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "store")
    assert "no wheel is served yet: cudabuild RECIPE builds one" in greeting(store, capsys, "http://127.0.0.1:1/")
    publish(store, tmp_path, "some-kernels", "1.0+pt2.13.cu130")
    local = greeting(store, capsys, "http://127.0.0.1:1/")
    assert "serving 1 wheels in 1 variants" in local
    assert "pip install --no-deps --index-url http://127.0.0.1:1/pt2.13-cu130/simple/ some-kernels" in local
    assert "explicit = true" in local
    assert "warning" not in local
    away = greeting(store, capsys, "http://box:1/", shared=True)
    assert "--trusted-host box:1" in away
    assert "give --tls-cert and --tls-key" in away
    kept_back = greeting(store, capsys, "https://box/", shared=True, min_grade="executed")
    assert "1 wheels are not served, such as some_kernels-1.0+pt2.13.cu130-py3-none-any.whl: its proof" in kept_back


def test_the_names_that_recipes_own(tmp_path: Path) -> None:
    folder = bundled_recipes()
    owned = owned_names([folder])
    assert {listed.name.lower() for listed in list_recipes([folder])} <= owned
    assert all(name == name.lower() and "_" not in name and "." not in name for name in owned)
    broken = tmp_path / "Un_readable"
    broken.mkdir()
    (broken / "recipe.toml").write_text("edition = ")
    assert owned_names([tmp_path]) == {"un-readable"}
