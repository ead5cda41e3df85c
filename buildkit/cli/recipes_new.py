"""``cudabuild recipes new``: a source is fetched and looked at, and each finding is a comment of its recipe."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.cli.options import Asked, make_context
from buildkit.cli.output import answer, say
from buildkit.cli.terminal import reporter_for
from buildkit.errors import IndexUnreachable, NotCached, RecipeError, UsageError
from buildkit.recipe.loader import check_recipe
from buildkit.recipe.skeleton import new_recipe_text, recipe_text

if TYPE_CHECKING:
    from buildkit.build.context import Context
    from buildkit.build.new_recipe import Drafted


def write_new(
    text: str, *, name: str | None, sdist: str | None, git: str | None, folder: Path, look: bool, asked: Asked
) -> int:
    """Write ``folder/NAME/recipe.toml``. ``sdist`` and ``git`` name the source of a recipe that is called ``text``."""
    chosen = text if sdist is not None or git is not None else name
    if chosen is not None:
        new_recipe_text(chosen)  # a name that no recipe can have is told before anything is fetched
        _free(folder, chosen)
    if look:
        with reporter_for(verbose=False) as reporter:
            drafted = _drafted(text, chosen, sdist, git, folder, make_context(asked, reporter))
    else:
        drafted = _undrafted(text, chosen, sdist, git)
    place = _free(folder, drafted.draft.name)
    written = recipe_text(drafted.draft)
    _check(place, written)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(written, encoding="utf-8")
    answer(str(place))
    _tell(drafted)
    say(f"edit it, then: cudabuild recipes check {place.parent}")
    return 0


def _check(place: Path, text: str) -> None:
    """Before it is written: what does not load would stand in the way of the next attempt."""
    try:
        check_recipe(Path(os.path.abspath(place)), text.encode(), text)  # noqa: PTH100 - as load_recipe has it
    except RecipeError as error:
        error.hint = f"nothing was written; for one to fill in: cudabuild recipes new {place.parent.name} --blank"
        raise


def _free(folder: Path, name: str) -> Path:
    place = folder / name / "recipe.toml"
    if place.exists():
        raise UsageError(f"{place} is there already", hint="edit it, or choose another name: --name NAME")
    return place


def _drafted(
    text: str, name: str | None, sdist: str | None, git: str | None, folder: Path, context: Context
) -> Drafted:
    from buildkit.build.new_recipe import draft_recipe

    if git is None:
        return draft_recipe(sdist or text, name=name, recipes=folder, context=context)
    try:
        return draft_recipe(git, name=name, recipes=folder, context=context)
    except (IndexUnreachable, NotCached) as error:  # the recipe was asked for by name: it is written all the same
        return replace(_undrafted(text, name, sdist, git), missing=error.message)


def _undrafted(text: str, name: str | None, sdist: str | None, git: str | None) -> Drafted:
    """The bare form, for what nobody has looked at."""
    from buildkit.build.new_recipe import Drafted, blank
    from buildkit.build.package import normalised
    from buildkit.source.git_refs import parsed
    from buildkit.source.spec import SdistSpec

    if git is not None:
        return Drafted(blank(name or text, parsed(git)[0]), None)
    project, _, version = (sdist or text.removeprefix("pypi:")).partition("==")
    if "/" in project:
        raise UsageError("--blank goes with a name", hint="leave --blank out: the source is fetched and looked at")
    chosen = name or (text if sdist is not None else normalised(project))
    return Drafted(blank(chosen, SdistSpec(project, version or None)), None)


def _tell(drafted: Drafted) -> None:
    """What a person should know before the recipe is edited."""
    findings = drafted.findings
    if drafted.missing:
        say(f"warning: {drafted.missing}: nobody has looked at the source, and its hash is zeros to be replaced")
    if findings is None:
        return
    if not findings.has_cuda:
        say(f"warning: {findings.NO_CUDA}")
    for mark in findings.stated.licence.limited[:1]:
        say(f"warning: its licence limits the use ({mark.place}: {mark.text})")
    for mark in findings.needs.unknown:
        say(f"note: {mark.place} imports {mark.text}: add the project that brings it to build.requires")
