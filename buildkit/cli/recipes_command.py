"""``cudabuild recipes``: list, show, check, test and write recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from buildkit.cli.options import Asked, PackageType, examples, json_option, plan_options, verbose_option
from buildkit.cli.output import SCHEMA, answer, print_json, say
from buildkit.recipe.loader import find_recipe, list_recipes, load_recipe, search_path

_FOLDER = click.option("--recipes", "recipes_folder", type=click.Path(path_type=Path), help="Look here first.")


@click.group("recipes", epilog="\b\nExamples:\n  cudabuild recipes list\n  cudabuild recipes new mypkg")
def command() -> None:
    """List, show, check, test and write recipes."""


def _search(recipes_folder: Path | None) -> tuple[Path, ...]:
    asked = Asked.read({"recipes_folder": recipes_folder})
    return search_path(recipes_folder or asked.settings.recipes, asked.cwd, asked.environ)


@command.command("list", epilog=examples("cudabuild recipes list", "cudabuild recipes list --recipes ./mine --json"))
@_FOLDER
@json_option
def list_command(recipes_folder: Path | None, as_json: bool) -> int:
    """List the recipes that a name is looked up in, with the grade of the last build of each that is stored here."""
    from buildkit.cli.recipes_list import listing, table

    listed = list_recipes(_search(recipes_folder))
    rows = listing([each.loaded for each in listed if each.loaded is not None])
    for each in listed:
        if each.problem is not None:
            say(f"{each.name}: {each.problem.message}")
    if as_json:
        print_json({"schema": SCHEMA, "recipes": rows})
        return 0
    heading, *lines = table(rows)
    say(heading)  # for eyes: a program that reads the rows gets nothing but rows
    for line in lines:
        answer(line)
    return 0


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


@command.command(
    "check",
    epilog=examples(
        "cudabuild recipes check", "cudabuild recipes check recipes/mypkg", "cudabuild recipes check mypkg --online"
    ),
)
@click.argument("places", nargs=-1, metavar="[FOLDER|NAME]...")
@_FOLDER
@click.option("--online", is_flag=True, help="Fetch the sources, and ask their repositories for the pinned commits.")
@click.option("--find-links", multiple=True, metavar="DIR|URL", help="More places to find packages in.")
def check_command(places: tuple[str, ...], recipes_folder: Path | None, online: bool, **options: Any) -> int:
    """Check recipes: all of them, or the ones named. Every problem is told with its file, line and key.

    Patches and variables are checked against sources that are in the cache or a folder, or with --online. What
    builds and would prove little (no probe, no cuda-proof) is said, and is no failure; nor is a missing network.
    """
    from buildkit.cli.recipes_check import check

    return check(places, _search(recipes_folder), online=online, asked=Asked.read(options))


@command.command("test", epilog=examples("cudabuild recipes test mypkg --target 12.0", "cudabuild recipes test ./mine"))
@click.argument("place", type=PackageType(), metavar="NAME|FOLDER")
@plan_options
@json_option
@verbose_option
def test_command(place: str, **options: Any) -> int:
    """Build a recipe, prove it, and print the stages; the exit code is that of `build`.

    A wheel that is in the store is taken from there, and proven again where its proof is not valid here.
    """
    from buildkit.cli.build_command import build_all

    folder = Path(place)
    if "/" in place and (folder if folder.is_dir() else folder.parent).joinpath("recipe.toml").is_file():
        loaded = load_recipe(folder)
        place, options["recipes_folder"] = loaded.recipe.name, loaded.folder.parent
    else:
        place = find_recipe(place, _search(options["recipes_folder"])).recipe.name
    return build_all((place,), {**options, "out": None})


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
