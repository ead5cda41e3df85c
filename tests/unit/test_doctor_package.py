"""What doctor knows of the package that was named, and that it reads a pinned source once only."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from buildkit.build.context import Context
from buildkit.build.doctor import package
from buildkit.build.doctor.subject import Subject
from buildkit.build.package import Package
from buildkit.build.places import Places
from buildkit.errors import NotCached
from buildkit.machine.identity import Memo
from buildkit.progress import Silent
from buildkit.source.fetched import FetchedSource
from buildkit.source.index_settings import read_index_settings
from buildkit.store.store import Store

SETUP = "from setuptools import setup\nsetup(name='thing', extra_compile_args=['-std=c++14'])\n"
RECIPE = """
edition = 1
name = "thing"
summary = "A thing"
license = {{ spdx = "MIT", redistributable = true }}
status = "unconfirmed"
[[version]]
version = "1.0"
{source}
[verify]
imports = ["thing"]
"""
PINNED = 'sdist = "thing"\nsha256 = "' + "a" * 64 + '"'


class Cache:
    """Stands for the cache of sources: holds one archive, or none, and counts how often it was asked."""

    def __init__(self, archive: Path) -> None:
        self.archive, self.asked, self.there = archive, 0, True

    def fetch(self, _package: Package, _context: Context) -> FetchedSource:
        self.asked += 1
        if not self.there:
            raise NotCached("the source of thing is not in the cache", hint="cudabuild fetch thing")
        return FetchedSource("sdist", "a" * 64, None, self.archive, ".", "thing", "1.0", (), None, "thing==1.0")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    archive = tmp_path / "thing-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("thing-1.0/setup.py")
        member.size = len(SETUP)
        tar.addfile(member, io.BytesIO(SETUP.encode()))
    cache = Cache(archive)
    monkeypatch.setattr(package, "fetch", cache.fetch)
    return cache


def asked(folder: Path, source: str = PINNED) -> Subject:
    recipe = folder / "recipes" / "thing"
    recipe.mkdir(parents=True, exist_ok=True)
    (recipe / "recipe.toml").write_text(RECIPE.format(source=source))
    context = Context(
        places=Places(folder), memo=Memo(folder / "memo"), store=Store(folder), index=read_index_settings({}),
        environ={}, cwd=folder, reporter=Silent(),
    )  # fmt: skip
    return package.subject_of("thing", folder / "recipes", context)


def test_a_pinned_source_is_read_once(tmp_path: Path, cache: Cache) -> None:
    first = asked(tmp_path)
    assert (first.project, first.standards, first.notes) == ("setuptools", ("-std=c++14",), ())
    cache.there = False
    assert asked(tmp_path) == first
    assert cache.asked == 1


def test_a_source_that_is_not_there_is_looked_for_again(tmp_path: Path, cache: Cache) -> None:
    cache.there = False
    (note,) = asked(tmp_path).notes
    assert "cudabuild fetch thing" in note
    cache.there = True
    assert asked(tmp_path).standards == ("-std=c++14",)


def test_what_names_no_content_is_read_each_time(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "setup.py").write_text(SETUP)
    source = f'folder = "{tmp_path / "src"}"'
    assert asked(tmp_path, source).standards == ("-std=c++14",)
    (tmp_path / "src" / "setup.py").write_text(SETUP.replace("c++14", "c++20"))
    assert asked(tmp_path, source).standards == ("-std=c++20",)
    assert cache.asked == 0
