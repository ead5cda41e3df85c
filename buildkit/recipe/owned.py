"""Names of distributions that recipes own: an index never has them from elsewhere, and takes uploads of no others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from buildkit.recipe.loader import list_recipes
from buildkit.recipe.model import Recipe


def owned_names(folders: Sequence[Path]) -> frozenset[str]:
    """The normalised names (PEP 503) that the recipes in these folders own; an unreadable recipe's own name counts."""
    found: set[str] = set()
    for listed in list_recipes(folders):
        found.add(listed.name)
        if listed.loaded is not None:
            found |= set(names_of(listed.loaded.recipe))
    return frozenset(re.sub(r"[-_.]+", "-", name).lower() for name in found)


def names_of(recipe: Recipe) -> Iterable[str]:
    """A recipe's name, its source distributions', and those of the packages that its wheel installs.

    What the wheel's own name will be is only known once it is built; it is one of these for all that are known.
    """
    yield recipe.name
    yield from (version.sdist for version in recipe.versions if version.sdist)
    yield from (module.partition(".")[0] for module in recipe.verify.imports)
