"""What lies in an environment's site-packages: compiled packages with their shared objects, and leftovers."""

from __future__ import annotations

import json
import mmap
import os
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import Distribution, PackageMetadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from buildkit.build.final import FACTS_FILE
from buildkit.build.package import normalised
from buildkit.machine.interpreter import Interpreter
from buildkit.verify.grafted import is_grafted
from buildkit.verify.symbols import read_dynamic

_SHARED = re.compile(r"\.so(\.\d+)*$")
_METADATA = (".dist-info", ".egg-info")
_PRUNED = frozenset({".git", ".venv", "venv", "build", "__pycache__", "node_modules"})
_SIGNS = (b".nv_fatbin\0", b"__nv_relfatbin\0", b"N3c10")
"""Names of the sections with device code; the mangled name of torch's lowest namespace, for an object that uses torch
and names no library."""
_LIBRARIES = (b"\0libtorch", b"\0libc10", b"\0libcu", b"\0libnv", b"\0libcaffe2", b"\0libnccl")
"""What the names of those libraries begin with; whether they are needed or only mentioned is another question."""
_HEADER = struct.Struct("<40xQ10xHH2x")
"""Of the ELF header: offset of the section table, size and number of its entries."""


@dataclass(frozen=True)
class Installation:
    """One distribution: ``info`` is its metadata's folder (or file), ``site`` the folder that its RECORD is about."""

    info: Path
    distribution: Distribution

    @property
    def site(self) -> Path:
        """Where its files are."""
        return self.info.parent

    @cached_property
    def sound(self) -> bool:
        """Whether it has a name and a version; an interrupted uninstall leaves folders without METADATA."""
        try:
            return "Name" in self._metadata and "Version" in self._metadata
        except (FileNotFoundError, KeyError):
            return False

    @cached_property
    def name(self) -> str:
        """Normalised; from the folder's name where there is no METADATA."""
        return normalised(self._metadata["Name"] if self.sound else stem_of(self.info)[0])

    @cached_property
    def version(self) -> str:
        """As METADATA says it, else as the folder's name does."""
        return str(self._metadata["Version"]) if self.sound else stem_of(self.info)[1]

    @cached_property
    def _metadata(self) -> PackageMetadata:
        return self.distribution.metadata

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Paths of its files relative to ``site``, as RECORD (or what stands for it) lists them."""
        return tuple(str(file) for file in self.distribution.files or ())

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What cudabuild wrote into it; empty for another's."""
        return _json(self.distribution.read_text(FACTS_FILE))

    @cached_property
    def direct_url(self) -> Mapping[str, Any]:
        """Where it was installed from, where the installer noted that (PEP 610)."""
        return _json(self.distribution.read_text("direct_url.json"))

    @property
    def editable(self) -> Path | None:
        """The project's folder of an editable installation."""
        directory = self.direct_url.get("dir_info")
        wanted = isinstance(directory, dict) and directory.get("editable") is True
        return local_path(self.direct_url) if wanted else None

    @cached_property
    def objects(self) -> dict[Path, str]:
        """Its shared objects, with the paths to show."""
        if self.info.name == "EGG-INFO":
            return dict(_walked(self.site))
        if self.editable is not None:
            return dict(_walked(self.editable))
        named = {self.site / file: file for file in self.files if shared_name(file)}
        return {path: shown for path, shown in named.items() if is_elf(path)}


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def local_path(direct_url: Mapping[str, Any]) -> Path | None:
    """The path of a ``file:`` address that is there."""
    url = urlsplit(str(direct_url.get("url", "")))
    path = Path(unquote(url.path))
    return path if url.scheme == "file" and path.exists() else None


def stem_of(info: Path) -> tuple[str, str]:
    """Name and version from ``name-1.0.dist-info``, ``name-1.0-py3.11.egg-info`` or ``name.egg-info``."""
    name, _, rest = info.name.rsplit(".", 1)[0].partition("-")
    return name, re.sub(r"-py\d.*$", "", rest)


def installations(python: Interpreter) -> list[Installation]:
    """Everything that is installed, the damaged too, in the order in which Python looks."""
    found = []
    for folder in python.site_packages:
        if folder.suffix == ".egg" and (folder / "EGG-INFO").is_dir():
            found.append(Installation(folder / "EGG-INFO", Distribution.at(folder / "EGG-INFO")))
        elif folder.is_dir():
            infos = (path for path in sorted(folder.iterdir()) if path.suffix in _METADATA and path.name[0] not in "~-")
            found += [Installation(path, Distribution.at(path)) for path in infos]
    return found


def own_folders(python: Interpreter) -> list[Path]:
    """The site-packages that belong to the environment itself; what a ``.pth`` adds is somebody else's to tidy."""
    own = [folder for folder in python.site_packages if folder.is_relative_to(python.prefix) and folder.is_dir()]
    return own or [folder for folder in python.site_packages if folder.is_dir()]


def first_of_each(found: Iterable[Installation]) -> list[Installation]:
    """The sound ones; of a name that is there twice, the one that Python finds."""
    seen: dict[str, Installation] = {}
    for each in found:
        if each.sound:
            seen.setdefault(each.name, each)
    return list(seen.values())


def shared_name(file: str) -> bool:
    """Whether a file is named as shared objects are."""
    return _SHARED.search(file) is not None


def own_modules(each: Installation) -> tuple[str, ...]:
    """What to import of a package without a recipe: its top-level modules that are compiled, or hold compiled ones.

    Where none is compiled, all that are packages or modules at all.
    """
    if each.editable is not None or each.info.suffix != ".dist-info":
        text = each.distribution.read_text("top_level.txt") or each.name.replace("-", "_")
        return tuple(name for name in text.split() if name.isidentifier())
    tops = {Path(file).parts[0] for file in each.files if shared_name(file)}
    modules = {top.split(".")[0] if shared_name(top) else top for top in tops}
    if not tops:
        modules = {file.removesuffix(".py").removesuffix("/__init__") for file in each.files if file.endswith(".py")}
    return tuple(sorted(name for name in modules if name.isidentifier()))


def is_elf(path: Path) -> bool:
    """Whether a file begins as ELF files do."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) == b"\x7fELF"
    except OSError:
        return False


def speaks_cuda(path: Path) -> bool:
    """Whether a shared object holds device code, or needs torch, CUDA or the driver. A truncated one counts as such.

    Most of what is installed does neither, and is told by its bytes alone: reading ELF tables takes far longer.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        if _truncated(view) or any(view.find(sign) >= 0 for sign in _SIGNS):
            return True
        named = any(view.find(beginning) >= 0 for beginning in _LIBRARIES)
    return named and _needs_cuda(path)


def _truncated(view: mmap.mmap) -> bool:
    """Whether the section table, which comes last in what linkers write, ends behind the end of the file."""
    if len(view) < _HEADER.size:
        return True
    offset, entry, count = _HEADER.unpack_from(view)
    return bool(offset + entry * count > len(view))


def _needs_cuda(path: Path) -> bool:
    from elftools.common.exceptions import ELFError

    try:
        dynamic = read_dynamic(path)
    except (ELFError, ValueError):
        return True
    return dynamic is not None and any(map(is_grafted, dynamic.needed))


def readable(path: Path) -> bool:
    """Whether the headers of a shared object can be read: what is truncated cannot be looked into further."""
    from elftools.common.exceptions import ELFError

    try:
        read_dynamic(path)
    except (ELFError, ValueError):
        return False
    return True


def ownerless(folder: Path, found: Sequence[Installation], known: Collection[str]) -> Iterator[Path]:
    """Modules and packages that speak CUDA and belong to no distribution; ``known`` names are passed over."""
    owned = {Path(file).parts[0] for each in found if each.site == folder for file in each.files}
    owned |= {name for each in found for name in (each.distribution.read_text("top_level.txt") or "").split()}
    for path in sorted(folder.iterdir()):
        name = path.name
        if name in owned or name in known or name[0] in "~-" or path.suffix in {*_METADATA, ".pth", ".libs"}:
            continue
        if name.split(".")[0] in owned:
            continue
        objects = dict(_walked(path)) if path.is_dir() else {path: name} if shared_name(name) else {}
        if any(is_elf(each) and speaks_cuda(each) for each in objects):
            yield path


def interrupted(folder: Path) -> Iterator[Path]:
    """What pip renamed to take it away, and left: ``~ackage`` (older pips: ``-ackage``)."""
    return (path for path in sorted(folder.iterdir()) if path.name[0] in "~-")


def _walked(folder: Path) -> Iterator[tuple[Path, str]]:
    """The shared objects below a folder; build trees and environments inside it are left out."""
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _PRUNED)
        for name in sorted(files):
            path = Path(top, name)
            if shared_name(name) and is_elf(path):
                yield path, path.relative_to(folder.parent).as_posix()
