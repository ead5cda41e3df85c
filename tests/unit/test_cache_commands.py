"""``cudabuild cache gc``, ``export``, ``import`` and ``key``: what people type and read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stored import entry_of, release_of, wheel_of

from buildkit.cli.main import main
from buildkit.store import in_use
from buildkit.store.model import Entry
from buildkit.store.store import Store

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Said]:
    """Run a command on the cache of a name; its exit code, and what it said on each stream."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith("CUDABUILD_") or name == "XDG_CONFIG_HOME"]:
        monkeypatch.delenv(name)

    def run(cache: str, *words: str) -> tuple[int, str, str]:
        monkeypatch.setenv("CUDABUILD_CACHE", str(tmp_path / cache))
        code = main(["cache", *words])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    yield run
    in_use.let_go()


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    """Two wheels in the cache ``own``, used a day and two days ago."""
    store = Store(tmp_path / "own" / "store")
    found = []
    for number in (1, 2):
        wheel = wheel_of(tmp_path / "made", number)
        entry = store.put(wheel, entry_of(wheel, number), release_of(wheel, entry_of(wheel, number)))
        then = wheel.stat().st_mtime - 86400 * number
        os.utime(store.wheel(entry), (then, then))
        found.append(entry)
    return found


def test_gc_says_what_goes_and_stays(said: Said, entries: list[Entry]) -> None:
    code, out, err = said("own", "gc", "--keep", "1", "--dry-run")
    assert code == 0
    assert f"- wheel {entries[1].filename}" in out
    assert f"+ wheel {entries[0].filename} stays: among the 1 used last of its recipe" in out
    assert err.startswith("would free ")
    code, out, _err = said("own", "gc", "--keep", "1", "--json")
    answer: dict[str, Any] = json.loads(out)
    assert [each["name"] for each in answer["removed"]] == [entries[1].filename]
    assert answer["before"] - answer["after"] == answer["removed"][0]["freed"] > 0
    assert said("own", "gc")[2].startswith("freed 0 B")
    assert len(json.loads(said("own", "list", "--json")[1])["wheels"]) == 1


def test_gc_says_where_it_cannot_reach_the_size(said: Said, entries: list[Entry]) -> None:
    code, out, err = said("own", "gc", "--keep", "2", "--max-size", "1KiB")
    assert code == 0
    assert "stays" in out
    assert "warning: that is more than 1 KiB" in err
    for words in (("--keep", "0"), ("--older-than", "soon"), ("--max-size", "3")):
        assert said("own", "gc", *words)[0] == 2


def test_from_one_cache_to_another(said: Said, entries: list[Entry], tmp_path: Path) -> None:
    assert said("own", "export", "--out", str(tmp_path / "out"))[0] == 0
    code, out, err = said("other", "import", str(tmp_path / "out"))
    assert (code, out.count("imported")) == (0, 2)
    assert "no trusted key" in err
    code, out, _err = said("other", "show", entries[0].key[:12])
    assert "not proven here yet" in out
    assert json.loads(said("other", "import", str(tmp_path / "out"), "--json")[1])["wheels"][0]["outcome"] == "there"


def test_with_a_key(said: Said, entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cudabuild cache key new" in said("own", "key", "show")[2]
    public = said("own", "key", "new")[1].strip()
    assert json.loads(said("own", "key", "show", "--json")[1])["key"] == public
    assert said("own", "key", "new")[0] == 10
    assert json.loads(said("own", "export", "sample", "--out", str(tmp_path / "o.tar"), "--json")[1])["signed"]
    monkeypatch.setenv("CUDABUILD_TRUSTED_KEYS", public)
    assert f"signed by {public}" in said("other", "import", str(tmp_path / "o.tar"))[2]
    assert "not proven here" not in said("other", "show", "last")[1]


def test_what_is_refused_is_exit_code_10(said: Said, entries: list[Entry], tmp_path: Path) -> None:
    said("own", "export", "--out", str(tmp_path / "out"))
    manifest = tmp_path / "out" / "cudabuild-export.json"
    manifest.write_text(manifest.read_text().replace('"recipe": "sample"', '"recipe": "other"', 1))
    code, out, _err = said("other", "import", str(tmp_path / "out"))
    assert code == 10
    assert "refused" in out
    assert said("other", "export", "nothing", "--out", str(tmp_path / "x"))[0] == 10


@pytest.mark.parametrize("inputs", [{}, {"targets": 5, "torch": 7}, {"targets": "12.0", "torch": []}])
def test_an_entry_whose_inputs_are_nonsense_is_listed_and_shown(
    said: Said, entries: list[Entry], tmp_path: Path, inputs: dict[str, Any]
) -> None:
    place = tmp_path / "own" / "store" / "entries" / f"{entries[0].key}.json"
    place.write_bytes(entries[0].model_copy(update={"inputs": inputs}).as_bytes())
    for words in (("list",), ("list", "--json"), ("show", entries[0].key), ("show", entries[0].key, "--json")):
        code, out, _err = said("own", *words)
        assert (code, entries[0].key[:12] in out) == (0, True)
