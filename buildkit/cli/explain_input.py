"""What ``cudabuild explain`` reads: a file, a build's log or standard input, of any size, as far as it is text."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from buildkit.diagnose.first import LOG_TAIL
from buildkit.diagnose.text import Log, read_log
from buildkit.errors import NoSuchBuild, UsageError

if TYPE_CHECKING:
    from buildkit.store.builds import BuildRecord, BuildRecords

STANDARD_INPUT = "standard input"
_CHUNK = 1 << 20
_HEAD = 1 << 12
_WIDE = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_PACKED = {
    b"\x1f\x8b": "zcat {name} | cudabuild explain -",
    b"PK\x03\x04": "unzip -p {name} | cudabuild explain -",
    b"\xfd7zXZ": "xzcat {name} | cudabuild explain -",
    b"(\xb5/\xfd": "zstdcat {name} | cudabuild explain -",
    b"BZh": "bzcat {name} | cudabuild explain -",
}


@dataclass(frozen=True)
class Source:
    """A log that was read: what it is called, its lines, whether its beginning was left out, and the build's record."""

    name: str
    log: Log
    cut: bool
    record: BuildRecord | None = None

    @property
    def piped(self) -> bool:
        """Whether it was read from standard input, which cannot be read again."""
        return self.name == STANDARD_INPUT


def read_source(word: str, records: BuildRecords) -> Source:
    """What a word names: ``-``, a file, else a build. Raises UsageError, NoSuchBuild."""
    if word == "-":
        return _source(STANDARD_INPUT, sys.stdin.buffer)
    path = Path(word)
    if word and os.path.lexists(path):
        return _of_file(path, word)
    if not word or "/" in word or path.suffix in {".log", ".txt"}:
        raise UsageError(
            f"there is no file {word or chr(39) * 2}", hint="cudabuild explain FILE, BUILD, or - for standard input"
        )
    try:
        record = records.find(word)
    except NoSuchBuild as error:
        raise NoSuchBuild(f"there is no file {word}, and no build {word} is recorded here", hint=error.hint) from error
    return _of_build(record)


def _of_build(record: BuildRecord) -> Source:
    path = Path(record.log) if record.log else None
    if path is None or not path.is_file():
        raise NoSuchBuild(f"the log of build {record.id} is gone", evidence=str(path or ""), hint="run the build again")
    read = _of_file(path, str(path))
    return Source(read.name, read.log, read.cut, record)


def _of_file(path: Path, name: str) -> Source:
    if path.is_dir():
        raise UsageError(f"{name} is a folder", hint=f"name the log in it: `ls -t {name}` shows the newest first")
    with _readable(name), path.open("rb") as file:
        return _source(name, file)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{name} cannot be read: {reason}", hint=f"ls -l {name} shows whose it is") from error


def _source(name: str, file: BinaryIO) -> Source:
    """Of more than :data:`LOG_TAIL` bytes the end; lines before it are counted: numbers are those of the file."""
    chunks: deque[bytes] = deque()
    held = dropped = 0
    mark = b""
    while chunk := file.read(_CHUNK):
        if not chunks and not dropped:
            _check_text(chunk, name)
            mark = chunk[:2]
        chunks.append(chunk)
        held += len(chunk)
        while held - len(chunks[0]) >= LOG_TAIL:
            gone = chunks.popleft()
            held -= len(gone)
            dropped += gone.count(b"\n")
    cut = dropped > 0
    return Source(name, read_log(_decoded(b"".join(chunks), mark), first=dropped + 1), cut)


def _check_text(head: bytes, name: str) -> None:
    for magic, way in _PACKED.items():
        if head.startswith(magic):
            raise UsageError(f"{name} is packed", hint=way.format(name=name))
    if b"\0" in head[:_HEAD] and head[:2] not in _WIDE:
        raise UsageError(f"{name} is no text", hint="cudabuild explain FILE, where FILE is what a build printed")


def _decoded(data: bytes, mark: bytes) -> str:
    """UTF-8, what is none of it escaped; UTF-16 (what PowerShell's ``>`` writes) by the mark that the file began with.
    Whole chunks were dropped, so that no character is cut."""
    if mark in _WIDE:
        return data.decode(_WIDE[mark], "replace").removeprefix("\ufeff")
    return data.decode("utf-8", "backslashreplace").removeprefix("\ufeff")
