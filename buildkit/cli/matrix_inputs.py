"""What the commands of ``cudabuild matrix`` start from: the file, its cells, what is remembered of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buildkit.cli.options import Asked, make_context
from buildkit.cli.settings import config_file
from buildkit.errors import UsageError
from buildkit.matrix.cell import Cell
from buildkit.matrix.expand import Dropped, Here, expand, words_of_recipes
from buildkit.matrix.history import Past, past_builds, past_cells
from buildkit.matrix.model import FILE, load_matrix
from buildkit.matrix.outlook import python_word
from buildkit.matrix.packages import Wanted, by_recipe, find_packages
from buildkit.matrix.state import Runs
from buildkit.progress import Silent
from buildkit.recipe.loader import search_path

if TYPE_CHECKING:
    from buildkit.build.context import Context
    from buildkit.machine.interpreter import Interpreter

Command = Callable[..., Any]

_PATH = click.Path(path_type=Path)

_OPTIONS = (
    click.option("--file", type=_PATH, default=FILE, show_default=True, metavar="FILE", help="The file with [matrix]."),
    click.option("--only", multiple=True, metavar="PATTERN", help="Only cells with such an id, such as 'NAME-*'."),
    click.option("--recipes", "recipes_folder", type=_PATH, metavar="DIR", help="Look for recipes here first."),
    click.option("--pass-env", multiple=True, metavar="NAME[=VALUE]",
                 help="Let the backends see this variable; it becomes part of the keys."),
    click.option("--find-links", multiple=True, metavar="DIR|URL", help="More places to find packages in."),
)  # fmt: skip


def matrix_options(command: Command) -> Command:
    """What says which cells there are and what their keys are."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Inputs:
    """A matrix as it stands, on this machine."""

    file: Path
    asked: Asked
    context: Context
    """Offline, and installing nothing."""
    python: Interpreter
    """The active one."""
    cells: tuple[Cell, ...]
    dropped: tuple[Dropped, ...]
    packages: dict[tuple[str, str], Wanted]
    runs: Runs

    def pasts(self) -> list[Past]:
        """What is remembered of builds: those of the store, and those of earlier runs, wherever they were."""
        return [*past_builds(self.context.store), *past_cells(self.runs.newest_first(), self.packages)]

    def python_of(self) -> Callable[[Cell], str | None]:
        """What goes after ``--python`` on this machine."""

        @cache
        def word(cell: Cell) -> str | None:
            return python_word(cell, self.context)

        return word


def read_inputs(options: Mapping[str, Any]) -> Inputs:
    """Read the file, find the recipes, expand. Raises ConfigError, RecipeError, UsageError, MachineError."""
    from buildkit.machine.interpreter import active_interpreter

    file = Path(options["file"]).absolute()
    recipes = options.get("recipes_folder")
    given = {**options, "recipes_folder": recipes.absolute() if recipes else None, "offline": True}
    asked = replace(Asked.read(given), cwd=file.parent)
    matrix = load_matrix(file, settings=config_file(asked.environ).absolute())
    context = make_context(asked, Silent(), may_install=False)
    folders = search_path(asked.request("").recipes, asked.cwd, asked.environ)
    packages = find_packages(words_of_recipes(matrix), folders, asked.cwd)
    python = active_interpreter(None, asked.environ, asked.cwd, context.memo)
    expansion = expand(matrix, packages, Here(".".join(python.version.split(".")[:2]), python.platform))
    return Inputs(
        file,
        asked,
        context,
        python,
        _only(expansion.cells, options["only"]),
        expansion.dropped,
        by_recipe(packages),
        Runs(context.places.matrix),
    )


def _only(cells: Sequence[Cell], patterns: Sequence[str]) -> tuple[Cell, ...]:
    found = tuple(cell for cell in cells if not patterns or any(fnmatchcase(cell.id, one) for one in patterns))
    if patterns and not found:
        raise UsageError(
            f"no cell's id is like {' or '.join(patterns)}",
            evidence=f"the first is {cells[0].id}" if cells else "",
            hint="cudabuild matrix show",
        )
    return found


def common_words(options: Mapping[str, Any]) -> list[str]:
    """Options of `matrix run` that are handed to each build, as it takes them."""
    words: list[str] = []
    if recipes := options.get("recipes_folder"):
        words += ["--recipes", str(recipes.absolute())]
    for name, option in (("pass_env", "--pass-env"), ("find_links", "--find-links")):
        for value in options.get(name, ()):
            words += [option, _from_anywhere(value) if option == "--find-links" else value]
    if options.get("store"):
        words += ["--store", _from_anywhere(options["store"])]
    flags = {"offline": "--offline", "refresh": "--refresh", "no_canary": "--no-canary"}
    return words + [flag for name, flag in flags.items() if options.get(name)]


def _from_anywhere(place: str) -> str:
    """A folder or an address, as a command of another working folder (the file's) takes it."""
    return place if "://" in place or place.startswith("file:") else str(Path(place).expanduser().absolute())
