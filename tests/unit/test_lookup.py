"""What the store has for a plan: a wheel that holds copies of this machine's libraries serves only where they are."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from buildkit.build.context import Context
from buildkit.build.lookup import grafts_not_here
from buildkit.build.places import Places
from buildkit.machine.identity import Memo
from buildkit.progress import Silent
from buildkit.source.index_settings import read_index_settings
from buildkit.store.model import Entry, parse_entry
from buildkit.store.store import Store


@pytest.fixture
def context(tmp_path: Path) -> Context:
    places = Places(tmp_path / "cache", elsewhere=tmp_path / "elsewhere")
    return Context(
        places, Memo(places.memo), Store(places.store), read_index_settings({}), Silent(), os.environ, tmp_path
    )


def entry(grafted: dict[str, str]) -> Entry:
    return Entry(
        key="a" * 64,
        family="f" * 64,
        recipe="fast",
        version="1.0",
        build="20261121-3f2a",
        created="2026-11-21T10:00:00.000000Z",
        filename="fast-1.0-cp311-cp311-linux_x86_64.whl",
        sha256="0" * 64,
        size=1,
        inputs={},
        verdict={},
        plan={},
        seconds=1.0,
        grafted=grafted,
    )


def test_a_wheel_with_copies_serves_where_the_same_libraries_are(context: Context, tmp_path: Path) -> None:
    library = tmp_path / "libgrid.so.2"
    library.write_bytes(b"one")
    stored = parse_entry(entry({str(library): hashlib.sha256(b"one").hexdigest()}).as_bytes())
    assert grafts_not_here(stored, context) == []
    before = context.store.witness(stored)
    assert str(library) in before, "a receipt ends when it changes"
    library.write_bytes(b"other")
    assert context.store.witness(stored) != before
    assert grafts_not_here(stored, context) == ["libgrid.so.2"]
    library.unlink()
    assert grafts_not_here(stored, context) == ["libgrid.so.2"]


def test_a_wheel_without_copies_serves_anywhere(context: Context) -> None:
    assert grafts_not_here(entry({}), context) == []
