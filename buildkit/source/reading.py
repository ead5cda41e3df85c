"""A fetched source as names and texts, so that it can be looked at without being unpacked, let alone run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from buildkit.source.archive import read_texts
from buildkit.source.fetched import FetchedSource
from buildkit.source.tree import walk

LARGEST = 512 << 10
"""Bytes of a file that is read: longer ones are tables, or are made by a program."""
MOST = 48 << 20
"""Bytes that are read of one source; some bring a library of headers with them."""

_CODE = frozenset({
    ".py", ".pyx", ".pxd", ".pxi", ".rs", ".c", ".cc", ".cpp", ".cxx", ".c++", ".cu", ".cuh", ".inl", ".inc", ".ipp",
    ".h", ".hh", ".hpp", ".hxx", ".h++", ".tpp", ".txx", ".tcc", ".in", ".j2", ".jinja", ".tmpl", ".tpl", ".template",
})  # fmt: skip
"""Code, and what code is made from."""
_SCRIPTS = frozenset({".cmake", ".toml", ".cfg", ".build", ".bzl", ".bazel"})
_BY_NAME = frozenset({"CMakeLists.txt", "PKG-INFO", ".gitmodules", "top_level.txt", "Makefile", "BUILD"})
_VERSIONS = frozenset({"__init__.py", "version.py", "_version.py"})
_LICENCES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "EULA")


@dataclass(frozen=True)
class SourceText:
    """``names`` of all files, relative to the source's root; ``texts`` of those that say something, by name."""

    names: tuple[str, ...]
    texts: Mapping[str, str]
    project: str = "."
    """The folder of the project inside the source."""
    skipped: tuple[str, ...] = ()
    """Files that may hold code and were not read: too long, or beyond the limit."""

    def inside(self, name: str) -> str:
        """The name of a file that lies in the project's own folder."""
        return name if self.project == "." else f"{self.project}/{name}"

    def own(self, name: str) -> str | None:
        """The text of a file in the project's own folder; None where there is none."""
        return self.texts.get(self.inside(name))


def read_source(source: FetchedSource, *, code: bool = True) -> SourceText:
    """Read what is worth reading; without ``code`` only what says how it is built. It was verified when fetched."""
    names: list[str] = []
    contents: dict[str, bytes] = {}
    depth = len(PurePosixPath(source.subdirectory).parts)

    def wanted(name: str) -> bool:
        return is_telling(name, depth, code=code)

    if source.archive is not None:
        names, contents = read_texts(source.archive, wanted, largest=LARGEST, most=MOST)
    elif source.tree is not None:
        names, contents = _of_tree(source.tree, wanted)
    texts = {name: content.decode("utf-8", "replace") for name, content in contents.items()}
    skipped = (name for name in names if name not in texts and _may_be_code(name))
    return SourceText(tuple(sorted(names)), texts, source.subdirectory, tuple(sorted(skipped)))


def _of_tree(tree: Path, wanted: Callable[[str], bool]) -> tuple[list[str], dict[str, bytes]]:
    names, contents, left = [], {}, MOST
    for name in sorted(walk(tree), key=os.fsencode):
        path = tree / name
        if path.is_symlink():
            continue  # what it means is there under its own name: links out of a source are refused
        names.append(name)
        size = path.lstat().st_size
        if wanted(name) and size <= min(LARGEST, left):
            contents[name] = path.read_bytes()
            left -= size
    return names, contents


def _may_be_code(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in _CODE | _SCRIPTS or path.name in {"CMakeLists.txt", "Makefile", "BUILD"}


def is_telling(name: str, depth: int = 0, *, code: bool = True) -> bool:
    """Whether a file of this name can say how a package is built, from what, and under which terms.

    ``depth`` is the project's own in the source: scripts that run at build time lie at its top.
    """
    path = PurePosixPath(name)
    if path.suffix in _SCRIPTS or path.name in _BY_NAME or path.name.upper().startswith(_LICENCES):
        return True
    is_script = path.suffix == ".py" and (len(path.parts) <= depth + 1 or path.name in _VERSIONS)
    return is_script or (code and path.suffix.lower() in _CODE)
