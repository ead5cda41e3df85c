"""The cells of a cudabuild.toml for machines that are not here: the same on every one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.errors import ConfigError

if TYPE_CHECKING:
    from buildkit.cli.options import Asked
    from buildkit.matrix.expand import Expansion
    from buildkit.matrix.model import Matrix
    from buildkit.matrix.packages import Wanted


@dataclass(frozen=True)
class Planned:
    """A file's matrix, its cells, and the folders in which its recipes were found."""

    file: Path
    matrix: Matrix
    expansion: Expansion
    folders: tuple[Path, ...]
    packages: dict[tuple[str, str], Wanted]


def plan_cells(file: Path | None, recipes_folder: Path | None, asked: Asked) -> Planned:
    """Read the matrix for other machines than this one: it has to name its Pythons, and is for x86-64 where it names
    no platform. Raises ConfigError, UnknownRecipe, RecipeError.
    """  # fmt: skip
    from buildkit.cli.settings import config_file
    from buildkit.matrix.expand import Here, expand, words_of_recipes
    from buildkit.matrix.model import FILE, load_matrix
    from buildkit.matrix.packages import by_recipe, find_packages
    from buildkit.recipe.loader import search_path

    path = asked.cwd / (file or FILE)
    matrix = load_matrix(path, settings=asked.cwd / config_file(asked.environ))
    if not matrix.python:
        raise ConfigError(
            f"{path.name}: matrix.python is empty, and this machine's own Python says nothing about other machines",
            hint='name them: python = ["3.11", "3.12"]',
        )
    folders = search_path(recipes_folder or asked.settings.recipes, path.parent, asked.environ)
    packages = find_packages(words_of_recipes(matrix), folders, path.parent)
    return Planned(path, matrix, expand(matrix, packages, Here("", "linux_x86_64")), folders, by_recipe(packages))
