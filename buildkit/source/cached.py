"""The cache of fetched sources: ``CACHE/sources/KIND/NAME/``, each with a ``source.json``; put there by one rename."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buildkit.errors import DiskFull, ReadOnlyCache

RECORD = "source.json"
_STAGING = ".staging-"
_STALE_SECONDS = 24 * 3600.0


class SourceRecord(BaseModel):
    """What was found out about a fetched source, so that using it again reads nothing but this."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal[1] = Field(default=1, alias="schema")
    kind: Literal["sdist", "git", "folder"]
    name: str | None
    version: str | None
    filename: str | None = None
    sha256: str
    origin: str
    build_requires: tuple[str, ...]
    build_backend: str | None
    notes: tuple[str, ...] = ()


def read_record(folder: Path) -> SourceRecord | None:
    """The record in a cache folder; None where there is none or it does not parse (then it is fetched again)."""
    try:
        return SourceRecord.model_validate_json((folder / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def write_record(folder: Path, record: SourceRecord) -> None:
    """Write the record into a staging folder and make it durable."""
    with (folder / RECORD).open("w", encoding="utf-8") as file:
        file.write(record.model_dump_json(by_alias=True, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """A new folder beside the final places; removed at the end unless :func:`publish` moved it away."""
    with cache_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(parent)
        folder = Path(tempfile.mkdtemp(prefix=_STAGING, dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, place: Path) -> None:
    """Move a staging folder to its place. Another process may have been faster: then its result stands."""
    with contextlib.suppress(FileNotFoundError):
        folder.chmod(0o755)
    try:
        folder.rename(place)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        return
    handle = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def discard(place: Path) -> None:
    """Take a damaged entry out of the way; its name is free as soon as this returns."""
    with cache_errors(place.parent), staging(place.parent) as aside:
        place.rename(aside / "damaged")


@contextlib.contextmanager
def cache_errors(place: Path) -> Iterator[None]:
    """Turn the system's refusals to write below ``place`` into causes that a person can act on."""
    try:
        yield
    except OSError as error:
        elsewhere = error.filename is not None and not _is_below(error, place)
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise DiskFull(
                f"no space left for the cache at {place}",
                evidence=str(error),
                hint="free some space, or set CUDABUILD_CACHE to a folder on another disk",
            ) from error
        if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM} and not elsewhere:
            raise ReadOnlyCache(
                f"the cache at {place} cannot be written",
                evidence=str(error),
                hint="set CUDABUILD_CACHE to a folder that you may write to",
            ) from error
        raise


def _is_below(error: OSError, place: Path) -> bool:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))]
    return any(Path(name).is_relative_to(place) or place.is_relative_to(name) for name in names)


def _remove_stale(parent: Path) -> None:
    """What a killed process left behind."""
    for folder in parent.glob(f"{_STAGING}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
