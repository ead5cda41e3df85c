"""Where a build cannot be kept from writing: what it changed is found, named, and what is shared removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit.build import unguarded
from buildkit.build.torches import manifest_of
from buildkit.build.unguarded import Unguarded, discard_changed
from buildkit.errors import EnvironmentChanged
from buildkit.machine.manifest import check_manifest, write_manifest


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A managed torch whose files are uv's, a view, the person's environment and home."""
    cached = tmp_path / "uv" / "archive-v0" / "abc"
    for name in ("uv/archive-v0/abc/torch.py", "uv/archive-v0/xyz/other.py", "torch/env/own.py", "view/include/cuda.h"):
        write(tmp_path / name, name)
    write(tmp_path / "venv" / "lib" / "x.py", "x")
    write(tmp_path / "home" / ".gitconfig", "mine")
    os.link(cached / "torch.py", tmp_path / "torch" / "env" / "torch.py")
    write_manifest(tmp_path / "torch" / "env", manifest_of(tmp_path / "torch" / "env"))
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def record(places: Path) -> Unguarded:
    settings = (places / "home" / ".gitconfig", places / "home" / ".pydistutils.cfg")
    return Unguarded(
        managed=(places / "torch" / "env",),
        views={places / "view": unguarded._states(places / "view")},
        own={places / "venv": unguarded._states(places / "venv")},
        settings={path: unguarded._content(path) for path in settings},
        uv_cache=places / "uv",
    )


def append(path: Path) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("# meddled")


def test_nothing_changed(places: Path) -> None:
    watch = record(places)
    os.link(places / "venv" / "lib" / "x.py", places / "another name")
    watch.check()


@pytest.mark.parametrize(
    ("changed", "evidence"),
    [
        ("venv/lib/x.py", "a file was changed: {0}/venv/lib/x.py"),
        ("venv/lib/new.py", "a file was added: {0}/venv/lib/new.py"),
        ("home/.gitconfig", "a file was changed: {0}/home/.gitconfig"),
        ("home/.pydistutils.cfg", "a file was changed: {0}/home/.pydistutils.cfg"),
    ],
)
def test_what_is_the_persons_is_named_and_left(places: Path, changed: str, evidence: str) -> None:
    watch = record(places)
    append(places / changed)
    with pytest.raises(EnvironmentChanged) as caught:
        watch.check()
    assert caught.value.evidence == evidence.format(places)
    assert caught.value.exit_code == 5
    assert "namespaces" in caught.value.hint
    assert (places / changed).exists()


def test_a_restored_time_does_not_hide_a_change(places: Path) -> None:
    watch, file = record(places), places / "venv" / "lib" / "x.py"
    before = file.stat()
    file.write_text("y", encoding="utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(EnvironmentChanged, match="venv"):
        watch.check()


def test_a_removed_file_is_named(places: Path) -> None:
    watch = record(places)
    (places / "venv" / "lib" / "x.py").unlink()
    with pytest.raises(EnvironmentChanged) as caught:
        watch.check()
    assert caught.value.evidence == f"a file was removed: {places}/venv/lib/x.py"


def test_a_changed_view_is_removed(places: Path) -> None:
    watch = record(places)
    append(places / "view" / "include" / "new.h")
    with pytest.raises(EnvironmentChanged, match="which other builds use"):
        watch.check()
    assert not (places / "view").exists()


def test_a_changed_shared_environment_goes_with_the_cached_package_it_shares_bytes_with(places: Path) -> None:
    watch = record(places)
    append(places / "torch" / "env" / "torch.py")
    append(places / "venv" / "lib" / "x.py")
    with pytest.raises(EnvironmentChanged, match="which other builds use") as caught:
        watch.check()
    assert caught.value.evidence == "a file was changed: torch.py"
    assert not (places / "torch" / "env").exists()
    assert not manifest_of(places / "torch" / "env").exists()
    assert not (places / "uv" / "archive-v0" / "abc").exists(), "else the change would be installed again"
    assert (places / "uv" / "archive-v0" / "xyz").exists()


def test_a_file_of_its_own_says_nothing_about_the_cache(places: Path) -> None:
    append(places / "torch" / "env" / "own.py")
    assert discard_changed(places / "torch" / "env", places / "uv") == "a file was changed: own.py"
    assert (places / "uv" / "archive-v0" / "abc").exists()


def test_a_folder_that_is_as_it_was_stays(places: Path) -> None:
    assert discard_changed(places / "torch" / "env", places / "uv") == ""
    check_manifest(places / "torch" / "env", manifest_of(places / "torch" / "env"))
