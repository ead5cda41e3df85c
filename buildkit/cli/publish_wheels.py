"""Which wheels ``publish`` means, and what is checked of each before it leaves this machine."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.errors import NoSuchBuild, NotRedistributable, UnknownRecipe, UsageError, VerificationFailed

if TYPE_CHECKING:
    from buildkit.build.context import Context
    from buildkit.index.checks import Checked
    from buildkit.index.publishing import Remote
    from buildkit.store.model import Entry
    from buildkit.store.release import Release


@dataclass(frozen=True)
class Outgoing:
    """A wheel file under its own name; with its release or entry's licence and verdict where the store has one."""

    path: Path
    sha256: str
    redistributable: bool | None = None
    """None: not known yet."""
    verdict: dict[str, object] | None = None


def outgoing(word: str, context: Context, folder: Path) -> list[Outgoing]:
    """The wheels that a word means: a file, a project's releases here, else an entry (as ``cache list`` names them).

    Stored ones are handed out into ``folder``. Raises UsageError, NoSuchBuild.
    """
    from buildkit.store.blobs import file_sha256

    path = context.cwd / word
    if word.endswith(".whl") and path.is_file():
        return [Outgoing(path, file_sha256(path))]
    if "/" in word:
        raise UsageError(
            f"there is no wheel {word}", hint="give a wheel's path, a recipe, or what `cudabuild cache list` names"
        )
    releases = _releases(word, context)
    if releases:
        return [_handed_out(release, context, folder) for release in releases]
    return _entries(word, context, folder)


def _releases(word: str, context: Context) -> list[Release]:
    from packaging.utils import canonicalize_name

    name = canonicalize_name(word)
    every = [release for release in context.store.releases() if not release.yanked]
    return [release for release in every if word == release.filename or name == release.project]


def _handed_out(release: Release, context: Context, folder: Path) -> Outgoing:
    from buildkit.store.blobs import copy_out

    path = folder / release.filename
    if not copy_out(context.store.blobs.path(release.sha256), path, release.sha256):
        raise NoSuchBuild(f"the stored wheel {release.filename} is damaged", hint="cudabuild cache verify")
    return Outgoing(path, release.sha256, release.redistributable, release.verdict or None)


def _entries(word: str, context: Context, folder: Path) -> list[Outgoing]:
    newest = {entry.filename: entry for entry in reversed(list(context.store.entries())) if entry.recipe == word}
    found = list(newest.values()) or [_found(word, context)]
    return [Outgoing(context.store.hand_out(each, folder), each.sha256, verdict=each.verdict) for each in found]


def _found(word: str, context: Context) -> Entry:
    from buildkit.recipe.loader import find_recipe, search_path

    try:
        return context.store.find(word)
    except NoSuchBuild as error:
        with suppress(UnknownRecipe):
            find_recipe(word, search_path(None, context.cwd, context.environ))
            error.hint = f"build it first: cudabuild {word}"
        if error.hint.startswith("cudabuild cache list"):
            stored = {release.project for release in context.store.releases()}
            near = difflib.get_close_matches(word, stored, n=3)
            here = f"did you mean {' or '.join(near)}? " if near else ""
            error.hint = (
                f"{here}`cudabuild cache list` shows what is stored, `cudabuild recipes list` what can be built"
            )
        raise


def check_outgoing(wheel: Outgoing, remote: Remote, context: Context, *, any_licence: bool) -> Checked:
    """Check a wheel as an index would. Raises VerificationFailed's family, NotRedistributable."""
    from buildkit.index.checks import check_wheel
    from buildkit.index.uploads_words import linux_tag_refused

    with tempfile.TemporaryDirectory(prefix="cudabuild-publish-") as folder:
        checked = check_wheel(wheel.path, Path(folder))
    if checked.linux_tag and not remote.loopback:
        raise VerificationFailed(
            linux_tag_refused(wheel.path.name, checked.linux_tag),
            evidence=checked.linux_tag,
            hint=f"cudabuild {checked.facts.recipe} --refresh",
        )
    if not any_licence and not _may_be_passed_on(wheel, checked, context):
        raise NotRedistributable(
            f"{wheel.path.name}: its licence ({checked.facts.licence}) does not let everybody have it",
            evidence=f"recipe {checked.facts.recipe}: license.redistributable is false",
            hint="read its terms; where the index's people may have it: --allow-non-redistributable",
        )
    return checked


def _may_be_passed_on(wheel: Outgoing, checked: Checked, context: Context) -> bool:
    """What the release says, else the recipe; a package without a recipe is its builder's to judge."""
    from buildkit.recipe.loader import find_recipe, search_path

    if wheel.redistributable is not None:
        return wheel.redistributable
    try:
        found = find_recipe(checked.facts.recipe, search_path(None, context.cwd, context.environ))
    except UnknownRecipe:
        return True
    return found.recipe.license.redistributable


def every(words: tuple[str, ...], context: Context, folder: Path) -> Iterator[Outgoing]:
    """The wheels of all words, each once."""
    seen: set[str] = set()
    for number, word in enumerate(words):
        place = folder / str(number)
        place.mkdir()
        for wheel in outgoing(word, context, place):
            if wheel.path.name not in seen:
                seen.add(wheel.path.name)
                yield wheel
