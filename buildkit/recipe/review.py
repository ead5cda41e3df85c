"""The slower checks of ``cudabuild recipes check``: what loads, and would still fail or prove little later."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from buildkit.recipe.loader import LoadedRecipe

_DIFF = re.compile(rb"^--- a/\S.*\n\+\+\+ (b/\S.*|/dev/null)|^--- /dev/null.*\n\+\+\+ b/\S", re.MULTILINE)


def review(loaded: LoadedRecipe) -> tuple[str, ...]:
    """Sentences about what should be mended; none for a recipe that is ready to be shared."""
    return (*_texts(loaded), *_sources(loaded), *_proof(loaded), *_files(loaded))


def _texts(loaded: LoadedRecipe) -> Iterator[str]:
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
    from packaging.requirements import InvalidRequirement, Requirement

    recipe = loaded.recipe
    try:
        canonicalize_license_expression(recipe.license.spdx)
    except InvalidLicenseExpression as error:
        yield f"license.spdx: {error}"
    for table, requires in (("build", recipe.build.requires), ("runtime", recipe.runtime.requires)):
        for text in requires:
            with contextlib.suppress(InvalidRequirement):
                Requirement(text)
                continue
            yield f"{table}.requires: {text!r} is no requirement, such as 'numpy>=1.26'"


def _sources(loaded: LoadedRecipe) -> Iterator[str]:
    for version in loaded.recipe.versions:
        if set(version.sha256 or version.rev or "-") == {"0"}:
            yield f"version {version.version}: {'sha256' if version.sha256 else 'rev'} is still the skeleton's zeros"


def _proof(loaded: LoadedRecipe) -> Iterator[str]:
    verify = loaded.recipe.verify
    if not verify.imports:
        yield "verify.imports: nothing is imported, so no build of it gets beyond 'audited'"
    if not verify.cuda_proof:
        yield "verify.cuda-proof: a CPU-only wheel would import just as well"
    if verify.probe is None:
        yield "verify.probe: without a probe no build of it gets beyond 'imported'"


def _files(loaded: LoadedRecipe) -> Iterator[str]:
    for patch in loaded.recipe.patches:
        if not _DIFF.search((loaded.folder / patch.file).read_bytes()):
            yield f"{patch.file}: is no unified diff with a/ and b/ paths"
    probe = loaded.recipe.verify.probe
    if probe is not None:
        try:
            compile((loaded.folder / probe).read_bytes(), probe, "exec")
        except (SyntaxError, ValueError) as error:
            yield f"{probe}: is not Python: {error}"
