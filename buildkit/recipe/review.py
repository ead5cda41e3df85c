"""The slower checks of ``cudabuild recipes check``: what loads, and would still fail or prove little later."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator

from buildkit.recipe.loader import FILE, LoadedRecipe
from buildkit.recipe.problems import Problem, located, recipe_error

_DIFF = re.compile(rb"^--- a/\S.*\n\+\+\+ (b/\S.*|/dev/null)|^--- /dev/null.*\n\+\+\+ b/\S", re.MULTILINE)


def review(loaded: LoadedRecipe) -> tuple[str, ...]:
    """Sentences, each with its line and key, about what a build of the recipe would leave unproven.

    Raises RecipeError with every problem that would make a build fail, or keep the recipe from being shared.
    """
    file = loaded.folder / FILE
    text = file.read_text("utf-8-sig")
    if problems := (*_texts(loaded), *_sources(loaded), *_files(loaded)):
        raise recipe_error(file, text, problems)
    return tuple(located(file, text, tuple(_unproven(loaded))))


def _texts(loaded: LoadedRecipe) -> Iterator[Problem]:
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
    from packaging.requirements import InvalidRequirement, Requirement

    recipe = loaded.recipe
    try:
        canonicalize_license_expression(recipe.license.spdx)
    except InvalidLicenseExpression as error:
        yield Problem(("license", "spdx"), str(error))
    for table, requires in (("build", recipe.build.requires), ("runtime", recipe.runtime.requires)):
        for text in requires:
            with contextlib.suppress(InvalidRequirement):
                Requirement(text)
                continue
            yield Problem((table, "requires"), f"{text!r} is no requirement, such as 'numpy>=1.26'")


def _sources(loaded: LoadedRecipe) -> Iterator[Problem]:
    for index, version in enumerate(loaded.recipe.versions):
        for key, value in (("sha256", version.sha256), ("rev", version.rev)):
            if value and set(value) == {"0"}:
                yield Problem(("version", index, key), "still the zeros that `recipes new` wrote")


def _files(loaded: LoadedRecipe) -> Iterator[Problem]:
    for index, patch in enumerate(loaded.recipe.patches):
        if patch.file is not None and not _DIFF.search((loaded.folder / patch.file).read_bytes()):
            yield Problem(("patch", index, "file"), f"{patch.file} is no unified diff with a/ and b/ paths")
    probe = loaded.recipe.verify.probe
    if probe is not None:
        try:
            body = ast.parse((loaded.folder / probe).read_bytes(), probe).body
        except (SyntaxError, ValueError) as error:
            yield Problem(("verify", "probe"), f"{probe} is not Python: {error}")
            return
        if not any(isinstance(node, ast.FunctionDef) and node.name == "checks" for node in body):
            yield Problem(("verify", "probe"), f"{probe} defines no checks(device, tools): nothing else of it is run")


def _unproven(loaded: LoadedRecipe) -> Iterator[Problem]:
    verify = loaded.recipe.verify
    if not verify.imports:
        yield Problem(("verify", "imports"), "nothing is imported, so no build of it gets beyond 'audited'")
    if not verify.cuda_proof:
        yield Problem(("verify", "cuda-proof"), "not there, and a CPU-only wheel would import just as well")
    if verify.probe is None and loaded.recipe.build.torch:  # a probe's kernels are recorded through torch
        yield Problem(("verify", "probe"), "not there, so no build of it gets beyond 'imported'")
