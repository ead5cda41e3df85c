"""Can the dynamic linker load what a wheel holds, here and with this torch?

Found statically, before anything of the wheel is run: needed libraries, symbol versions of glibc and
libstdc++, undefined symbols. The scope is the one an ``import torch`` leaves behind: the wheel's own
libraries, torch's and nvidia's folders, the system's, and the interpreter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit import process
from buildkit.errors import VerificationFailed
from buildkit.verify.device_code import shared_objects
from buildkit.verify.grafted import is_driver_library, is_grafted
from buildkit.verify.symbols import Dynamic, SymbolTable, read_dynamic, undefined_names

_SYSTEM_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
_CACHE_LINE = re.compile(r"^\s*(?P<name>\S+) \([^)]*\) => (?P<path>/.*)$", re.M)
_FOREIGN_ABI = re.compile(r"\((?![^)]*(x86-64|AArch64))[^)]*\)")
_DRIVER_SYMBOL = re.compile(r"cu[A-Z]\w+|nvml[A-Z]\w+")
_VERSIONED = ("GLIBC", "GLIBCXX", "CXXABI")
_PRELOADED = "libtorch_global_deps.so"


@dataclass(frozen=True)
class ObjectLinkage:
    """One shared object of the wheel: what it needs, and what of that is not there.

    ``found`` maps each needed library to where it is; ``driver`` are absent libraries of the GPU driver;
    ``outdated`` are symbol versions that a library here does not have (``libc.so.6: GLIBC_2.38``).
    """

    path: str
    needed: tuple[str, ...]
    found: dict[str, str]
    missing: tuple[str, ...]
    driver: tuple[str, ...]
    undefined: tuple[str, ...]
    outdated: tuple[str, ...]
    search: tuple[str, ...]


@dataclass(frozen=True)
class Linkage:
    """All of a wheel: per object, the newest symbol versions needed by family, and grafted libraries."""

    objects: tuple[ObjectLinkage, ...]
    newest: dict[str, str]
    grafted: tuple[str, ...]

    @property
    def driver_missing(self) -> tuple[str, ...]:
        """Libraries of the GPU driver that are needed and not on this machine."""
        return tuple(sorted({name for entry in self.objects for name in entry.driver}))


def inspect_linkage(folder: Path, *, site_packages: Sequence[Path], interpreter: Path) -> Linkage:
    """Read what every shared object below the folder of an unpacked wheel needs, and look for it.

    ``site_packages`` are the folders that hold torch and the nvidia packages; ``interpreter`` is the Python
    executable the wheel is for.
    """
    named = {path: path.relative_to(folder).as_posix() for path in shared_objects(folder)}
    return inspect_objects(named, site_packages=site_packages, interpreter=interpreter)


def inspect_objects(
    named: Mapping[Path, str], *, site_packages: Sequence[Path], interpreter: Path, installed: bool = False
) -> Linkage:
    """As :func:`inspect_linkage`, for one package's objects wherever they lie, with the paths to record of them.

    ``installed``: they are where they will stay, so that an absolute RUNPATH counts.
    """
    own = list(named)
    finder = LibraryFinder(own, site_packages, interpreter, installed=installed)
    program = interpreter.resolve()
    scope = [program, *finder.closure([_PRELOADED]), *finder.closure(finder.needed(program)), *own]
    with ExitStack() as stack:
        tables = _Tables(stack)
        found = [_inspect(path, shown, finder, tables, scope) for path, shown in named.items()]
    dynamics = [dynamic for path in own if (dynamic := finder.dynamic(path)) is not None]
    grafted = [shown for path, shown in named.items() if _is_grafted(path, finder)]
    return Linkage(tuple(entry for entry in found if entry is not None), newest_versions(dynamics), tuple(grafted))


def judge_linkage(linkage: Linkage) -> dict[str, Any]:
    """Evidence that the wheel can be loaded; :class:`VerificationFailed` names what stands against it."""
    if linkage.grafted:
        raise VerificationFailed(
            f"the wheel carries copies of torch's or CUDA's own libraries: {', '.join(linkage.grafted)}",
            evidence=linkage.grafted[0],
            hint="link to them and leave them out; torch and the nvidia packages bring them",
        )
    for entry in linkage.objects:
        for what, names in (
            ("needs libraries that are not here", entry.missing),
            ("needs symbol versions that the libraries here do not have", entry.outdated),
            ("has undefined symbols that nothing here defines", entry.undefined),
        ):
            if names:
                shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
                raise VerificationFailed(f"{entry.path} {what}: {shown}", evidence=names[0])
    return {
        "needs": linkage.newest,
        "driver_missing": list(linkage.driver_missing),
        "libraries": {entry.path: entry.found for entry in linkage.objects},
        "search": {entry.path: list(entry.search) for entry in linkage.objects if entry.search},
    }


def newest_versions(dynamics: Iterable[Dynamic]) -> dict[str, str]:
    """The newest symbol version needed of each family: ``{"GLIBC": "2.34", "GLIBCXX": "3.4.30"}``."""
    newest: dict[str, tuple[int, ...]] = {}
    for dynamic in dynamics:
        for name in (name for names in dynamic.versions_needed.values() for name in names):
            family, _, number = name.rpartition("_")
            if family in _VERSIONED and re.fullmatch(r"\d+(\.\d+)*", number):
                newest[family] = max(newest.get(family, ()), tuple(int(part) for part in number.split(".")))
    return {family: ".".join(map(str, number)) for family, number in sorted(newest.items())}


class LibraryFinder:
    """Finds needed libraries by name, as the process of an ``import torch`` would; remembers what it read."""

    def __init__(
        self, own: Sequence[Path], site_packages: Sequence[Path], interpreter: Path, *, installed: bool = False
    ) -> None:
        """``own`` are the wheel's objects; every folder is listed once, the system's cache asked at need."""
        self._installed = installed
        self._places: dict[str, Path] = {}
        self._dynamics: dict[Path, Dynamic | None] = {}
        self._system: dict[str, Path] | None = None
        folders = [folder for site in site_packages for folder in library_folders(site)]
        folders.append(interpreter.resolve().parent.parent / "lib")
        for path in [*own, *(path for folder in folders for path in _libraries(folder))]:
            self._places.setdefault(path.name, path)

    def find(self, name: str) -> Path | None:
        """Where a library of this name is; None when it is nowhere."""
        if name in self._places:
            return self._places[name]
        if self._system is None:
            self._system = _system_libraries()
        if name in self._system:
            return self._system[name]
        return next((path for folder in _SYSTEM_FOLDERS if (path := Path(folder) / name).exists()), None)

    def beside(self, path: Path, name: str) -> Path | None:
        """Where an object's own RUNPATH says that a library is; absolute folders count for what is installed only.

        What a wheel finds by an absolute path lies on the machine that built it.
        """
        dynamic = self.dynamic(path)
        for folder in dynamic.search if dynamic is not None else ():
            own = re.sub(r"^\$(ORIGIN|\{ORIGIN\})", str(path.parent), folder)
            if (own != folder or self._installed) and (Path(own) / name).is_file():
                return Path(own) / name
        return None

    def dynamic(self, path: Path) -> Dynamic | None:
        """The dynamic section of a library, read once."""
        if path not in self._dynamics:
            self._dynamics[path] = read_dynamic(path)
        return self._dynamics[path]

    def needed(self, path: Path) -> tuple[str, ...]:
        """The names of the libraries that a file needs."""
        dynamic = self.dynamic(path)
        return dynamic.needed if dynamic is not None else ()

    def closure(self, names: Iterable[str]) -> list[Path]:
        """The libraries that these names bring in, nearest first; those that are nowhere are left out."""
        found: dict[Path, None] = {}
        waiting = list(names)
        seen = set(waiting)
        while waiting:
            path = self.find(waiting.pop(0))
            if path is None or path in found:
                continue
            found[path] = None
            for name in self.needed(path):
                if name not in seen:
                    seen.add(name)
                    waiting.append(name)
        return list(found)


class _Tables:
    """Symbol tables by path, opened at first use and closed with the stack."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._open: dict[Path, SymbolTable] = {}

    def defines(self, path: Path, name: str) -> bool:
        """Whether the library at ``path`` exports ``name``."""
        if path not in self._open:
            self._open[path] = self._stack.enter_context(SymbolTable(path))
        return self._open[path].defines(name)


def _inspect(
    path: Path, shown: str, finder: LibraryFinder, tables: _Tables, scope: Sequence[Path]
) -> ObjectLinkage | None:
    dynamic = finder.dynamic(path)
    if dynamic is None:
        return None
    places = {name: finder.find(name) or finder.beside(path, name) for name in dynamic.needed}
    absent = [name for name, place in places.items() if place is None]
    driver = tuple(name for name in absent if is_driver_library(name))
    missing = tuple(name for name in absent if name not in driver)
    search = list(dict.fromkeys([*finder.closure(dynamic.needed), *scope]))
    names = () if missing else sorted(undefined_names(path))
    undefined = [name for name in names if not any(tables.defines(path, name) for path in search)]
    if driver:
        undefined = [name for name in undefined if not _DRIVER_SYMBOL.fullmatch(name)]
    outdated = [
        f"{library}: {version}"
        for library, versions in sorted(dynamic.versions_needed.items())
        if (place := places.get(library)) is not None
        if (there := finder.dynamic(place)) is not None
        for version in sorted(versions - there.versions_defined)
        if there.versions_defined
    ]
    return ObjectLinkage(
        path=shown,
        needed=dynamic.needed,
        found={name: str(place) for name, place in places.items() if place is not None},
        missing=missing,
        driver=driver,
        undefined=tuple(undefined),
        outdated=tuple(outdated),
        search=dynamic.search,
    )


def _is_grafted(path: Path, finder: LibraryFinder) -> bool:
    dynamic = finder.dynamic(path)
    return is_grafted(path.name) or (dynamic is not None and is_grafted(dynamic.soname))


def library_folders(site: Path) -> list[Path]:
    """Folders of libraries that ``import torch`` loads from: torch's own, nvidia's, and ``*.libs``."""
    nvidia = sorted((site / "nvidia").glob("*/lib")) if (site / "nvidia").is_dir() else []
    return [site / "torch" / "lib", *nvidia, *sorted(site.glob("*.libs"))]


def _libraries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.so*")) if folder.is_dir() else []


def _system_libraries() -> dict[str, Path]:
    """The dynamic linker's cache, by name; entries for other processors left out."""
    for program in ("/sbin/ldconfig", "/usr/sbin/ldconfig", "ldconfig"):
        try:
            listing = process.run([program, "-p"], check=False).stdout
        except process.ProgramFailed:
            continue
        places: dict[str, Path] = {}
        for line in _CACHE_LINE.finditer(listing):
            if not _FOREIGN_ABI.search(line[0]):
                places.setdefault(line["name"], Path(line["path"]))
        return places
    return {}
