"""What is known of the package that was named: its recipe, and what its source says where it is here."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from buildkit.build.context import Context
from buildkit.build.doctor.subject import Subject
from buildkit.build.package import Package, choose_package, fetch
from buildkit.errors import SourceError, StoreError
from buildkit.plan.request import Request
from buildkit.process import ProgramFailed
from buildkit.source.findings import Findings, find
from buildkit.source.folder import listed
from buildkit.source.reading import LARGEST, SourceText, is_telling, read_source
from buildkit.source.spec import FolderSpec


def subject_of(text: str, recipes: Path | None, context: Context) -> Subject:
    """The package that was named: its recipe, and what its source says where it is here. Raises as planning does."""
    package = choose_package(Request(package=text, recipes=recipes), context)
    recipe = package.loaded.recipe
    known = Subject(
        name=shlex.quote(text),
        torch=recipe.build.torch,
        project="cmake" if any(text.startswith("scikit-build") for text in recipe.build.requires) else "setuptools",
        memory_per_unit=recipe.build.memory_per_unit,
        system=recipe.system,
        patches=recipe.patches,
        folder=package.loaded.folder,
        version=package.version.version if package.version else "",
    )
    findings = _findings(package, context)
    if findings is None:
        way = f"cudabuild fetch {known.name}"
        note = f"its source is not in the cache: it is taken to be built by {known.project} (`{way}` brings it)"
        return replace(known, notes=(note,))
    if findings.runs_cmake:
        return replace(known, project="cmake")
    return replace(known, project="setuptools", standards=tuple(mark.text for mark in findings.script.standards))


def _findings(package: Package, context: Context) -> Findings | None:
    """What its source says of how it is built; None where it would have to be fetched."""
    if isinstance(package.spec, FolderSpec):
        return find(_of_folder(package.spec.path / package.spec.subdirectory))
    try:
        return find(read_source(fetch(package, replace(context, offline=True)), code=False))
    except (SourceError, StoreError, ProgramFailed):
        return None


def _of_folder(folder: Path) -> SourceText:
    """The scripts of a folder that is no copy yet."""
    names = listed(folder)
    wanted = [name for name in names if is_telling(name, code=False) and (folder / name).is_file()]
    small = [name for name in wanted if (folder / name).stat().st_size <= LARGEST]
    return SourceText(
        tuple(sorted(names)), {name: (folder / name).read_text("utf-8", errors="replace") for name in small}
    )
