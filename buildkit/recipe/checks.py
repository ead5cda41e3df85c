"""What a recipe must hold beside its model: conditions that parse, files that are there, names that are free.

Each check yields problems and raises nothing, so that a person sees all of them at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from buildkit.errors import RecipeError
from buildkit.recipe.conditions import parse_condition
from buildkit.recipe.fields import Environment
from buildkit.recipe.model import Recipe, Rewrite
from buildkit.recipe.problems import Location, Problem

# The builder decides these for each build: a recipe that set them would lift the memory limit, change the
# targets behind the plan's back, or lead out of the build's own folders.
RESERVED = frozenset(
    {
        *("MAX_JOBS", "CMAKE_BUILD_PARALLEL_LEVEL", "TORCH_CUDA_ARCH_LIST", "CUDAARCHS"),
        *("CUDACXX", "CUDA_HOME", "CUDA_PATH", "PYTORCH_NVCC", "CC", "CXX"),
        *("PATH", "HOME", "TMPDIR", "PYTHONHOME", "VIRTUAL_ENV", "LD_PRELOAD", "LD_LIBRARY_PATH"),
    }
)
_SECRET = re.compile(r"TOKEN|SECRET|PASSW(OR)?D|CREDENTIAL|API_?KEY|AUTH|NETRC", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def problems_of(recipe: Recipe, folder: Path) -> Iterator[Problem]:
    """Every problem of a recipe that lies in ``folder`` and whose model is valid."""
    if recipe.name != folder.name:
        yield Problem(("name",), f"{recipe.name!r} must be the name of the recipe's folder, which is {folder.name!r}")
    yield from _control_characters(recipe)
    yield from _versions(recipe)
    yield from _environment(recipe)
    yield from _torch_required(recipe)
    yield from _patches(recipe, folder)
    if recipe.verify.probe is not None:
        yield from _file(("verify", "probe"), recipe.verify.probe, folder)
    for index, pattern in enumerate(recipe.verify.cuda_objects):
        yield from _inside(("verify", "cuda-objects", index), pattern)


def _control_characters(recipe: Recipe) -> Iterator[Problem]:
    """Texts that are shown to people are one line without escape sequences."""
    shown: dict[Location, str] = {("summary",): recipe.summary, ("license", "spdx"): recipe.license.spdx}
    for index, patch in enumerate(recipe.patches):
        shown |= {("patch", index, "reason"): patch.reason, ("patch", index, "link"): patch.link}
    for location, text in shown.items():
        if _CONTROL.search(text):
            yield Problem(location, "must be one line without control characters")


def _versions(recipe: Recipe) -> Iterator[Problem]:
    seen = set()
    for index, version in enumerate(recipe.versions):
        if version.version in seen:
            yield Problem(("version", index, "version"), f"{version.version!r} is there twice")
        seen.add(version.version)
        yield from _inside(("version", index, "subdirectory"), version.subdirectory)
        if version.folder is not None and _CONTROL.search(version.folder):
            yield Problem(("version", index, "folder"), "must not hold control characters")


def _environment(recipe: Recipe) -> Iterator[Problem]:
    build = recipe.build
    for table, variables in (("env", build.env), ("env-cuda", build.env_cuda), ("env-cpu", build.env_cpu)):
        yield from _variables(("build", table), variables)
    for index, more in enumerate(build.env_when):
        yield from _condition(("build", "env-when", index, "when"), more.when)
        yield from _variables(("build", "env-when", index, "env"), more.env)
    for index, name in enumerate(build.pass_env):
        if name in RESERVED:
            yield Problem(("build", "pass-env", index), f"{name} is set by cudabuild for each build")
        elif _SECRET.search(name):
            yield Problem(("build", "pass-env", index), f"{name} looks like a secret; none reaches a build")


def _variables(location: Location, variables: Environment) -> Iterator[Problem]:
    for name, value in variables.items():
        if name in RESERVED:
            yield Problem((*location, name), "is set by cudabuild for each build; a recipe cannot set it")
        if "\x00" in value:
            yield Problem((*location, name), "must not hold a NUL character")


def _torch_required(recipe: Recipe) -> Iterator[Problem]:
    for table, requires in (("build", recipe.build.requires), ("runtime", recipe.runtime.requires)):
        for index, requirement in enumerate(requires):
            if re.match(r"torch(?![A-Za-z0-9._-])", requirement, re.IGNORECASE):
                yield Problem((table, "requires", index), "torch is chosen by --torch, not by a recipe; leave it out")


def _patches(recipe: Recipe, folder: Path) -> Iterator[Problem]:
    for index, patch in enumerate(recipe.patches):
        if patch.file is not None:
            yield from _file(("patch", index, "file"), patch.file, folder)
        if patch.rewrite is not None:
            yield from _rewrite(("patch", index, "rewrite"), patch.rewrite)
        yield from _condition(("patch", index, "when"), patch.when)


def _rewrite(location: Location, rewrite: Rewrite) -> Iterator[Problem]:
    for index, pattern in enumerate(rewrite.files):
        yield from _inside((*location, "files", index), pattern)
    try:
        matcher = re.compile(rewrite.find, re.MULTILINE)
    except (re.error, RecursionError, OverflowError) as error:
        yield Problem((*location, "find"), f"{rewrite.find!r} is no regular expression: {error}")
        return
    if matcher.search(""):
        yield Problem((*location, "find"), f"{rewrite.find!r} matches where nothing stands: say what is replaced")
    elif matcher.search(rewrite.replace):
        problem = "is found by `find` again, so that a source which has it already would be changed"
        yield Problem((*location, "replace"), f"{rewrite.replace!r} {problem}")


def _condition(location: Location, when: str) -> Iterator[Problem]:
    try:
        parse_condition(when)
    except RecipeError as error:
        yield Problem(location, error.message)


def _inside(location: Location, name: str) -> Iterator[Problem]:
    """A relative path or glob that stays where it is, written with ``/``."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        yield Problem(location, f"{name!r} leads out of its folder: write a relative path without '..'")
    elif "\\" in name or _CONTROL.search(name):
        yield Problem(location, f"{name!r} must be a path written with '/'")


def _file(location: Location, name: str, folder: Path) -> Iterator[Problem]:
    """A regular file inside the recipe's folder, also after following links."""
    if problems := list(_inside(location, name)):
        yield from problems
        return
    try:
        real = (folder / name).resolve(strict=True)
        if not real.is_relative_to(folder.resolve(strict=True)):
            yield Problem(location, f"{name!r} is a link that leads out of the recipe's folder")
        elif not real.is_file():
            yield Problem(location, f"{name!r} is no file")
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links, before Python 3.13
        reason = error.strerror if isinstance(error, OSError) else "a circle of links"
        yield Problem(location, f"{name!r} cannot be read in the recipe's folder: {reason}")
