"""``cudabuild recipes``: list, show, check and write recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from buildkit.cli.options import Asked, PackageType, examples, json_option
from buildkit.cli.output import SCHEMA, answer, print_json, say
from buildkit.errors import CudabuildError, RecipeError
from buildkit.recipe.loader import LoadedRecipe, find_recipe, list_recipes, load_recipe, recipe_names, search_path

_FOLDER = click.option("--recipes", "recipes_folder", type=click.Path(path_type=Path), help="Look here first.")


@click.group("recipes", epilog="\b\nExamples:\n  cudabuild recipes list\n  cudabuild recipes new mypkg")
def command() -> None:
    """List, show, check and write recipes."""


def _search(recipes_folder: Path | None) -> tuple[Path, ...]:
    asked = Asked.read({"recipes_folder": recipes_folder})
    return search_path(recipes_folder or asked.settings.recipes, asked.cwd, asked.environ)


@command.command("list", epilog=examples("cudabuild recipes list", "cudabuild recipes list --recipes ./mine --json"))
@_FOLDER
@json_option
def list_command(recipes_folder: Path | None, as_json: bool) -> int:
    """List the recipes that a name is looked up in, nearest place first."""
    listed = list_recipes(_search(recipes_folder))
    found = [_row(each.loaded) for each in listed if each.loaded is not None]
    for each in listed:
        if each.problem is not None:
            say(f"{each.name}: {each.problem.message}")
    if as_json:
        print_json({"schema": SCHEMA, "recipes": found})
        return 0
    for row in found:
        answer(f"{row['name']:24} {', '.join(row['versions']):12} {row['license']:18} {row['summary']}")
    return 0


def _row(loaded: LoadedRecipe) -> dict[str, Any]:
    recipe = loaded.recipe
    return {
        "name": recipe.name,
        "versions": [version.version for version in recipe.versions],
        "summary": recipe.summary,
        "license": recipe.license.spdx,
        "redistributable": recipe.license.redistributable,
        "status": recipe.status,
        "folder": str(loaded.folder),
    }


@command.command("show", epilog=examples("cudabuild recipes show diso"))
@click.argument("name")
@_FOLDER
@json_option
def show_command(name: str, recipes_folder: Path | None, as_json: bool) -> int:
    """Show a recipe as it was understood."""
    loaded = find_recipe(name, _search(recipes_folder))
    value = loaded.recipe.model_dump(mode="json", by_alias=True)
    if as_json:
        print_json({"schema": SCHEMA, "folder": str(loaded.folder), "sha256": loaded.sha256, "recipe": value})
    else:
        answer(json.dumps(value, indent=2, ensure_ascii=False))
    return 0


@command.command("check", epilog=examples("cudabuild recipes check", "cudabuild recipes check recipes/mypkg"))
@click.argument("places", nargs=-1, metavar="[FOLDER|NAME]...")
@_FOLDER
def check_command(places: tuple[str, ...], recipes_folder: Path | None) -> int:
    """Check recipes: all of them, or the ones named. Every problem is told with its file, line and key.

    What builds and would prove little (no probe, no cuda-proof) is said, and is no failure.
    """
    from buildkit.recipe.review import review

    folders = _search(recipes_folder)
    failed: list[tuple[str, str]] = []
    names = places or tuple(recipe_names(folders))
    for place in names:
        try:
            loaded = load_recipe(Path(place)) if Path(place).exists() else find_recipe(place, folders)
            advice = review(loaded)
        except CudabuildError as error:
            say(f"{place}: {error.message}")
            failed.append((place, error.hint))
            continue
        for line in advice:
            say(line)
        answer(f"{loaded.recipe.name}: sound")
    if failed:
        unsound = ", ".join(place for place, _ in failed)
        raise RecipeError(f"{len(failed)} of {len(names)} recipes are not sound: {unsound}", hint=failed[0][1])
    return 0


@command.command(
    "new",
    epilog=examples(
        "cudabuild recipes new mypkg==1.0",
        "cudabuild recipes new https://example.org/someone/mypkg@v1.0",
        "cudabuild recipes new ./mypkg --name mine",
        "cudabuild recipes new mypkg --git https://example.org/mypkg@0123456789abcdef0123456789abcdef01234567",
    ),
)
@click.argument("what", type=PackageType(), metavar="NAME[==VERSION]|URL[@COMMIT]|PATH")
@click.option("--sdist", metavar="NAME==VERSION", help="Start from a source distribution on the index.")
@click.option("--git", metavar="URL@COMMIT", help="Start from a git repository.")
@click.option("--name", metavar="NAME", help="Call the recipe so, and not after its project.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("recipes"), show_default=True)
@click.option("--blank", is_flag=True, help="Fetch nothing: an empty recipe of that name.")
@click.option("--offline", is_flag=True, help="Use only what is in the cache.")
@click.option("--find-links", multiple=True, metavar="DIR|URL", help="More places to find packages in.")
def new_command(
    what: str, sdist: str | None, git: str | None, name: str | None, folder: Path, blank: bool, **options: Any
) -> int:
    """Look at a source and write a commented recipe for it.

    WHAT is a project on the package index, a repository's URL (with a commit, tag or branch; else its HEAD), or a
    project's folder (with a slash in it). Nothing of the source is run; each finding is a comment with its place.
    """
    from buildkit.cli.recipes_new import write_new

    return write_new(what, name=name, sdist=sdist, git=git, folder=folder, look=not blank, asked=Asked.read(options))


@command.command("schema", epilog=examples("cudabuild recipes schema > recipe.schema.json"))
def schema_command() -> int:
    """Print the JSON schema of recipe.toml (for editors)."""
    from buildkit.recipe.schema import recipe_schema

    answer(json.dumps(recipe_schema(), indent=2))
    return 0
