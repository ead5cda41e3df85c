"""What a shared folder (an environment, a toolkit made from wheels) holds, so that later use can check it.

A build may not write into what is shared, and a build that did must not go unseen. The check costs a
walk with one ``stat`` a file. A file whose size and content are the same but whose change time is not
(installers link files from their cache, and each further link changes it) is told apart by its hash,
which wheels carry in their RECORD: no large file is hashed when the manifest is written.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buildkit.errors import EnvironmentChanged
from buildkit.machine.identity import hash_file, printable, write_atomically

# (0o170000 part and permissions of st_mode, size, mtime_ns, ctime_ns, inode)
Stat = tuple[int, int, int, int, int]


class FileRecord(NamedTuple):
    """One file or link: its ``stat``, and the SHA-256 of its content (of a link: its target)."""

    stat: Stat
    content: str


class Manifest(BaseModel):
    """All files of a folder, by path relative to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: int = Field(default=1, alias="schema", ge=1, le=1)
    files: dict[str, FileRecord]


def write_manifest(folder: Path, file: Path) -> None:
    """Record every file and link below ``folder`` in ``file`` (which lies outside of it)."""
    known = _hashes_of_records(folder)
    files = {name: FileRecord(found, _content(path, found, known.get(name))) for name, path, found in _walk(folder)}
    _save(Manifest(files=files), file)


def check_manifest(folder: Path, file: Path) -> None:
    """EnvironmentChanged, naming the first file, unless the folder holds exactly what was recorded of it."""
    try:
        recorded = Manifest.model_validate_json(file.read_bytes()).files
    except (OSError, ValidationError) as error:
        raise _changed(folder, f"its manifest cannot be read: {file}") from error
    touched: dict[str, FileRecord] = {}
    seen = 0
    for name, path, found in _walk(folder):
        record = recorded.get(name)
        if record is None:
            raise _changed(folder, f"a file was added: {name}")
        seen += 1
        if found != record.stat:
            if found[:2] != record.stat[:2] or _content(path, found, None) != record.content:
                raise _changed(folder, f"a file was changed: {name}")
            touched[name] = FileRecord(found, record.content)
    if seen != len(recorded):
        left = {name for name, _path, _found in _walk(folder)}
        missing = next((name for name in recorded if name not in left), "it changed while it was checked")
        raise _changed(folder, f"a file was removed: {missing}")
    if touched:
        with contextlib.suppress(OSError):  # only makes the next check faster
            _save(Manifest(files={**recorded, **touched}), file)


def shared_changes(folder: Path, file: Path) -> set[tuple[int, int]]:
    """Device and inode of the recorded files whose content changed and that have another name elsewhere."""
    try:
        recorded = Manifest.model_validate_json(file.read_bytes()).files
    except (OSError, ValidationError):
        return set()
    found: set[tuple[int, int]] = set()
    for name, path, state in _walk(folder):
        record = recorded.get(name)
        if record is not None and state != record.stat and _content(path, state, None) != record.content:
            status = Path(path).lstat()
            if status.st_nlink > 1:
                found.add((status.st_dev, status.st_ino))
    return found


def _changed(folder: Path, evidence: str) -> EnvironmentChanged:
    return EnvironmentChanged(
        f"{folder} is no longer what was installed there",
        evidence=evidence,
        hint=f"rm -r {folder}   # then the same command again: it is installed anew",
    )


def _save(manifest: Manifest, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, manifest.model_dump_json(by_alias=True).encode())


def _walk(top: Path) -> Iterator[tuple[str, str, Stat]]:
    """Relative name, path and ``stat`` of every file, link and special file below ``top``; a folder's by name."""
    folders = [(str(top), "")]
    while folders:
        folder, prefix = folders.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise _changed(top, str(error)) from error
        for entry in found:
            name = prefix + (entry.name if entry.name.isascii() else printable(entry.name))
            if entry.is_dir(follow_symlinks=False):
                folders.append((entry.path, f"{name}/"))
            else:
                status = entry.stat(follow_symlinks=False)
                numbers = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
                yield name, entry.path, numbers


def _content(path: str, found: Stat, known: str | None) -> str:
    if stat.S_ISLNK(found[0]):
        return f"-> {printable(str(Path(path).readlink()))}"
    if not stat.S_ISREG(found[0]):
        return "special file"
    return known or hash_file(Path(path))


def _hashes_of_records(folder: Path) -> dict[str, str]:
    """SHA-256 by relative path, of the files that the RECORDs below ``folder`` name.

    Looked at are the RECORDs in ``folder`` itself and where a virtual environment keeps its packages. A file
    that two packages own with different content is left out.
    """
    hashes: dict[str, str] = {}
    disputed: set[str] = set()
    for pattern in ("*.dist-info/RECORD", "lib/python*/site-packages/*.dist-info/RECORD"):
        for record in folder.glob(pattern):
            base = os.path.relpath(record.parent.parent, folder)
            for name, digest in _read_record(record):
                path = os.path.normpath(f"{base}/{name}")
                if hashes.setdefault(path, digest) != digest:
                    disputed.add(path)
    return {path: digest for path, digest in hashes.items() if path not in disputed}


def _read_record(record: Path) -> Iterator[tuple[str, str]]:
    """Path (relative to the site folder) and hexadecimal SHA-256 of each row that has one."""
    with record.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        for row in csv.reader(stream):
            if len(row) >= 2 and row[1].startswith("sha256="):
                digest = row[1].removeprefix("sha256=")
                with contextlib.suppress(ValueError):
                    yield row[0], base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)).hex()
