"""The learned profile on disk: one JSON file a package, written whole, synced and renamed.

What cannot be read is set aside and counts as nothing: a profile only makes builds faster. Several machines may share
the folder; the last one to write a package's file wins, and each file is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildkit.guard.profile import PackageProfile, Record

SCHEMA = 1
MOST_RECORDS = 4000
"""Of one package; the longest unseen go first."""
_OLD = 3600.0  # seconds
_FIELDS: Mapping[str, type] = {
    "key": str, "toolkit": str, "name": str, "kind": str, "bound": int, "peak": int,
    "seconds": float, "seen": int, "kills": int, "build": int,
    "order": int,
}  # fmt: skip


class ProfileFolder:
    """The profiles of one cache, read once; with no folder they last as long as this object."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.packages = _read_all(folder) if folder else {}

    def package(self, name: str) -> PackageProfile:
        """The profile of a package, an empty one if there is none; changes to it are kept once they are saved."""
        return self.packages.setdefault(name, PackageProfile())

    def snapshot(self, name: str) -> tuple[Path, bytes] | None:
        """What :func:`write_durably` needs to keep a package's profile; None where there is no folder."""
        return (self.folder / file_name(name), encode_profile(name, self.package(name))) if self.folder else None


def file_name(package: str) -> str:
    """A file for any name that a package may have."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", package.lower())[:60].strip("-.") or "package"
    return f"{plain}-{zlib.crc32(package.encode('utf-8', 'surrogateescape')):08x}.json"


def encode_profile(name: str, profile: PackageProfile) -> bytes:
    """The file of one package."""
    newest = sorted(profile.records.items(), key=lambda item: item[1].build, reverse=True)[:MOST_RECORDS]
    units = [{"key": key, "toolkit": toolkit, **vars(record)} for (key, toolkit), record in newest]
    whole = {"schema": SCHEMA, "package": name, "builds": profile.builds, "units": units}
    return json.dumps(whole, separators=(",", ":")).encode()


def decode_profile(data: bytes) -> tuple[str, PackageProfile]:
    """Raises ValueError for what is not such a file, or one of another schema."""
    whole = json.loads(data)
    if not isinstance(whole, dict) or set(whole) != {"schema", "package", "builds", "units"}:
        raise ValueError("not a profile")
    if whole["schema"] != SCHEMA or not isinstance(whole["package"], str) or not _count(whole["builds"]):
        raise ValueError(f"a profile of schema {whole['schema']!r}, this program reads {SCHEMA}")
    if not isinstance(whole["units"], list):
        raise ValueError("no list of units")
    records = dict(_record(unit) for unit in whole["units"])
    return whole["package"], PackageProfile(whole["builds"], records)


def _record(unit: Any) -> tuple[tuple[str, str], Record]:
    if not isinstance(unit, dict) or set(unit) != set(_FIELDS):
        raise ValueError("a unit with other fields")
    for name, kind in _FIELDS.items():
        right = _number(unit[name]) if kind is float else _count(unit[name]) if kind is int else True
        if not right or (kind is str and not isinstance(unit[name], str)):
            raise ValueError(f"{name} of a unit is {unit[name]!r}")
    values = {name: value for name, value in unit.items() if name not in {"key", "toolkit"}}
    return (unit["key"], unit["toolkit"]), Record(**values)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9


def _read_all(folder: Path) -> dict[str, PackageProfile]:
    found: dict[str, PackageProfile] = {}
    with contextlib.suppress(OSError):
        for draft in folder.glob(".*.tmp"):  # of a writer that was killed
            if time.time() - draft.stat().st_mtime > _OLD:
                draft.unlink()
        for file in sorted(folder.glob("*.json")):
            try:
                name, profile = decode_profile(file.read_bytes())
            except ValueError:
                file.replace(file.with_suffix(".unreadable"))
                continue
            found[name] = profile
    return found


def write_durably(file: Path, data: bytes) -> None:
    """Put the whole file in place; after a power cut it is the old one or the new one. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    descriptor = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
