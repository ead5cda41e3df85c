"""The one way to a source: from the cache where it is there and sound, else from where its spec says."""

from __future__ import annotations

from pathlib import Path

from buildkit.errors import SourceError
from buildkit.progress import Reporter
from buildkit.source.archive import extract
from buildkit.source.cached import cache_errors
from buildkit.source.fetched import FetchedSource
from buildkit.source.folder import fetch_folder
from buildkit.source.git import fetch_git
from buildkit.source.index_settings import IndexSettings
from buildkit.source.sdist import fetch_archive, fetch_sdist
from buildkit.source.spec import ArchiveSpec, FolderSpec, GitSpec, SdistSpec, SourceSpec, parse_source, spec_of
from buildkit.source.tree import copy_tree, file_sha256, tree_sha256

__all__ = ["FetchedSource", "SourceSpec", "fetch_source", "parse_source", "project_root", "spec_of", "unpack"]


def fetch_source(
    spec: SourceSpec,
    *,
    cache: Path,
    index: IndexSettings,
    offline: bool,
    reporter: Reporter,
    python: str | None = None,
) -> FetchedSource:
    """Bring a source into the cache, verified. Nothing of it is run.

    ``python`` (``3.11``) matters only for an sdist without a version: the newest that allows this Python.
    Raises the classes of exit code 4 in :mod:`buildkit.errors`.
    """
    if isinstance(spec, SdistSpec):
        return fetch_sdist(spec, cache=cache, index=index, offline=offline, reporter=reporter, python=python)
    if isinstance(spec, GitSpec):
        return fetch_git(spec, cache=cache, offline=offline, reporter=reporter)
    if isinstance(spec, FolderSpec):
        return fetch_folder(spec, cache=cache, reporter=reporter)
    if isinstance(spec, ArchiveSpec):
        return fetch_archive(spec, cache=cache, reporter=reporter)
    raise AssertionError(f"not a source: {spec!r}")


def unpack(fetched: FetchedSource, destination: Path) -> Path:
    """Lay the source out below ``destination`` (made if absent, else empty); returns the project's folder.

    An sdist keeps its own top folder, others are in ``source``: the path depends on nothing but the source.
    The content is hashed before it is used. Raises :class:`SourceError` if it changed since it was fetched.
    """
    destination.mkdir(parents=True, exist_ok=True)
    with cache_errors(destination):
        if fetched.archive is not None:
            _check(file_sha256(fetched.archive), fetched)
            root = extract(fetched.archive, destination)
        elif fetched.tree is not None:
            root = destination / "source"
            copy_tree(fetched.tree, root)
            _check(tree_sha256(root), fetched)
        else:
            raise AssertionError("a source that is neither archive nor tree")
    project = root / fetched.subdirectory
    if not project.is_dir():
        raise SourceError(f"{fetched.origin} has no folder {fetched.subdirectory}")
    return project


def project_root(project: Path, fetched: FetchedSource) -> Path:
    """The whole source's folder for what :func:`unpack` returned: patches are relative to it."""
    depth = len(Path(fetched.subdirectory).parts)
    return project if depth == 0 else project.parents[depth - 1]


def _check(sha256: str, fetched: FetchedSource) -> None:
    if sha256 != fetched.sha256:
        raise SourceError(
            f"the cached source of {fetched.origin} changed while it was used",
            evidence=f"expected sha256 {fetched.sha256}, got {sha256}",
            hint="run the same command again: it will be fetched anew",
        )
