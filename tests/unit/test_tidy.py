"""What a killed command leaves behind is removed by age, and nothing younger is touched."""

from __future__ import annotations

import os
import time
from pathlib import Path

from buildkit.build.places import Places
from buildkit.build.tidy import BUILD_SECONDS, SCRATCH_SECONDS, put_away, tidy
from buildkit.store.store import Store


def folder(path: Path, age: float) -> Path:
    """A folder with a file in it, last changed ``age`` seconds ago."""
    path.mkdir(parents=True)
    (path / "file").write_text("x")
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def test_old_scratch_and_old_builds_go_and_the_rest_stays(tmp_path: Path) -> None:
    places = Places(tmp_path / "cache", tmp_path / "elsewhere")
    gone = {
        folder(places.work / "proof-abc", SCRATCH_SECONDS + 60),
        folder(places.work / "install-abc", SCRATCH_SECONDS + 60),
        folder(places.builds / "1234", BUILD_SECONDS + 60),
    }
    stays = [
        folder(places.work / "proof-new", 60),
        folder(places.builds / "5678", SCRATCH_SECONDS + 60),
        folder(places.torch / "proof-is-no-scratch", BUILD_SECONDS + 60),
    ]
    assert set(tidy(places)) == gone
    assert not any(path.exists() for path in gone)
    assert all((path / "file").is_file() for path in stays)


def test_an_old_folder_whose_build_runs_stays(tmp_path: Path) -> None:
    places = Places(tmp_path / "cache", tmp_path / "elsewhere")
    running = folder(places.builds / "1234", BUILD_SECONDS + 60)
    with Store(places.store).lock("1234"):
        assert tidy(places) == []
    assert tidy(places) == [running]


def test_what_a_killed_clearing_left_goes(tmp_path: Path) -> None:
    places = Places(tmp_path / "cache", tmp_path / "elsewhere")
    left = put_away(folder(places.torch / "cp311", 60))
    assert not (places.torch / "cp311").exists()
    assert tidy(places) == [left]


def test_an_empty_cache_is_no_error(tmp_path: Path) -> None:
    assert tidy(Places(tmp_path / "cache", tmp_path / "elsewhere")) == []
