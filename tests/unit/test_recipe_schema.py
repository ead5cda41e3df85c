"""The JSON schema and the reference page say what the model says, and the schema refuses what it refuses."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from buildkit.recipe.loader import bundled_recipes
from buildkit.recipe.model import Recipe
from buildkit.recipe.reference import field_tables, with_tables
from buildkit.recipe.schema import recipe_schema, schema_text
from buildkit.recipe.skeleton import new_recipe_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"
REFRESH = (
    'make it anew: python -c "from pathlib import Path; from buildkit.recipe.reference import write_reference; '
    "write_reference(Path('docs/reference'))\""
)
VALID: dict[str, Any] = tomllib.loads(new_recipe_text("sample"))


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(recipe_schema())


def valid(**changes: Any) -> dict[str, Any]:
    return VALID | changes


def test_the_schema_on_disk_is_the_models() -> None:
    assert (DOCS / "recipe.schema.json").read_text("utf-8") == schema_text(), REFRESH


def test_the_reference_page_has_the_models_tables() -> None:
    page = (DOCS / "recipe.md").read_text("utf-8")
    assert with_tables(page) == page, REFRESH


def test_every_key_is_on_the_reference_page() -> None:
    tables = field_tables()
    for field in Recipe.model_fields.values():
        assert f"| `{field.alias}` |" in tables
    assert '`"2.5 GiB"`' in tables


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the two lines"):
        with_tables("# nothing here\n")


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(recipe_schema())


@pytest.mark.parametrize("file", sorted(bundled_recipes().glob("*/recipe.toml")), ids=lambda file: file.parent.name)
def test_bundled_recipes_hold_to_the_schema(file: Path) -> None:
    validator().validate(tomllib.loads(file.read_text("utf-8")))


SOURCE = {"version": "1", "sdist": "x", "sha256": "a" * 64}


@pytest.mark.parametrize(
    "changes",
    [
        {"edition": 2},
        {"name": "Sample"},
        {"nothing": 1},
        {"version": []},
        {"version": [{"version": "1"}]},
        {"version": [SOURCE | {"folder": "."}]},
        {"version": [SOURCE | {"rev": "a" * 40}]},
        {"version": [{"version": "1", "git": "https://g.example/x", "rev": "main"}]},
        {"version": [{"version": "1", "git": "https://g.example/x", "rev": "a" * 40, "sdist": "x"}]},
        {"build": {"memory-per-unit": 3}},
        {"build": {"memory-per-unit": "much"}},
        {"build": {"memory_per_unit": "1 GiB"}},
        {"build": {"env": {"A-B": "1"}}},
        {"build": {"env": {"A": 1}}},
        {"verify": {"cuda-proof": ["a.b"]}},
        {"license": {"spdx": "MIT"}},
    ],
)
def test_schema_and_model_refuse_the_same(changes: dict[str, Any]) -> None:
    assert not validator().is_valid(valid(**changes))
    with pytest.raises(ValueError, match="validation error"):
        Recipe.model_validate(valid(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": [SOURCE]},
        {"version": [{"version": "1", "folder": "../.."}]},
        {"version": [{"version": "1", "git": "git@g.example:a/b", "rev": "a" * 64, "submodules": True}]},
        {"build": {"memory-per-unit": "800 MiB", "timeout": "2h", "config-settings": {"a": ["b"], "c": True}}},
    ],
)
def test_schema_and_model_take_the_same(changes: dict[str, Any]) -> None:
    validator().validate(valid(**changes))
    Recipe.model_validate(valid(**changes))
