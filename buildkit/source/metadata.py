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

LEGACY_REQUIRES = ("setuptools", "wheel")
LEGACY_BACKEND = "setuptools.build_meta:__legacy__"


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
        raise SourceError(f"{where}: pyproject.toml: build-system.requires is not a list of texts")
    name, version = _text(project.get("name")), _text(project.get("version"))
    if pkg_info is not None:
        header = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(pkg_info, headersonly=True)
        name, version = _text(header["Name"]) or name, _text(header["Version"]) or version
    return StaticMetadata(name, version, tuple(requires), _text(system.get("build-backend")))


def of_folder(project: Path, *, where: str) -> StaticMetadata:
    """The same for an unpacked project; PKG-INFO counts only beside a pyproject.toml or setup.py."""
    if not project.is_dir():
        raise SourceError(f"{where} has no folder {project.name}", hint="check the recipe's subdirectory")
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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SourceError(
            f"{where}: its pyproject.toml does not parse", evidence=str(error), hint="add a patch to the recipe"
        ) from error
    return table


def _table(parent: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    table = parent.get(key, {})
    if not isinstance(table, dict):
        raise SourceError(f"{where}: pyproject.toml: {key} is not a table")
    return table


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
