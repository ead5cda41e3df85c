"""What is known of the package that was named: its recipe, and what its source says where it is here."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.context import Context
from buildkit.build.doctor.subject import Subject
from buildkit.build.package import Package, choose_package, fetch
from buildkit.errors import SourceError, StoreError
from buildkit.machine.solver.host import Project
from buildkit.plan.request import Request
from buildkit.process import ProgramFailed
from buildkit.source.spec import FolderSpec, GitSpec, SdistSpec

if TYPE_CHECKING:
    from buildkit.source.findings import Findings
    from buildkit.source.reading import SourceText

_LOOK = 1
"""Raised where a source of the same bytes would be told to be another project."""


@dataclass(frozen=True)
class _Project:
    """What doctor wants to know of a source: what builds it, and the C++ standards that its flags name."""

    kind: Project
    standards: tuple[str, ...] = ()


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
    project = _project(package, context)
    if project is None:
        way = f"cudabuild fetch {known.name}"
        note = f"its source is not in the cache: it is taken to be built by {known.project} (`{way}` brings it)"
        return replace(known, notes=(note,))
    return replace(known, project=project.kind, standards=project.standards)


def _project(package: Package, context: Context) -> _Project | None:
    """What its source says of how it is built; None where it would have to be fetched.

    A source whose bytes are pinned is read once: to open it and to understand its scripts takes a tenth of a second.
    """
    pinned = repr(package.spec) if _is_pinned(package) else ""
    known = context.memo.get("project", pinned, _LOOK) if pinned else None
    match known:
        case {"kind": "cmake" | "setuptools" as kind, "standards": [*standards]}:
            return _Project(kind, tuple(str(each) for each in standards))
    findings = _findings(package, context)
    if findings is None:
        return None
    project = _Project("cmake" if findings.runs_cmake else "setuptools", _standards(findings))
    if pinned:
        context.memo.put("project", pinned, _LOOK, {"kind": project.kind, "standards": [*project.standards]})
    return project


def _is_pinned(package: Package) -> bool:
    """Whether the spec names one content: a hash, or a commit of a repository."""
    spec = package.spec
    return (isinstance(spec, SdistSpec) and spec.sha256 is not None) or (isinstance(spec, GitSpec) and not spec.local)


def _standards(findings: Findings) -> tuple[str, ...]:
    return () if findings.runs_cmake else tuple(mark.text for mark in findings.script.standards)


def _findings(package: Package, context: Context) -> Findings | None:
    from buildkit.source.findings import find  # reads Python's syntax and CMake's
    from buildkit.source.reading import read_source

    if isinstance(package.spec, FolderSpec):
        return find(_of_folder(package.spec.path / package.spec.subdirectory))
    try:
        return find(read_source(fetch(package, replace(context, offline=True)), code=False))
    except (SourceError, StoreError, ProgramFailed):
        return None


def _of_folder(folder: Path) -> SourceText:
    """The scripts of a folder that is no copy yet."""
    from buildkit.source.folder import listed
    from buildkit.source.reading import LARGEST, SourceText, is_telling

    names = listed(folder)
    wanted = [name for name in names if is_telling(name, code=False) and (folder / name).is_file()]
    small = [name for name in wanted if (folder / name).stat().st_size <= LARGEST]
    return SourceText(
        tuple(sorted(names)), {name: (folder / name).read_text("utf-8", errors="replace") for name in small}
    )
