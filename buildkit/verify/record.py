"""RECORD of a wheel: the list of its members with hash and size, which has to tell the truth."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Iterable
from zipfile import ZipFile, ZipInfo

from buildkit.verify.zip_structure import DIRECTORY_LIMIT, read_whole, unsafe

SIGNATURES = ("RECORD.jws", "RECORD.p7s")
"""Signatures of RECORD, which RECORD itself cannot list with a hash."""
_CHUNK = 1 << 20
_HASHES = ("sha256", "sha384", "sha512")


def check_record(
    archive: ZipFile, members: Iterable[ZipInfo], dist_info: str, wheel: str
) -> dict[str, tuple[str, int]]:
    """RECORD names every member with its hash and size, and nothing else; returns what it says of each.

    ``wheel`` is the file name for messages. Raises :class:`UnsafeWheel`, which names the member.
    """
    record_name = f"{dist_info}/RECORD"
    rows = _record_rows(archive, record_name, wheel)
    present = {info.filename: info for info in members}
    bare = {record_name, *(f"{dist_info}/{name}" for name in SIGNATURES)}
    for name in sorted(rows.keys() ^ present.keys()):
        if name in bare and name in present:
            continue
        raise unsafe(wheel, name, "is in RECORD but not there" if name in rows else "is not in RECORD")
    record: dict[str, tuple[str, int]] = {}
    for name, info in present.items():
        if name in bare:
            continue
        digest, size = rows[name]
        algorithm = digest.partition("=")[0]
        if algorithm not in _HASHES:
            raise unsafe(wheel, name, "has no sha256 (or stronger) hash in RECORD")
        if size != str(info.file_size) or digest.rstrip("=") != _member_digest(archive, info, algorithm):
            raise unsafe(wheel, name, "is not what RECORD says")
        record[name] = (digest, info.file_size)
    return record


def _record_rows(archive: ZipFile, record_name: str, wheel: str) -> dict[str, tuple[str, str]]:
    try:
        text = read_whole(archive, record_name, wheel, DIRECTORY_LIMIT).decode("utf-8")
    except KeyError as error:
        raise unsafe(wheel, record_name, "is missing") from error
    rows: dict[str, tuple[str, str]] = {}
    for row in csv.reader(io.StringIO(text)):
        if not row:
            continue
        if len(row) != 3 or row[0] in rows:
            raise unsafe(wheel, record_name, f"has a row that is wrong or there twice: {row!r}")
        rows[row[0]] = (row[1], row[2])
    return rows


def _member_digest(archive: ZipFile, info: ZipInfo, algorithm: str) -> str:
    """``sha256=...`` of one member, as RECORD writes it: URL-safe base64 without padding."""
    digest = hashlib.new(algorithm)
    with archive.open(info) as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
    return f"{algorithm}={base64.urlsafe_b64encode(digest.digest()).decode().rstrip('=')}"
