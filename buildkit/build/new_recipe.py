"""From a project's name, URL or folder to the draft of its recipe: fetched, looked at, and not run."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from buildkit.build.context import Context
from buildkit.build.package import normalised
from buildkit.errors import IndexUnreachable, NotCached, NotOnIndex, UsageError
from buildkit.recipe.fields import Name, fits
from buildkit.recipe.skeleton import Draft
from buildkit.source.drafting import draft_of
from buildkit.source.fetch import FetchedSource, fetch_source
from buildkit.source.findings import Findings, defined_functions, find
from buildkit.source.git_refs import is_git_url, pinned
from buildkit.source.index_settings import without_credentials
from buildkit.source.metadata import is_project
from buildkit.source.reading import read_source
from buildkit.source.spec import ArchiveSpec, FolderSpec, GitSpec, SdistSpec, SourceSpec, parse_source


@dataclass(frozen=True)
class Drafted:
    """A draft, and what it rests on: nothing where the source could not be had (``missing`` says why)."""

    draft: Draft
    findings: Findings | None
    missing: str = ""


def draft_recipe(text: str, *, name: str | None, recipes: Path, context: Context) -> Drafted:
    """The draft of what a person typed: ``[pypi:]NAME[==VERSION]``, a repository's URL, or a project's folder.

    ``recipes`` is the folder that the recipe will be put into; ``name`` its name (default: the project's). A
    plain NAME that the index does not have gives an empty draft, for one that is written before its package is.
    """
    spec, ref = _spec(text, context)
    plain = isinstance(spec, SdistSpec) and not text.startswith("pypi:")
    try:
        source = _fetched(spec, context)
    except (NotOnIndex, IndexUnreachable, NotCached) as error:
        if not plain or not isinstance(spec, SdistSpec):
            raise
        folder = f" (to look at the folder, say ./{text})" if (context.cwd / text).is_dir() else ""
        return Drafted(blank(name or normalised(spec.name), spec), None, missing=f"{error.message}{folder}")
    looked_at = read_source(source)
    findings = find(looked_at)
    chosen = name or _name(spec, source, findings)
    draft = draft_of(chosen, findings, defined_functions(looked_at))
    if ref:
        found = f"The commit that {ref} pointed to."
        draft = replace(draft, notes={**draft.notes, "version": (found, *draft.notes["version"])})
    draft = replace(draft, version=source.version or draft.version)
    return Drafted(_with_source(draft, spec, source, recipes / chosen), findings)


def blank(name: str, spec: SdistSpec | GitSpec) -> Draft:
    """A draft of a source that nobody has looked at."""
    if isinstance(spec, GitSpec):
        return Draft(name, git=spec.url, rev=spec.rev or None, subdirectory=spec.subdirectory)
    return Draft(name, sdist=spec.name, version=spec.version or "0.1.0")


def _spec(text: str, context: Context) -> tuple[SourceSpec, str]:
    """What to fetch, and the ref that a commit was found by."""
    if is_git_url(text):
        return pinned(text)
    if text.startswith("pypi:"):
        return parse_source(text, cwd=context.cwd), ""
    if "/" in text or text in {".", ".."}:
        spec = parse_source(text, cwd=context.cwd)
        if isinstance(spec, GitSpec):
            raise UsageError(
                f"{text} is a repository on this disk, which no recipe can name",
                hint="give its folder alone, or the URL it was cloned from",
            )
        _check_folder(spec, text)
        return spec, ""
    try:
        spec = parse_source(f"pypi:{text}", cwd=context.cwd)
    except UsageError:
        fitting = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "NAME"
        raise UsageError(
            f"{text!r} is no recipe's name: small letters, digits, '.', '_' and '-' only",
            hint=f"cudabuild recipes new {fitting}",
        ) from None
    return spec, ""


def _check_folder(spec: SourceSpec, text: str) -> None:
    if isinstance(spec, FolderSpec) and not is_project(spec.path):
        raise UsageError(
            f"{text} holds neither pyproject.toml nor setup.py",
            hint="name the folder with the project in it; of a repository: URL#subdirectory=DIR",
        )


def _fetched(spec: SourceSpec, context: Context) -> FetchedSource:
    context.hold(context.places.sources)
    return fetch_source(
        spec,
        cache=context.places.sources,
        index=context.index,
        offline=context.offline,
        reporter=context.reporter,
    )


def _name(spec: SourceSpec, source: FetchedSource, findings: Findings) -> str:
    if isinstance(spec, SdistSpec):
        return normalised(spec.name)
    last = source.origin.partition("@")[0] if isinstance(spec, FolderSpec) else without_commit(source.origin)
    place = Path(last.rstrip("/")).name.removesuffix(".git")
    name = normalised(source.name or findings.stated.name or place)
    return name if fits(Name, name) else "project"


def without_commit(origin: str) -> str:
    """``https://HOST/PATH`` of ``https://HOST/PATH@COMMIT``."""
    return re.sub(r"@[0-9a-f]{40,64}\Z", "", origin)


def _with_source(draft: Draft, spec: SourceSpec, source: FetchedSource, place: Path) -> Draft:
    """The draft with the table of its one version filled in."""
    if isinstance(spec, GitSpec):
        url = without_credentials(spec.url) if spec.url.startswith("https:") else spec.url
        return replace(draft, git=url, rev=spec.rev, subdirectory=spec.subdirectory)
    draft = replace(draft, submodules=False)
    if isinstance(spec, FolderSpec):
        relative = os.path.relpath(spec.path.resolve(), place.resolve())
        return replace(draft, folder=relative, subdirectory=spec.subdirectory)
    named = spec.name if isinstance(spec, SdistSpec) else source.name or draft.name
    version = draft.version or (spec.version if isinstance(spec, SdistSpec) else None)
    if isinstance(spec, ArchiveSpec):
        note = f"{spec.path.name} was given as a file: the index must have the very same one."
        draft = replace(draft, notes={**draft.notes, "version": (note, *draft.notes["version"])})
    return replace(draft, sdist=named, sha256=source.sha256, version=version)
