"""What fetching hands over: where the source lies, its content hash, and what it says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from buildkit.source.cached import SourceRecord


@dataclass(frozen=True)
class FetchedSource:
    """A source in the cache, verified. Exactly one of ``archive`` (sdist) and ``tree`` (git, folder) is set."""

    kind: Literal["sdist", "git", "folder"]
    sha256: str
    """Of the archive's bytes, or of the tree's content (:func:`buildkit.source.tree.tree_sha256`)."""
    tree: Path | None
    archive: Path | None
    subdirectory: str
    """Of the project inside the source; ``.`` for the whole."""
    name: str | None
    """The project's name and version where they are static."""
    version: str | None
    build_requires: tuple[str, ...]
    """PEP 518's, before the backend is asked for more; setuptools and wheel where there is no pyproject.toml."""
    build_backend: str | None
    origin: str
    """For people: a URL without credentials, a path, or NAME==VERSION."""
    notes: tuple[str, ...] = ()


def from_record(record: SourceRecord, place: Path, subdirectory: str = ".") -> FetchedSource:
    """The hand-over for a cache folder with a valid record."""
    archive = place / record.filename if record.filename is not None else None
    return FetchedSource(
        kind=record.kind,
        sha256=record.sha256,
        tree=None if archive else place / "tree",
        archive=archive,
        subdirectory=subdirectory,
        name=record.name,
        version=record.version,
        build_requires=record.build_requires,
        build_backend=record.build_backend,
        origin=record.origin,
        notes=record.notes,
    )
