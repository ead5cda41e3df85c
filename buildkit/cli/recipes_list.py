"""``cudabuild recipes list``: one row a recipe, with what the store has of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from buildkit.cli.console import printable
from buildkit.cli.options import Asked
from buildkit.cli.settings import cache_folder
from buildkit.errors import StoreError
from buildkit.recipe.loader import LoadedRecipe
from buildkit.recipe.model import Version

_COLUMNS = ("name", "version", "source", "license", "status", "grade", "summary")


def listing(recipes: Sequence[LoadedRecipe]) -> list[dict[str, Any]]:
    """A row each. ``grade`` is that of the newest entry of the recipe in the store; None where there is none."""
    grades = _grades()
    return [_row(loaded, grades.get(loaded.recipe.name)) for loaded in recipes]


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Aligned lines for people, the first with the columns' names."""
    cells = [tuple(name.upper() for name in _COLUMNS), *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_COLUMNS))]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _row(loaded: LoadedRecipe, grade: str | None) -> dict[str, Any]:
    recipe = loaded.recipe
    return {
        "name": recipe.name,
        "versions": [version.version for version in recipe.versions],
        "source": _kind(recipe.versions[0]),
        "summary": recipe.summary,
        "license": recipe.license.spdx,
        "redistributable": recipe.license.redistributable,
        "status": recipe.status,
        "grade": grade,
        "folder": str(loaded.folder),
    }


def _kind(version: Version) -> str:
    return "git" if version.git is not None else "sdist" if version.sdist is not None else "folder"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    shown = {**row, "version": ", ".join(row["versions"]), "grade": row["grade"] or "-"}
    return tuple(printable(str(shown[name])) for name in _COLUMNS)


def _grades() -> dict[str, str]:
    """The newest grade by recipe. A store that cannot be read has none: the list does not need it."""
    from buildkit.build.places import Places
    from buildkit.store.store import Store
    from buildkit.verify.verdict import stored_grade

    asked = Asked.read({})
    found: dict[str, str] = {}
    with contextlib.suppress(StoreError):
        for entry in Store(Places(cache_folder(asked.settings, asked.environ)).store).entries():
            found.setdefault(entry.recipe, stored_grade(entry.verdict))
    return found
