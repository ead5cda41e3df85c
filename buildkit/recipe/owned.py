"""Names of distributions that recipes own: an index never has them from elsewhere, and takes uploads of no others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from buildkit.recipe.loader import list_recipes
from buildkit.recipe.model import Recipe


def owned_licences(folders: Sequence[Path]) -> dict[str, bool]:
    """Every owned name, and whether all recipes that own it let others have the wheel (an unreadable one does not)."""
    found: dict[str, bool] = {}
    for listed in list_recipes(folders):
        recipe = listed.loaded.recipe if listed.loaded else None
        for name in (listed.name, *(names_of(recipe) if recipe else ())):
            known = found.get(canonicalize_name(name), True)
            found[canonicalize_name(name)] = known and recipe is not None and recipe.license.redistributable
    return found


def owned_names(folders: Sequence[Path]) -> frozenset[str]:
    """The normalised names (PEP 503) that the recipes in these folders own; an unreadable recipe's own name counts."""
    return frozenset(owned_licences(folders))


def names_of(recipe: Recipe) -> Iterable[str]:
    """A recipe's name, its source distributions', and those of the packages that its wheel installs.

    What the wheel's own name will be is only known once it is built; it is one of these for all that are known.
    """
    yield recipe.name
    yield from (version.sdist for version in recipe.versions if version.sdist)
    yield from (module.partition(".")[0] for module in recipe.verify.imports)
