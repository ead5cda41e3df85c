"""Where things lie, and that what a build sees has a path that does not break it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit.build.places import Places, is_harmless
from buildkit.errors import StoreError


@pytest.mark.parametrize("path", ["/home/me/.cache/cudabuild", "/c/a_b-c.d+e@f/1", "/"])
def test_harmless_paths(path: str) -> None:
    assert is_harmless(Path(path))


@pytest.mark.parametrize(
    "path",
    [
        "/home/me/my cache",
        "/home/jürgen/.cache",
        "/home/research/.cache",
        "/home/ARCH/x",
        "/home/a:b",
        "/home/a$b",
        "/home/a'b",
        '/home/a"b',
        "/home/a,b",
        "/home/a\nb",
        "/home/a#b",
        "/home/a%b",
        "relative",
    ],
)
def test_paths_that_break_builds(path: str) -> None:
    assert not is_harmless(Path(path))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return tmp_path / "var-tmp"


@pytest.fixture
def awkward(tmp_path: Path, elsewhere: Path) -> Places:
    return Places(tmp_path / "my cäche", elsewhere=elsewhere)


def test_all_in_a_harmless_cache(elsewhere: Path) -> None:
    places = Places(Path("/nowhere/cache"), elsewhere=elsewhere)
    assert places.work == Path("/nowhere/cache")
    below = [
        places.store, places.sources, places.memo, places.pycache, places.logs, places.locks,
        places.wheels, places.uv_cache, places.in_use,
        places.builds, places.environments, places.toolkits, places.views, places.borrowed, places.torch,
    ]  # fmt: skip
    assert {path.parent for path in below} == {Path("/nowhere/cache")}
    assert len(set(below)) == len(below)
    assert not elsewhere.exists()


def test_work_moves_out_of_an_awkward_cache(awkward: Places, elsewhere: Path) -> None:
    own = elsewhere / f"cudabuild-{os.getuid()}"
    assert awkward.work.parent == own
    assert is_harmless(Path("/var/tmp", *awkward.work.relative_to(elsewhere).parts))
    assert [path.stat().st_mode & 0o777 for path in (own, awkward.work)] == [0o700, 0o700]
    assert awkward.store.parent == awkward.cache
    assert not awkward.cache.exists()
    assert Places(awkward.cache, elsewhere=elsewhere).builds == awkward.work / "builds"
    assert Places(awkward.cache / "x", elsewhere=elsewhere).work != awkward.work


def test_a_link_does_not_hide_the_path_that_a_build_sees(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "archive")
    assert Places(tmp_path / "link", elsewhere=elsewhere).work.is_relative_to(elsewhere)


def test_an_open_folder_of_ours_is_closed(awkward: Places, elsewhere: Path) -> None:
    own = elsewhere / f"cudabuild-{os.getuid()}"
    own.mkdir(parents=True)
    own.chmod(0o777)
    assert awkward.work.parent.stat().st_mode & 0o777 == 0o700


def test_a_link_in_its_place_is_refused(awkward: Places, elsewhere: Path, tmp_path: Path) -> None:
    elsewhere.mkdir()
    (elsewhere / f"cudabuild-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="is not a folder of yours") as caught:
        _ = awkward.work
    assert "CUDABUILD_CACHE" in caught.value.hint


def test_another_users_folder_is_refused(awkward: Places, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    (elsewhere / f"cudabuild-{me + 1}").mkdir(parents=True)
    with pytest.raises(StoreError, match="is not a folder of yours") as caught:
        _ = awkward.work
    assert f"belongs to user {me}" in caught.value.evidence
