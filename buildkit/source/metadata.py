"""What a source says about itself without anything of it being run: PKG-INFO, ``[build-system]``, ``[project]``.

A project that computes its version with setuptools-scm from git history has none here, and none at build
time either: fetched trees hold no ``.git``. Its recipe gives SETUPTOOLS_SCM_PRETEND_VERSION in ``[build.env]``.
"""

from __future__ import annotations

import email.parser
import email.policy
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.errors import SourceError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_CORRECT = "correct it there, or by a patch in the recipe"
LEGACY_REQUIRES = ("setuptools", "wheel")


@dataclass(frozen=True)
class StaticMetadata:
    """``build_backend`` is None where PEP 517's default applies, and name or version where they are not static."""

    name: str | None
    version: str | None
    build_requires: tuple[str, ...]
    build_backend: str | None


def static_metadata(pyproject: bytes | None, pkg_info: bytes | None, *, where: str) -> StaticMetadata:
    """Read both files' bytes (None: absent). ``where`` names the source in messages.

    Raises :class:`SourceError` for a pyproject.toml that no build frontend would take either.
    """
    table = _toml(pyproject, where) if pyproject is not None else {}
    system = _table(table, "build-system", where)
    project = _table(table, "project", where)
    requires = system.get("requires", list(LEGACY_REQUIRES))
    if not isinstance(requires, list) or not all(isinstance(item, str) for item in requires):
        raise SourceError(f"{where}: pyproject.toml: build-system.requires is not a list of texts", hint=_CORRECT)
    _check_requirements(requires, where)
    name, version = _text(project.get("name")), _text(project.get("version"))
    if pkg_info is not None:
        header = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(pkg_info, headersonly=True)
        name, version = _text(header["Name"]) or name, _text(header["Version"]) or version
    return StaticMetadata(name, version, tuple(requires), _text(system.get("build-backend")))


def is_project(folder: Path) -> bool:
    """Whether a build frontend would take this folder."""
    return any((folder / name).is_file() for name in ("pyproject.toml", "setup.py"))


def of_folder(project: Path, *, where: str) -> StaticMetadata:
    """The same for an unpacked project. SourceError where there is none."""
    if not project.is_dir():
        raise SourceError(f"{where} has no folder {project.name}", hint="check the recipe's subdirectory")
    if not is_project(project):
        raise SourceError(
            f"{where} is not a Python project: it holds neither pyproject.toml nor setup.py",
            evidence=f"it holds {', '.join(sorted(path.name for path in project.iterdir())[:8]) or 'nothing'}",
            hint="name the folder with the project in it (a recipe says `subdirectory`)",
        )
    return static_metadata(_read(project / "pyproject.toml"), _read(project / "PKG-INFO"), where=where)


def normalized(name: str) -> str:
    """PEP 503's form of a project's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _read(file: Path) -> bytes | None:
    # A link could be followed only inside the tree: links out were refused before.
    return file.read_bytes() if file.is_file() else None


def _toml(content: bytes, where: str) -> dict[str, Any]:
    try:
        table: dict[str, Any] = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # a number of 5000 digits is a plain ValueError
        raise SourceError(f"{where}: its pyproject.toml does not parse", evidence=str(error), hint=_CORRECT) from error
    return table


def _check_requirements(requires: list[str], where: str) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        for text in requires:
            Requirement(text)
    except InvalidRequirement as error:
        raise SourceError(
            f"{where}: pyproject.toml: build-system.requires holds what is no requirement",
            evidence=str(error),
            hint=_CORRECT,
        ) from error


def _table(parent: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    table = parent.get(key, {})
    if not isinstance(table, dict):
        raise SourceError(f"{where}: pyproject.toml: {key} is not a table", hint=_CORRECT)
    return table


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
