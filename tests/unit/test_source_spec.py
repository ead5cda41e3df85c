"""What a person or a recipe may name as a source."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.errors import RecipeError, UsageError
from buildkit.recipe.model import Version
from buildkit.source.spec import (
    ArchiveSpec,
    FolderSpec,
    GitSpec,
    SdistSpec,
    SourceSpec,
    parse_source,
    spec_of,
)

REV = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("pypi:demo", SdistSpec("demo")),
        ("pypi:demo_x==1.2.post1", SdistSpec("demo_x", "1.2.post1")),
        (f"https://git.example/a/b@{REV}", GitSpec("https://git.example/a/b", REV, True)),
        (f"git+https://git.example/a/b.git@{REV.upper()}", GitSpec("https://git.example/a/b.git", REV, True)),
        (
            f"https://git.example/a@{REV}#subdirectory=bindings/torch/",
            GitSpec("https://git.example/a", REV, True, "bindings/torch"),
        ),
        (f"git@git.example:a/b.git@{REV}", GitSpec("ssh://git@git.example/a/b.git", REV, True)),
        (f"ssh://git@git.example/a@{REV}", GitSpec("ssh://git@git.example/a", REV, True)),
        (f"file:///srv/a@{REV}", GitSpec("file:///srv/a", REV, True, local=True)),
    ],
)
def test_parse_source(text: str, spec: SourceSpec, tmp_path: Path) -> None:
    assert parse_source(text, cwd=tmp_path) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pypi:", "does not name a package"),
        ("pypi:a b", "does not name a package"),
        ("pypi:demo==", "does not name a package"),
        ("https://git.example/a", "names no commit"),
        ("https://git.example/a@main", "not a full commit id"),
        ("https://git.example/a@0123abc", "not a full commit id"),
        (f"http://git.example/a@{REV}", "cannot fetch from"),
        (f"git://git.example/a@{REV}", "cannot fetch from"),
        (f"ext::sh -c id@{REV}", "no folder or file"),
        (f"ssh://-oProxyCommand=id/a@{REV}", "cannot fetch from"),
        (f"https://git.example/a@{REV}#subdirectory=../..", "leaves the source"),
        ("nowhere/at/all", "no folder or file"),
    ],
)
def test_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_source(text, cwd=tmp_path)
    assert caught.value.hint


def test_credentials_are_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        parse_source("https://me:secret@git.example/a@main", cwd=tmp_path)
    assert "secret" not in caught.value.message + caught.value.hint


def test_local_places(tmp_path: Path) -> None:
    folder = tmp_path / "mit Leerzeichen ä"
    folder.mkdir()
    archive = tmp_path / "demo-1.0.tar.gz"
    archive.write_bytes(b"")
    (tmp_path / "notes.txt").write_text("x")
    assert parse_source(folder.name, cwd=tmp_path) == FolderSpec(folder)
    assert parse_source(str(archive)) == ArchiveSpec(archive)
    assert parse_source(f"{folder.name}@{REV}", cwd=tmp_path) == GitSpec(folder.as_uri(), REV, True, local=True)
    with pytest.raises(UsageError, match="not a source archive"):
        parse_source("notes.txt", cwd=tmp_path)


def test_spec_of_recipe_versions() -> None:
    here = Path("/recipes/demo")
    git = Version(version="1", git="https://git.example/a", rev=REV, submodules=True, subdirectory="x/y")
    assert spec_of(git, here) == GitSpec("https://git.example/a", REV, True, "x/y")
    assert spec_of(Version(version="1", sdist="demo", sha256="a" * 64), here) == SdistSpec("demo", "1", "a" * 64)
    assert spec_of(Version(version="1", folder="../src"), here) == FolderSpec(here / "../src")
    with pytest.raises(RecipeError, match="subdirectory"):
        spec_of(Version(version="1", sdist="demo", sha256="a" * 64, subdirectory="x"), here)
