"""Folders: what is copied, what is left out, and that the original is never touched."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from buildkit.errors import DiskFull, NotCached, ReadOnlyCache, SourceError, UnsafeArchive
from buildkit.progress import Silent
from buildkit.source.cached import cache_errors, discard
from buildkit.source.fetch import fetch_source, project_root, unpack
from buildkit.source.fetched import FetchedSource
from buildkit.source.folder import listed
from buildkit.source.index_settings import IndexSettings
from buildkit.source.spec import FolderSpec
from buildkit.source.tree import tree_sha256


def write(root: Path, *names: str, text: str = "x\n") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def fetch(path: Path, cache: Path, subdirectory: str = ".") -> FetchedSource:
    spec = FolderSpec(path, subdirectory)
    return fetch_source(spec, cache=cache, index=IndexSettings(), offline=True, reporter=Silent())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "mein Projekt ä"
    write(
        root,
        "setup.py",
        "src/k.cu",
        "src/k.o",
        "build/lib/x.so",
        "sub/keep.o",
        "sub/deep/drop.txt",
        ".hg/store",
        "src/.svn/x",
    )
    write(root, ".gitignore", text="*.o\n/build/\n.venv\n")
    write(root, "sub/.gitignore", text="!keep.o\ndrop.*\n")
    write(root, "env/pyvenv.cfg", "env/bin/python")
    (root / "src/link.cu").symlink_to("k.cu")
    (root / "setup.py").chmod(0o755)
    return root


EXPECTED = [".gitignore", "setup.py", "src/k.cu", "src/link.cu", "sub/.gitignore", "sub/keep.o"]


def test_gitignore_without_git(project: Path) -> None:
    assert listed(project) == EXPECTED


def test_gitignore_with_git(project: Path) -> None:
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    subprocess.run(["git", "-C", str(project), "add", "-f", "src/k.o", "setup.py"], check=True)
    write(project, "inner/x.cu")
    subprocess.run(["git", "init", "-q", str(project / "inner")], check=True)
    names = listed(project)
    assert "src/k.o" in names  # tracked although a rule would ignore it
    assert "inner/x.cu" in names
    assert not [name for name in names if ".git/" in name or name.startswith(("build/", ".hg"))]


def test_a_folder_that_an_outer_repository_ignores(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    write(tmp_path, ".gitignore", text="vendor/\n")
    write(tmp_path / "vendor/lib", "setup.py")
    assert listed(tmp_path / "vendor/lib") == ["setup.py"]


def test_hooks_and_fsmonitor_of_the_folder_do_not_run(project: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch '{tmp_path}/sprung'\n")
    trap.chmod(0o755)
    subprocess.run(["git", "-C", str(project), "config", "core.fsmonitor", str(trap)], check=True)
    listed(project)
    assert not (tmp_path / "sprung").exists()


def test_copied_and_hashed(project: Path, tmp_path: Path) -> None:
    before = tree_sha256(project)
    first = fetch(project, tmp_path / "cache")
    assert first.tree is not None
    assert first.sha256 == tree_sha256(first.tree)
    assert (first.kind, first.build_requires) == ("folder", ("setuptools", "wheel"))
    assert os.access(first.tree / "setup.py", os.X_OK)
    place = unpack(first, tmp_path / "build")
    (place / "setup.py").write_text("changed")
    assert tree_sha256(project) == before
    assert fetch(project, tmp_path / "cache").sha256 == first.sha256
    (project / "src/k.cu").write_text("other")
    assert fetch(project, tmp_path / "cache").sha256 != first.sha256
    assert not list((tmp_path / "cache/sources/folder").glob(".*"))


def test_damaged_copies_are_replaced(project: Path, tmp_path: Path) -> None:
    first = fetch(project, tmp_path / "cache")
    assert first.tree is not None
    (first.tree / "setup.py").write_text("flipped")
    with pytest.raises(SourceError, match="changed while"):
        unpack(first, tmp_path / "one")
    again = fetch(project, tmp_path / "cache")
    assert again == first
    assert (unpack(again, tmp_path / "two") / "setup.py").read_text() == "x\n"


def test_hash_is_of_content_modes_and_targets(tmp_path: Path) -> None:
    write(tmp_path / "a", "x/y", "z")
    write(tmp_path / "b", "z", "x/y")
    (tmp_path / "b/empty").mkdir()
    os.utime(tmp_path / "b/z", (1, 1))
    same = tree_sha256(tmp_path / "a")
    assert tree_sha256(tmp_path / "b") == same
    (tmp_path / "b/z").chmod(0o755)
    mode = tree_sha256(tmp_path / "b")
    (tmp_path / "b/z").unlink()
    (tmp_path / "b/z").symlink_to("x/y")
    assert len({same, mode, tree_sha256(tmp_path / "b")}) == 3


def test_subdirectory_and_static_metadata(tmp_path: Path) -> None:
    write(tmp_path / "p/py/demo", "setup.py")
    write(
        tmp_path / "p/py/demo",
        "pyproject.toml",
        text='[build-system]\nrequires = ["a>=1", "b"]\nbuild-backend = "a.build"\n'
        '[project]\nname = "demo"\nversion = "2"\n',
    )
    fetched = fetch(tmp_path / "p", tmp_path / "cache", "py/demo")
    assert (fetched.name, fetched.version, fetched.build_backend) == ("demo", "2", "a.build")
    assert fetched.build_requires == ("a>=1", "b")
    project = unpack(fetched, tmp_path / "out")
    assert project == tmp_path / "out/source/py/demo"
    assert project_root(project, fetched) == tmp_path / "out/source"
    with pytest.raises(SourceError, match="no folder"):
        fetch(tmp_path / "p", tmp_path / "cache", "absent")


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no folder"):
        fetch(tmp_path / "absent", tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no files"):
        fetch(tmp_path / "empty", tmp_path / "cache")
    write(tmp_path / "out", "setup.py")
    (tmp_path / "out/l").symlink_to(tmp_path)
    with pytest.raises(UnsafeArchive, match="the link l leads out"):
        fetch(tmp_path / "out", tmp_path / "cache")
    write(tmp_path / "bad", "pyproject.toml", text="[build-system\n")
    with pytest.raises(SourceError, match="does not parse"):
        fetch(tmp_path / "bad", tmp_path / "cache")


def test_pipes_are_left_out_and_said(tmp_path: Path) -> None:
    write(tmp_path / "p", "setup.py")
    os.mkfifo(tmp_path / "p/pipe")
    said: list[str] = []

    class Listening(Silent):
        def warn(self, text: str) -> None:
            said.append(text)

    spec = FolderSpec(tmp_path / "p")
    fetched = fetch_source(spec, cache=tmp_path / "c", index=IndexSettings(), offline=False, reporter=Listening())
    assert fetched.tree is not None
    assert not (fetched.tree / "pipe").exists()
    assert said == ["pipe is neither a file, a link nor a folder, and is left out"]


def test_a_cache_inside_the_folder_is_not_copied(tmp_path: Path) -> None:
    write(tmp_path / "p", "setup.py")
    first = fetch(tmp_path / "p", tmp_path / "p/cache")
    assert fetch(tmp_path / "p", tmp_path / "p/cache").sha256 == first.sha256


def test_the_systems_refusals_have_names(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="no space left"), cache_errors(tmp_path):
        raise OSError(28, "No space left on device")
    with pytest.raises(ReadOnlyCache, match="cannot be written"), cache_errors(tmp_path / "a"):
        raise OSError(30, "Read-only file system", str(tmp_path))
    with pytest.raises(PermissionError), cache_errors(tmp_path / "a"):
        raise PermissionError(13, "Permission denied", "/elsewhere/file")
    with pytest.raises(FileNotFoundError), cache_errors(tmp_path):
        (tmp_path / "absent").read_bytes()
    (tmp_path / "file").write_text("")
    write(tmp_path / "p", "setup.py")
    with pytest.raises((ReadOnlyCache, NotADirectoryError)):
        fetch(tmp_path / "p", tmp_path / "file")


def test_discard_frees_the_name(tmp_path: Path) -> None:
    write(tmp_path / "kind/entry", "x")
    discard(tmp_path / "kind/entry")
    assert list((tmp_path / "kind").iterdir()) == []


def test_offline_needs_no_network_for_folders(tmp_path: Path) -> None:
    write(tmp_path / "p", "setup.py")
    assert fetch(tmp_path / "p", tmp_path / "c").origin == str(tmp_path / "p")
    assert issubclass(NotCached, SourceError)
