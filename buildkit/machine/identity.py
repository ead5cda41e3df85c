"""What a file holds, and a memory of what was once found out about it.

What was computed from a file (a hash, a version) is remembered under its identity, so that nothing is hashed
or asked twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from buildkit.file_identity import SETTLED_NS, FileIdentity, identity_of
from buildkit.machine import witness

_CHANGE_TIME = 2
_BLOCK = 1 << 20


def file_identity(path: str | os.PathLike[str]) -> FileIdentity:
    """The identity of the file that ``path`` leads to, told to the watch; OSError if there is none."""
    witness.look(path)
    return identity_of(path)


def identity_or_none(path: str | os.PathLike[str]) -> FileIdentity | None:
    """As :func:`file_identity`, None where there is no such file."""
    try:
        return file_identity(path)
    except OSError:
        return None


class MemoEntry(BaseModel):
    """One remembered answer, as it lies on disk."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: int = Field(default=1, alias="schema", ge=1, le=1)
    kind: str
    key: str
    identity: str
    value: JsonValue


class Memo:
    """Remembers JSON values by kind, key and identity: one small file each, written atomically.

    ``Memo(None)`` remembers nothing. A corrupt, unreadable or unwritable memo is never an error: what
    it would have told is found out again.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def _file(self, kind: str, key: str) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / kind / f"{hashlib.sha256(os.fsencode(key)).hexdigest()[:32]}.json"

    def get(self, kind: str, key: str, identity: object) -> JsonValue:
        """The value put under this kind and key while the identity was the same, else None."""
        file = self._file(kind, key)
        if file is None:
            return None
        try:
            entry = MemoEntry.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            return None
        same = entry.kind == kind and entry.key == printable(key) and entry.identity == repr(identity)
        return entry.value if same else None

    def put(self, kind: str, key: str, identity: object, value: JsonValue) -> None:
        """Remember the value; ``identity`` is any value whose ``repr`` is stable (nested tuples of numbers, texts)."""
        file = self._file(kind, key)
        if file is None:
            return
        entry = MemoEntry(kind=kind, key=printable(key), identity=repr(identity), value=value)
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, entry.model_dump_json(by_alias=True).encode())


def printable(key: str) -> str:
    """The text without lone surrogates (a path's undecodable bytes), which JSON cannot hold."""
    return os.fsencode(key).decode("utf-8", "backslashreplace")


def write_atomically(file: Path, data: bytes) -> None:
    """Write a temporary file beside ``file``, then rename it: readers see the old bytes or the new ones."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with fresh.open("xb") as stream:
            stream.write(data)
        fresh.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def is_settled(identities: Iterable[FileIdentity | None]) -> bool:
    """Whether all files changed last long enough ago for their identity to stand for their content."""
    newest = max((identity[_CHANGE_TIME] for identity in identities if identity is not None), default=0)
    return time.time_ns() - newest > SETTLED_NS


def hash_file(path: Path) -> str:
    """SHA-256 of the file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def content_sha256(path: Path, memo: Memo) -> str:
    """SHA-256 of the file's bytes, remembered by the file's identity. OSError if it cannot be read."""
    key = str(path.absolute())
    identity = file_identity(path)
    known = memo.get("sha256", key, identity)
    if isinstance(known, str):
        return known
    digest = hash_file(path)
    if is_settled([identity]) and file_identity(path) == identity:
        memo.put("sha256", key, identity, digest)
    return digest


def combined_sha256(files: Mapping[str, Path], memo: Memo, *, key: str) -> str:
    """One SHA-256 over the names and contents of many files (a missing one counts as missing).

    Remembered under ``key`` by the identities of all, so that asking again costs one ``stat`` per file.
    """
    identity = tuple((name, str(path), identity_or_none(path)) for name, path in sorted(files.items()))
    known = memo.get("combined-sha256", key, identity)
    if isinstance(known, str):
        return known
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        content = content_sha256(path, memo) if path.is_file() else "missing"
        digest.update(f"{name}\0{content}\n".encode())
    if is_settled(found for _name, _path, found in identity):
        memo.put("combined-sha256", key, identity, digest.hexdigest())
    return digest.hexdigest()
