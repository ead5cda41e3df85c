"""RECORD of an installed package against the files that are there.

Installers list byte code, RECORD itself and their own notes without a hash: nothing is expected of those.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_CHUNK = 1 << 20
_BARE = frozenset({"RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED", "direct_url.json"})


@dataclass(frozen=True)
class RecordCheck:
    """What is not as RECORD says: paths as they stand in it. ``absent`` says why there is nothing to compare with.

    ``present`` counts the files that are there, the metadata's own left out.
    """

    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unhashed: tuple[str, ...] = ()
    present: int = 0
    absent: str = ""


@dataclass(frozen=True)
class Row:
    """One line of RECORD: path, ``sha256=...`` or nothing, bytes or nothing."""

    path: str
    digest: str
    size: str


def read_rows(text: str) -> tuple[Row, ...]:
    """RECORD's lines; rows that are not three cells long are kept as far as they go."""
    rows = (row for row in csv.reader(io.StringIO(text)) if row and row[0])
    return tuple(Row(*(*row, "", "")[:3]) for row in rows)


def check_installed_record(rows: Iterable[Row], folder: Path, dist_info: str) -> RecordCheck:
    """Compare each row with the file below ``folder`` (the one that holds ``dist_info``)."""
    missing: list[str] = []
    changed: list[str] = []
    unhashed: list[str] = []
    present = 0
    for row in _that_count(rows):
        path = folder / row.path
        own = PurePosixPath(row.path).parts[0] != dist_info
        if not path.is_file():
            missing.append(row.path)
            continue
        present += own
        if not row.digest:
            if not (PurePosixPath(row.path).name in _BARE and not own):
                unhashed.append(row.path)
        elif not _is_as_said(path, row):
            changed.append(row.path)
    return RecordCheck(tuple(missing), tuple(changed), tuple(unhashed), present)


def _that_count(rows: Iterable[Row]) -> Iterator[Row]:
    """Byte code comes and goes."""
    return (row for row in rows if not row.path.endswith((".pyc", ".pyo")))


def _is_as_said(path: Path, row: Row) -> bool:
    if row.size and row.size != str(path.stat().st_size):
        return False
    algorithm, _, said = row.digest.partition("=")
    if algorithm not in hashlib.algorithms_guaranteed or algorithm.startswith("shake"):
        return True  # nobody can tell
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=") == said.rstrip("=")
