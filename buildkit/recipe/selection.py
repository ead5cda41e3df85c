"""From a recipe to what one build takes of it: the version, the patches that apply, and their hash. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from buildkit.errors import RecipeError
from buildkit.recipe.conditions import applies
from buildkit.recipe.loader import LoadedRecipe
from buildkit.recipe.model import Patch, Recipe, Version
from buildkit.recipe.suggest import did_you_mean


def choose_version(recipe: Recipe, wanted: str | None = None) -> Version:
    """The version that was asked for, or the default; RecipeError names those that there are."""
    if wanted is None:
        return recipe.versions[0]
    known = [version.version for version in recipe.versions]
    if wanted not in known:
        raise RecipeError(
            f"the recipe {recipe.name} has no version {wanted!r}{did_you_mean(wanted, known)}",
            evidence=f"its versions are {', '.join(known)}",
            hint=f"cudabuild recipes show {recipe.name}",
        )
    return recipe.versions[known.index(wanted)]


def patches_that_apply(recipe: Recipe, values: Mapping[str, str]) -> tuple[Patch, ...]:
    """The patches whose condition holds, in the recipe's order (see :func:`buildkit.recipe.conditions.applies`)."""
    return tuple(patch for patch in recipe.patches if applies(patch.when, values))


def environment_of(recipe: Recipe, values: Mapping[str, str]) -> dict[str, str]:
    """The variables that a build sets, with those whose condition holds (``values`` as for conditions)."""
    environment = recipe.build.environment(values.get("device", "cuda"))
    for more in recipe.build.env_when:
        if applies(more.when, values):
            environment |= more.env
    return environment


def build_section_sha256(
    loaded: LoadedRecipe, *, version: Version | None = None, values: Mapping[str, str] | None = None
) -> str:
    """Hash over what of a recipe determines the wheel's bytes, and nothing else.

    That is the chosen version (default: the first), the backend's requirements, settings and environment,
    the bytes of the patches that apply, what the system must have, and the added runtime requirements.
    Estimates, timeouts, texts, conditions, file names and everything under [verify] are left out. With
    ``values`` (as for conditions), only patches that hold and the environment of ``values["device"]``
    count; without, all of them.
    """
    recipe = loaded.recipe
    patches = recipe.patches if values is None else patches_that_apply(recipe, values)
    build = recipe.build
    environment: object = [build.env, build.env_cuda, build.env_cpu, [(one.when, one.env) for one in build.env_when]]
    if values is not None:
        environment = environment_of(recipe, values)
    content = {
        "edition": recipe.edition,
        "version": (version or recipe.versions[0]).model_dump(mode="json", by_alias=True),
        "requires": recipe.build.requires,
        "config-settings": recipe.build.config_settings,
        "environment": environment,
        "pass-env": sorted(recipe.build.pass_env),
        "patches": [loaded.patch_sha256(patch) for patch in patches],
        "system": recipe.system.model_dump(mode="json", by_alias=True),
        "runtime-requires": recipe.runtime.requires,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
