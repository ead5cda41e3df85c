"""Write a wheel so that the same contents give the same bytes.

Members are sorted (dist-info last, as the format recommends, RECORD as the very last), carry one fixed time
and one of two modes, and are deflated at zlib's default level. What remains is zlib's own version.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold
_CHUNK = 1 << 20
_UNIX = 3


@dataclass(frozen=True)
class Content:
    """A member to write: its bytes, or the member of the source archive that they are copied from."""

    data: bytes | None = None
    member: str | None = None
    executable: bool = False


def write_wheel(path: Path, contents: Mapping[str, Content], dist_info: str, source: ZipFile) -> None:
    """Write a wheel of these members, with a RECORD made for them, to ``path``: whole or not at all.

    ``contents`` must hold no RECORD. Raises OSError as writing does (the disk is full, the folder read-only).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "w+b") as stream:
            with ZipFile(stream, "w", ZIP_DEFLATED) as archive:
                _write_members(archive, contents, dist_info, source)
            stream.flush()
            os.fsync(stream.fileno())
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def order(names: Mapping[str, Content], dist_info: str) -> list[str]:
    """The members in the order they are written: dist-info's after all others, each group sorted."""
    return sorted(names, key=lambda name: (name.startswith(f"{dist_info}/"), name))


def _write_members(archive: ZipFile, contents: Mapping[str, Content], dist_info: str, source: ZipFile) -> None:
    rows: list[tuple[str, str, str]] = []
    for name in order(contents, dist_info):
        digest, size = _write_member(archive, name, contents[name], source)
        rows.append((name, digest, str(size)))
    record = f"{dist_info}/RECORD"
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([*rows, (record, "", "")])
    _write_member(archive, record, Content(table.getvalue().encode("utf-8")), source)


def _write_member(archive: ZipFile, name: str, content: Content, source: ZipFile) -> tuple[str, int]:
    """Write one member; return its hash as RECORD has it, and its size in bytes."""
    info = ZipInfo(name, _TIME)
    info.create_system = _UNIX
    info.external_attr = (stat.S_IFREG | (0o755 if content.executable else 0o644)) << 16
    info.compress_type = ZIP_DEFLATED
    digest = hashlib.sha256()
    with _reader(content, source, info) as reader, archive.open(info, "w") as sink:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            sink.write(chunk)
    encoded = base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")
    return f"sha256={encoded}", info.file_size


def _reader(content: Content, source: ZipFile, info: ZipInfo) -> IO[bytes]:
    """A stream over the member's bytes; its size goes into ``info``, which decides on 64-bit size fields."""
    if content.member is None:
        data = content.data or b""
        info.file_size = len(data)
        return io.BytesIO(data)
    info.file_size = source.getinfo(content.member).file_size
    return source.open(content.member)
