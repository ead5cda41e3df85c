"""Putting the shim in front of compilers: a folder of them that is first on PATH, and what a build's environment says.

The shim (``csrc/shim``) finds the real program by a link of the same name in the folder ``.cudabuild`` beside it, so
that it works with an empty environment, too.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from buildkit.guard.native import SHIM

MARKER = ".cudabuild"
"""The folder beside a shim that holds links to the real programs."""
_NAMES = re.compile(
    r"(?:[\w.+]+-)*"  # x86_64-linux-gnu-
    r"(?:cc|gcc|c\+\+|g\+\+|c89|c99|clang|clang\+\+|icx|icpx|ld|ld\.(?:bfd|gold|lld|mold)|lld|mold)"
    r"(?:-\d[\d.]*)?"  # -12
)
LAUNCHERS = ("CMAKE_C_COMPILER_LAUNCHER", "CMAKE_CXX_COMPILER_LAUNCHER", "CMAKE_CUDA_COMPILER_LAUNCHER")
BYPASS = "CUDABUILD_SHIM_BYPASS"
GUARD_VARIABLES = frozenset({
    "CUDABUILD_SOCKET", "CUDABUILD_TOKEN", "CUDABUILD_BROKER", "CUDABUILD_PLACES", "CUDABUILD_OBJECTS", BYPASS,
})  # fmt: skip
"""What the shim reads beside CUDABUILD_GUARD; ``BYPASS`` it sets itself."""


def compilers_on(path: str) -> dict[str, Path]:
    """The compilers and linkers that a search path leads to, by name; links are not followed: gcc knows its name."""
    found: dict[str, Path] = {}
    for folder in dict.fromkeys(path.split(":")):
        try:
            names = sorted(os.listdir(folder)) if folder.startswith("/") else []  # noqa: PTH208  (names are enough)
        except OSError:
            continue
        for name in names:
            place = Path(folder, name)
            if name not in found and _NAMES.fullmatch(name) and place.is_file() and os.access(place, os.X_OK):
                found[name] = place
    return found


def make_shims(destination: Path, programs: Mapping[str, Path], shim: Path) -> Path:
    """A folder below ``destination`` with a shim for each program, and one under its own name as a launcher.

    Named after what is in it: the same programs give the same folder, which is never changed. The names are hard
    links or copies, not symbolic links: who resolves a compiler's path must find a compiler of that name.
    """
    lines = [hashlib.sha256(shim.read_bytes()).hexdigest(), *(f"{name}={programs[name]}" for name in sorted(programs))]
    folder = destination / hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    destination.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=destination, prefix=".new-"))
    try:
        new = scratch / "shims"
        (new / MARKER).mkdir(parents=True)
        shutil.copy(shim, new / SHIM)
        for name, program in programs.items():
            _second_name(new / SHIM, new / name)
            (new / MARKER / name).symlink_to(program)
        _put(new, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _second_name(file: Path, name: Path) -> None:
    try:
        name.hardlink_to(file)
    except OSError:  # a file system without hard links
        shutil.copy(file, name)


def _put(new: Path, folder: Path) -> None:
    try:
        new.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another build has made it meanwhile
            raise


def shimmed_environment(environment: Mapping[str, str], shims: Path) -> dict[str, str]:
    """An environment in which compilers are found behind their shims.

    The folder is first on PATH. CC and CXX that name a program on PATH by its whole path name its shim instead, and
    CMake starts what else it is told to use through the launcher. What a recipe has set for CMake stays.
    """
    changed = {"PATH": f"{shims}:{environment['PATH']}"}
    for name in ("CC", "CXX"):
        program, blank, rest = environment.get(name, "").partition(" ")
        behind = shims / MARKER / Path(program).name
        if program.startswith("/") and behind.is_symlink() and behind.resolve() == Path(program).resolve():
            changed[name] = f"{shims / Path(program).name}{blank}{rest}"
    changed |= {name: str(shims / SHIM) for name in LAUNCHERS if name not in environment}
    return {**environment, **changed}


def unit_places(source: Path, *others: Path, temporary: Path) -> str:
    """CUDABUILD_PLACES: folders whose names say nothing about a unit, for they differ between builds of one package.

    The source comes first; in ``temporary`` the name below it differs, too.
    """
    return ":".join([*map(str, (source, *others)), f"{temporary}/*"])
