"""What can be seen of a fetched source without running any of it."""

from __future__ import annotations

import email.parser
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from buildkit.source.fetched import FetchedSource

UNIT_ENDINGS = (".cu", ".cpp", ".cc", ".cxx", ".c")
"""Files that a compiler is started for."""


_SKIPPED = frozenset({"test", "tests", "example", "examples", "third_party", "benchmark", "benchmarks", "docs"})


def count_units(source: FetchedSource) -> int:
    """How many files look like translation units: an upper estimate, tests and examples left out."""
    return sum(1 for name in _names(source) if name.endswith(UNIT_ENDINGS) and in_use(name))


def in_use(name: str) -> bool:
    """Whether a file of this path is likely to be a part of what is built."""
    return _SKIPPED.isdisjoint(name.split("/")[:-1])


def runtime_requires(source: FetchedSource) -> tuple[str, ...]:
    """``Requires-Dist`` of an sdist's PKG-INFO, those behind an extra left out; empty where nothing is static."""
    text = _pkg_info(source)
    if text is None:
        return ()
    found = email.parser.HeaderParser().parsestr(text).get_all("Requires-Dist") or []
    return tuple(str(value) for value in found if "extra ==" not in str(value))


def _names(source: FetchedSource) -> Iterator[str]:
    if source.archive is None:
        root = source.tree or Path()
        yield from (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    elif source.archive.suffix == ".zip":
        with zipfile.ZipFile(source.archive) as archive:
            yield from archive.namelist()
    else:
        with tarfile.open(source.archive) as archive:
            yield from archive.getnames()


def _pkg_info(source: FetchedSource) -> str | None:
    if source.archive is None or source.archive.suffix == ".zip":
        return None
    with tarfile.open(source.archive) as archive:
        for member in archive:
            if member.isfile() and member.name.count("/") == 1 and member.name.endswith("/PKG-INFO"):
                file = archive.extractfile(member)
                return file.read().decode("utf-8", "replace") if file else None
    return None
