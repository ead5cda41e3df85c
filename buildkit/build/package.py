"""What is to be built: a recipe's version, or a recipe made up for a folder or an index name; and its source."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.context import Context
from buildkit.errors import NoCudaCode, RecipeError, UnknownRecipe, UsageError
from buildkit.machine.identity import write_atomically
from buildkit.plan.request import Request
from buildkit.recipe.loader import FILE, LoadedRecipe, find_recipe, search_path
from buildkit.recipe.model import Recipe, Version
from buildkit.recipe.selection import choose_version
from buildkit.source.spec import FolderSpec, SdistSpec, SourceSpec, parse_source, spec_of

if TYPE_CHECKING:
    from buildkit.source.fetch import FetchedSource
    from buildkit.source.findings import Findings


@dataclass(frozen=True)
class Package:
    """A recipe, the version chosen, and where its source comes from."""

    loaded: LoadedRecipe
    version: Version | None
    """None where the source was given on the command line: its own version counts."""
    spec: SourceSpec
    findings: Findings | None = None
    """What its source says of how it is built; only for one without a recipe, once it was fetched."""

    @property
    def has_recipe(self) -> bool:
        """False for a folder or an index name without a recipe."""
        return self.loaded.sha256 != ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided for a package without a recipe, and from what."""
        if self.findings is None:
            return ()
        switches = [f"{one.name}={one.value} ({one.file}:{one.line})" for one in self.findings.switches]
        requires = [f"{text} ({mark.place})" for text, mark in self.findings.needs.requires]
        return (
            *([f"no recipe: set for CUDA as setup.py reads it: {', '.join(switches)}"] if switches else []),
            *([f"no recipe: installed because setup.py imports it: {', '.join(requires)}"] if requires else []),
            *(
                f"no recipe: {mark.place} imports {mark.text}, and nothing says which project brings it"
                for mark in self.findings.needs.unknown
            ),
        )

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.loaded.recipe.name


def choose_package(request: Request, context: Context) -> Package:
    """The recipe of that name, else the folder at that path, else what the index has under ``pypi:NAME``."""
    text = request.package
    if not text.strip():
        raise UsageError("the name of what is to be built is empty", hint="cudabuild recipes list")
    if request.source is not None and (text.startswith("pypi:") or _is_path(text)):
        raise UsageError(
            f"--source goes with a recipe's name, and {text} is a source itself",
            hint="name the recipe, or leave --source out",
        )
    if text.startswith("pypi:"):
        spec = parse_source(text, cwd=context.cwd)
        return Package(adhoc_recipe(_name_of(spec), context.cwd), None, spec)
    folder = context.cwd / text
    if _is_path(text):
        _check_folder(folder, text)
        return Package(adhoc_recipe(folder_name(folder), folder), None, FolderSpec(folder.resolve()))
    folders = search_path(request.recipes, context.cwd, context.environ)
    name, _, wanted = text.partition("==")
    try:
        loaded = find_recipe(name, folders)
    except UnknownRecipe as error:
        if folder.is_dir():
            error.hint = f"to build the folder, say ./{text}. {error.hint}"
        raise
    if request.source is not None:
        return Package(loaded, None, parse_source(request.source, cwd=context.cwd))
    version = choose_version(loaded.recipe, request.version or wanted or None)
    return Package(loaded, version, spec_of(version, loaded.folder))


def _is_path(text: str) -> bool:
    return "/" in text or text in {".", ".."}


def _check_folder(folder: Path, text: str) -> None:
    """A folder that holds a project; a recipe's own folder is named by the recipe."""
    from buildkit.source.metadata import is_project

    recipe = folder / FILE if folder.is_dir() else folder
    if recipe.name == FILE and recipe.is_file() and not is_project(recipe.parent):
        name, place = recipe.parent.name, recipe.parent.parent
        raise UsageError(
            f"{text} is a recipe, not a project's folder",
            hint=f"cudabuild {shlex.quote(name)} --recipes {shlex.quote(str(place))}",
        )
    if not folder.is_dir():
        raise UsageError(f"{text} is not a folder", hint="give a recipe's name, a project's folder, or pypi:NAME")


def adhoc_recipe(name: str, folder: Path, findings: Findings | None = None) -> LoadedRecipe:
    """A recipe made up for a source that has none: its switches for CUDA, what its setup.py imports.

    The common switch is among them in any case; what is imported to prove it are the wheel's own modules.
    """
    build: dict[str, object] = {"env-cuda": {"FORCE_CUDA": "1"}}
    if findings is not None:
        build["requires"] = [text for text, _mark in findings.needs.requires]
        build["env-cuda"] = {"FORCE_CUDA": "1", **{one.name: one.value for one in findings.switches}}
        build["env-cpu"] = {one.name: one.value for one in findings.cpu_switches}
    recipe = Recipe.model_validate({
        "edition": 1,
        "name": name,
        "summary": "a source without a recipe",
        "license": {"spdx": "LicenseRef-Unknown", "redistributable": False},
        "version": [{"version": "0", "folder": str(folder)}],
        "build": build,
    })  # fmt: skip
    return LoadedRecipe(recipe, folder, "", {})


def _name_of(spec: SourceSpec) -> str:
    if not isinstance(spec, SdistSpec):
        raise RecipeError("only an sdist has a name without being fetched")
    return normalised(spec.name)


def index_name(text: str) -> tuple[str, str]:
    """Name and version (empty: the newest) of ``pypi:NAME[==VERSION]``. Raises UsageError."""
    spec = parse_source(text)
    return (spec.name, spec.version or "") if isinstance(spec, SdistSpec) else ("", "")


def folder_name(folder: Path) -> str:
    """The project's name where pyproject.toml says it, else the folder's."""
    from buildkit.source.metadata import of_folder

    return normalised(of_folder(folder, where=str(folder)).name or folder.resolve().name)


def normalised(name: str) -> str:
    """A distribution's name as indexes spell it, cut down to what a recipe's name may hold."""
    text = re.sub(r"[^a-z0-9._-]+", "-", re.sub(r"[-_.]+", "-", name.lower())).strip("-._")[:100]
    return text or "project"


def fetch(package: Package, context: Context) -> FetchedSource:
    """The package's source, from the cache where it is there."""
    from buildkit.source.fetch import fetch_source

    context.hold(context.places.sources)
    return fetch_source(
        package.spec,
        cache=context.places.sources,
        index=context.index,
        offline=context.offline,
        reporter=context.reporter,
    )


def examined(package: Package, source: FetchedSource) -> Package:
    """The package with what its fetched source says of how it is built. One with a recipe stays as it is."""
    if package.has_recipe:
        return package
    from buildkit.source.findings import find  # reads Python's syntax: a build by recipe needs none of it
    from buildkit.source.reading import read_source

    findings = find(read_source(source, code=False))
    if not findings.cuda:  # then every file counts
        findings = find(read_source(source))
    loaded = adhoc_recipe(package.name, package.loaded.folder, findings)
    return replace(package, loaded=loaded, findings=findings)


def without_cuda(package: Package) -> NoCudaCode | None:
    """The cause where a package without a recipe has not a trace of CUDA code in its source; else None."""
    findings = package.findings
    if findings is None or findings.has_cuda:
        return None
    return NoCudaCode(
        f"{package.name} has no CUDA code: there is nothing in it to build for a GPU",
        evidence=f"in its source {findings.NO_CUDA}",
        hint="for the CPU: --device cpu; where the CUDA code has another home: cudabuild recipes new URL",
    )


def discovered_requires(context: Context, source: FetchedSource, asked: str) -> tuple[str, ...] | None:
    """What the backend of this source asked for when it was run before; None when it never was.

    ``asked`` is the hash of what the answer may depend on: device, Python, environment, patches, programs.
    """
    try:
        value = json.loads(_discovery(context, source, asked).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return tuple(str(item) for item in value["requires"]) if isinstance(value, dict) else None


def remember_requires(context: Context, source: FetchedSource, asked: str, requires: Sequence[str]) -> None:
    """Store what a backend asked for, so that the next plan of this source holds it from the start."""
    text = json.dumps({"schema": 1, "requires": sorted(set(requires))})
    path = _discovery(context, source, asked)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())


def _discovery(context: Context, source: FetchedSource, asked: str) -> Path:
    return context.places.sources / "requires" / f"{source.sha256[:32]}-{asked[:32]}.json"
