"""System headers and libraries that a recipe names: found before anything is compiled, and part of the key."""

from __future__ import annotations

import hashlib
from pathlib import Path

from buildkit.errors import MissingHeaders
from buildkit.recipe.model import SystemSection

_ROOTS = (Path("/usr/local"), Path("/usr"))


def system_identity(system: SystemSection) -> dict[str, str]:
    """Each header and library that the recipe names, to the sha256 of the file that would be used.

    Looked up where a compiler without extra flags looks. Raises MissingHeaders with the packages to install.
    """
    found: dict[str, str] = {}
    missing: list[str] = []
    for name in (*system.headers, *system.libraries):
        path = _header(name) if name in system.headers else _library(name)
        if path is None:
            missing.append(name)
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    if missing:
        raise MissingHeaders(
            f"the recipe needs {', '.join(missing)}, and this machine has not got "
            f"{'it' if len(missing) == 1 else 'them'}",
            hint=install_hint(system),
        )
    return found


def install_hint(system: SystemSection) -> str:
    """One command for each package manager that the recipe names packages for."""
    commands = [
        ("apt-get install", system.apt),
        ("dnf install", system.dnf),
        ("conda install -c conda-forge", system.conda),
    ]
    return "; ".join(f"{command} {' '.join(names)}" for command, names in commands if names)


def _header(name: str) -> Path | None:
    folders = [root / "include" for root in _ROOTS]
    folders += sorted(path for root in _ROOTS for path in (root / "include").glob("*-linux-gnu"))
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _library(name: str) -> Path | None:
    folders = [root / part for root in _ROOTS for part in ("lib", "lib64")]
    folders += sorted(path for root in _ROOTS for path in (root / "lib").glob("*-linux-gnu"))
    names = (name, f"lib{name}.so", f"lib{name}.a")
    return next((path for folder in folders for each in names if (path := folder / each).is_file()), None)
