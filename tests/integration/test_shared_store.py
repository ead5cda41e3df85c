"""A wheel that another cudabuild built is taken from its store, over a real socket, and proven here."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from buildkit.index.app import create_app
from buildkit.index.settings import IndexSettings
from buildkit.store.signing import new_key
from buildkit.store.store import Store

pytestmark = pytest.mark.integration

PACKAGE = Path(__file__).parents[1] / "packages" / "plainc"
RECIPE = """
edition = 1
name = "plainc"
summary = "a C extension"
license = { spdx = "Apache-2.0", redistributable = true }
status = "unconfirmed"
[[version]]
version = "1.0"
folder = "source"
[build]
torch = false
[verify]
imports = ["plainc"]
"""

Build = Callable[..., Any]


@pytest.fixture(scope="module")
def build(cudabuild: Callable[..., Any], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """``build(cache, ...)``: the same command on one cache or another; uv's downloads are shared by all."""
    recipes = tmp_path_factory.mktemp("recipes")
    shutil.copytree(PACKAGE, recipes / "plainc" / "source")
    (recipes / "plainc" / "recipe.toml").write_text(RECIPE, encoding="utf-8")

    def run(folder: Path, *words: str, **env: str) -> Any:
        folder.mkdir(exist_ok=True)
        for name in ("uv", "locks"):  # what was resolved once, so that all of them plan the same key
            if not (folder / name).exists():
                (cache / name).mkdir(parents=True, exist_ok=True)
                (folder / name).symlink_to(cache / name)
        options = ("--recipes", str(recipes), "--device", "cpu", "--json")
        return cudabuild("build", "plainc", *options, *words, env={"CUDABUILD_CACHE": str(folder), **env})

    return run


@pytest.fixture(scope="module")
def first(build: Build, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A machine that has built it: its cache, and what it said."""
    folder = tmp_path_factory.mktemp("first") / "cache"
    done = build(folder)
    assert done.code == 0, done.err
    assert done.json["cache"] == "miss"
    # What it used it has held, so that no clearing beside it would have taken it away.
    held = {path.name for path in (folder / "in-use").iterdir()}
    made = {f"environments-{path.name}.lock" for path in (folder / "environments").iterdir() if path.is_dir()}
    assert made
    assert held >= {*made, "cache-sources.lock", "cache-uv.lock", f"wheels-{done.json['key'][:16]}.lock"}
    return folder, dict(done.json)


@contextlib.contextmanager
def serving(store: Store, key: Path | None = None) -> Iterator[str]:
    """The address of a real server of the store."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = create_app(store, IndexSettings(share_store=True, signing_key=key))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)


def test_over_http_it_is_a_hit_that_was_proven_here(
    build: Build, first: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, told = first
    with serving(Store(folder / "store")) as address:
        done = build(tmp_path / "second", "--store", address)
    assert done.code == 0, done.err
    answer = done.json
    assert (answer["cache"], answer["guard"]) == ("hit", None)
    assert (answer["key"], answer["wheel"]["sha256"]) == (told["key"], told["wheel"]["sha256"])
    assert f"comes from the shared store {address}" in done.err
    assert "proving again" in done.err
    assert answer["verdict"]["grade"] == "imported"
    # Without the server it is this machine's own by now.
    again = build(tmp_path / "second", "--store", address)
    assert (again.json["cache"], "proving" in again.err, "warning" in again.err) == ("hit", False, False)


def test_signed_it_is_believed(build: Build, first: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _told = first
    public = new_key(tmp_path / "key.pem")
    with serving(Store(folder / "store"), tmp_path / "key.pem") as address:
        done = build(tmp_path / "second", CUDABUILD_STORE=address, CUDABUILD_TRUSTED_KEYS=public)
    assert done.code == 0, done.err
    assert done.json["cache"] == "hit"
    assert "proving again" not in done.err
    assert [f"signed by {public}" in note for note in done.json["notes"]] == [True]
