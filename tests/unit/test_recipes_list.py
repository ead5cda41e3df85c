"""The rows of `recipes list`: where a recipe's source comes from, and the grade of its newest wheel in the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildkit.cli.main import main
from buildkit.store.model import Entry
from buildkit.store.store import Store

RECIPE = """edition = 1
name = "{name}"
summary = "a {name}"
license = {{ spdx = "MIT", redistributable = true }}
[[version]]
version = "2.0"
{source}
[[version]]
version = "1.0"
folder = "."
"""
SOURCES = {
    "folder-one": 'folder = "."',
    "git-one": f'git = "https://git.example/a"\nrev = "{"1" * 40}"',
    "sdist-one": f'sdist = "a"\nsha256 = "{"1" * 64}"',
}

pytestmark = pytest.mark.usefixtures("empty_machine")


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes"
    for name, source in SOURCES.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "recipe.toml").write_text(RECIPE.format(name=name, source=source))
    return folder


def put(tmp_path: Path, recipe: str, grade: str, moment: str) -> None:
    from hashlib import sha256

    wheel = tmp_path / f"{recipe}-{moment[:4]}.whl"
    wheel.write_text(moment)
    digest = sha256(wheel.read_bytes()).hexdigest()
    entry = Entry(
        key=digest, family=digest, recipe=recipe, version="2.0", build="20260101-0000", created=moment,
        filename=f"{recipe.replace('-', '_')}-2.0-py3-none-any.whl", sha256=digest, size=wheel.stat().st_size,
        inputs={"targets": []}, verdict={"grade": grade}, plan={}, seconds=1.0,
    )  # fmt: skip
    Store(tmp_path / "cache" / "store").put(wheel, entry)


def rows(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    assert main(["recipes", "list", *words]) == 0
    return capsys.readouterr()


def test_sources_and_grades(recipes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "git-one", "executed", "2026-01-02T00:00:00Z")
    put(tmp_path, "git-one", "imported", "2026-01-03T00:00:00Z")
    listed = json.loads(rows(capsys, "--json")[0])["recipes"]
    found = {row["name"]: (row["source"], row["grade"], row["versions"]) for row in listed if row["name"] in SOURCES}
    assert found == {
        "folder-one": ("folder", None, ["2.0", "1.0"]),
        "git-one": ("git", "imported", ["2.0", "1.0"]),
        "sdist-one": ("sdist", None, ["2.0", "1.0"]),
    }


def test_the_table(recipes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "git-one", "audited", "2026-01-02T00:00:00Z")
    out, err = rows(capsys)
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["git-one"].split()[1:6] == ["2.0,", "1.0", "git", "MIT", "unconfirmed"]
    assert err.split() == ["NAME", "VERSION", "SOURCE", "LICENSE", "STATUS", "GRADE", "SUMMARY"]
    column = err.index("GRADE")
    assert lines["git-one"][column:].startswith("audited ")
    assert lines["sdist-one"][column:].startswith("- ")


def test_a_store_that_cannot_be_read_hides_no_recipe(
    recipes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file")
    assert "git-one" in rows(capsys)[0]
