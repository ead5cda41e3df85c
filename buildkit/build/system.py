"""System headers and libraries that a recipe names: found before anything is compiled, and part of the key."""

from __future__ import annotations

import hashlib
from pathlib import Path

from buildkit.errors import MissingHeaders
from buildkit.recipe.model import SystemSection

_PLACES = ("usr/local", "usr")


def system_identity(system: SystemSection) -> dict[str, str]:
    """Each header and library that the recipe names, to the sha256 of the file that would be used.

    Looked up where a compiler without extra flags looks. Raises MissingHeaders with the packages to install.
    """
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in system_files(system).items()}


def system_files(system: SystemSection, root: Path = Path("/")) -> dict[str, Path]:
    """Each header and library that the recipe names, to the file that would be used. Raises as above."""
    looked = {name: _header(name, root) for name in system.headers}
    looked |= {name: _library(name, root) for name in system.libraries}
    missing = [name for name, path in looked.items() if path is None]
    if missing:
        raise MissingHeaders(
            f"the recipe needs {', '.join(missing)}, and this machine has not got "
            f"{'it' if len(missing) == 1 else 'them'}",
            hint=install_hint(system),
        )
    return {name: path for name, path in looked.items() if path is not None}


def install_hint(system: SystemSection) -> str:
    """One command for each package manager that the recipe names packages for."""
    commands = [
        ("apt-get install", system.apt),
        ("dnf install", system.dnf),
        ("conda install -c conda-forge", system.conda),
    ]
    return "; ".join(f"{command} {' '.join(names)}" for command, names in commands if names)


def _header(name: str, root: Path) -> Path | None:
    folders = [root / place / "include" for place in _PLACES]
    folders += sorted(path for place in _PLACES for path in (root / place / "include").glob("*-linux-gnu"))
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _library(name: str, root: Path) -> Path | None:
    folders = [root / place / part for place in _PLACES for part in ("lib", "lib64")]
    folders += sorted(path for place in _PLACES for path in (root / place / "lib").glob("*-linux-gnu"))
    names = (name, f"lib{name}.so", f"lib{name}.a")
    return next((path for folder in folders for each in names if (path := folder / each).is_file()), None)
