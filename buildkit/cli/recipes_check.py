"""``cudabuild recipes check``: what of recipes can be checked without building anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from buildkit.cli.options import Asked, make_context
from buildkit.cli.output import answer, say
from buildkit.cli.terminal import reporter_for
from buildkit.errors import CudabuildError, Interrupted, RecipeError, Terminated
from buildkit.progress import Reporter
from buildkit.recipe.loader import FILE, LoadedRecipe, find_recipe, load_recipe, recipe_names
from buildkit.recipe.problems import located, recipe_error
from buildkit.recipe.review import review
from buildkit.source.recipe_look import Looker


def check(places: Sequence[str], folders: Sequence[Path], *, online: bool, asked: Asked) -> int:
    """Check each place (a recipe's name or folder; none: every recipe). RecipeError names the unsound ones."""
    failed: list[tuple[str, str]] = []
    names = tuple(places) or tuple(recipe_names(folders))
    with reporter_for(verbose=False) as reporter:
        looker = _looker(asked, reporter, online=online)
        for place in names:
            try:
                loaded = load_recipe(Path(place)) if _is_place(place) else find_recipe(place, folders)
                advice = _checked(loaded, looker)
            except (Interrupted, Terminated):
                raise
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


def _is_place(text: str) -> bool:
    """Whether it is a recipe's folder or file: a folder of the package's name may be its source."""
    path = Path(text)
    return path.is_file() or (path / FILE).is_file() or (path.exists() and "/" in text)


def _looker(asked: Asked, reporter: Reporter, *, online: bool) -> Looker:
    context = make_context(asked, reporter)
    context.hold(context.places.sources)
    return Looker(context.places.sources, context.index, reporter, online=online)


def _checked(loaded: LoadedRecipe, looker: Looker) -> list[str]:
    """Sentences about a sound recipe; RecipeError for another."""
    advice = review(loaded)
    looked = looker.look(loaded)
    file = loaded.folder / FILE
    text = file.read_text("utf-8-sig")
    if looked.problems:
        raise recipe_error(file, text, looked.problems)
    return [*advice, *located(file, text, looked.notes)]
