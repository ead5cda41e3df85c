"""A folder as a source: copied, never built in place, without what version control or .gitignore leaves out."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.errors import ReadOnlyCache, SourceError
from buildkit.process import ProgramFailed
from buildkit.progress import Reporter
from buildkit.source import metadata
from buildkit.source.cached import SourceRecord, cache_errors, discard, publish, staging, write_record
from buildkit.source.fetched import FetchedSource, from_record
from buildkit.source.git_command import Git
from buildkit.source.spec import FolderSpec
from buildkit.source.tree import copy_entry, refuse_links_out, tree_sha256

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

VERSION_CONTROL = frozenset({".git", ".hg", ".svn", ".bzr", "_darcs", "CVS", ".jj"})


def fetch_folder(spec: FolderSpec, *, cache: Path, reporter: Reporter) -> FetchedSource:
    """Copy the folder into ``CACHE/sources/folder/SHA256/tree``, named after the copy's content.

    Raises :class:`SourceError` where there is no folder, or it holds nothing; :class:`UnsafeArchive` for a
    link that leads out of it.
    """
    if not spec.path.is_dir():
        raise SourceError(f"there is no folder {spec.path}", hint="check the path")
    root = spec.path.resolve()
    # A cache inside the folder would copy itself.
    names = [name for name in listed(root) if not (root / name).is_relative_to(cache.resolve())]
    parent = cache / "sources" / "folder"
    try:
        with staging(parent) as folder:
            record = _copied(spec, names, folder, reporter)
            place = parent / record.sha256
            if not _is_sound(place, record):
                if place.exists():
                    discard(place)
                write_record(folder, record)
                publish(folder, place)
    except ReadOnlyCache:
        # A copy lies under its content's hash: one that is there can be found without writing.
        with tempfile.TemporaryDirectory() as scratch:
            record = _copied(spec, names, Path(scratch), reporter)
        place = parent / record.sha256
        if not _is_sound(place, record):
            raise
    return from_record(record, place, spec.subdirectory)


def _copied(spec: FolderSpec, names: Iterable[str], folder: Path, reporter: Reporter) -> SourceRecord:
    """Copy the files into ``folder/tree``; what there is to record of them."""
    root, tree = spec.path.resolve(), folder / "tree"
    with cache_errors(folder.parent):
        try:
            _copy(root, names, tree, reporter)
        except PermissionError as error:
            if error.filename is None or not Path(error.filename).is_relative_to(root):
                raise
            raise SourceError(f"{error.filename} cannot be read", evidence=str(error)) from error
    if not any(tree.iterdir()):
        raise SourceError(f"{spec.path} holds no files, or .gitignore leaves out all of them", hint="check the path")
    refuse_links_out(tree)
    said = metadata.of_folder(tree / spec.subdirectory, where=str(spec.path))
    return SourceRecord(
        kind="folder",
        name=said.name,
        version=said.version,
        sha256=tree_sha256(tree),
        origin=str(spec.path),
        build_requires=said.build_requires,
        build_backend=said.build_backend,
    )


def _is_sound(place: Path, record: SourceRecord) -> bool:
    return place.exists() and tree_sha256(place / "tree") == record.sha256


def listed(root: Path) -> list[str]:
    """Relative paths to copy, sorted: what git would add if it is a work tree, else by the .gitignore files."""
    names = _listed_by_git(root)
    return sorted(set(names if names is not None else _listed_by_rules(root)))


def _copy(root: Path, names: Iterable[str], tree: Path, reporter: Reporter) -> None:
    tree.mkdir()
    for name in names:
        source, target = root / name, tree / name
        mode = source.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            reporter.warn(f"{name} is neither a file, a link nor a folder, and is left out")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_entry(source, target)


def _listed_by_git(root: Path) -> list[str] | None:
    """Tracked and untracked-but-not-ignored files, submodules included; None where git has no say."""
    git = Git()
    try:
        inside = git.run("rev-parse", "--is-inside-work-tree", cwd=root, check=False)
        ignored = git.run("check-ignore", "--quiet", ".", cwd=root, check=False).returncode == 0
        if inside.stdout.strip() != "true" or ignored:
            return None
        answer = git.run("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=root)
    except (ProgramFailed, SourceError):
        # No git here, or one that does not trust this folder's owner: the rules are the same.
        return None
    names: list[str] = []
    for name in filter(None, answer.stdout.split("\0")):
        path = root / name.rstrip("/")
        if path.is_dir() and not path.is_symlink():
            names += [f"{name.rstrip('/')}/{inner}" for inner in listed(path)]
        elif os.path.lexists(path):
            names.append(name)
    return [name for name in names if not VERSION_CONTROL & set(Path(name).parts)]


def _listed_by_rules(root: Path) -> Iterator[str]:
    yield from _walk(root, Path(), [])


def _walk(root: Path, here: Path, above: list[tuple[Path, GitIgnoreSpec]]) -> Iterator[str]:
    """Files below ``here`` that no .gitignore from the root down to their folder leaves out."""
    rules = [*above, *_rules_of(root, here)]
    for entry in sorted(os.scandir(root / here), key=lambda entry: entry.name):
        name = here / entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name in VERSION_CONTROL or _is_ignored(name, is_folder, rules):
            continue
        if not is_folder:
            yield str(name)
        elif not (root / name / "pyvenv.cfg").exists():
            # A virtual environment is nobody's source, ignored or not.
            yield from _walk(root, name, rules)


def _rules_of(root: Path, here: Path) -> list[tuple[Path, GitIgnoreSpec]]:
    file = root / here / ".gitignore"
    if not file.is_file():
        return []
    from pathspec import GitIgnoreSpec

    return [(here, GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8", errors="replace").splitlines()))]


def _is_ignored(name: Path, is_folder: bool, rules: list[tuple[Path, GitIgnoreSpec]]) -> bool:
    """The deepest .gitignore that says anything decides."""
    for folder, spec in reversed(rules):
        verdict = spec.check_file(f"{name.relative_to(folder).as_posix()}{'/' if is_folder else ''}").include
        if verdict is not None:
            return verdict
    return False
