"""Folders as content: one hash for paths, modes, link targets and bytes; copies; links that would lead out."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from buildkit.errors import UnsafeArchive

_CHUNK = 1 << 20


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def walk(root: Path) -> Iterator[str]:
    """Relative paths of all files and links below a folder, links not followed, folders themselves left out."""
    for folder, names, files in os.walk(root):
        place = Path(folder)
        links = [name for name in names if (place / name).is_symlink()]
        for name in (*files, *links):
            yield str((place / name).relative_to(root))


def tree_sha256(root: Path) -> str:
    """Canonical hash of a tree: independent of order, times, owners, and of folders that hold no file.

    Of a mode only the owner's execute bit counts, as in git.
    """
    digest = hashlib.sha256(b"cudabuild-tree-1\n")
    for name in sorted(walk(root), key=os.fsencode):
        path = root / name
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            kind, content = b"l", hashlib.sha256(os.fsencode(path.readlink())).hexdigest()
        else:
            kind, content = b"x" if status.st_mode & stat.S_IXUSR else b"f", file_sha256(path)
        digest.update(b"%s %s %s\0" % (kind, content.encode(), os.fsencode(name)))
    return digest.hexdigest()


def refuse_links_out(root: Path) -> None:
    """Raise :class:`UnsafeArchive` for the first link below ``root`` that leads out of it, links in links included."""
    real = Path(os.path.realpath(root))
    for name in walk(root):
        path = root / name
        if not path.is_symlink():
            continue
        target = str(path.readlink())
        # A chain of links can leave although each looks harmless, so the resolved place decides.
        if target.startswith("/") or not Path(os.path.realpath(path)).is_relative_to(real):
            raise UnsafeArchive(
                f"the link {name} leads out of the source",
                evidence=f"{name} -> {target}",
                hint="replace the link by the file it means",
            )


def copy_tree(source: Path, destination: Path) -> None:
    """A copy that can be written to: links kept as links, times kept, modes reduced to 644 and 755."""
    destination.mkdir(parents=True)
    for folder, names, files in os.walk(source):
        here = destination / Path(folder).relative_to(source)
        for name in (*names, *files):
            copy_entry(Path(folder, name), here / name)


def copy_entry(source: Path, destination: Path) -> None:
    """One file, link or (empty) folder; the parent of ``destination`` exists."""
    status = source.lstat()
    if stat.S_ISLNK(status.st_mode):
        destination.symlink_to(source.readlink())
    elif stat.S_ISDIR(status.st_mode):
        destination.mkdir(exist_ok=True)
    else:
        shutil.copyfile(source, destination)
        destination.chmod(plain_mode(status.st_mode))
        os.utime(destination, ns=(status.st_mtime_ns, status.st_mtime_ns))


def plain_mode(mode: int) -> int:
    """755 for what its owner may execute, else 644: no setuid, no write for others."""
    return 0o755 if mode & stat.S_IXUSR else 0o644
