"""What was built when: one small file a build, so that ``cudabuild log last`` finds its log."""

from __future__ import annotations

import contextlib
import difflib
import os
import secrets
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buildkit.errors import NoSuchBuild
from buildkit.store.disk import check_folder, disk_causes, make_folder, new_file, write_all
from buildkit.store.model import Moment, Name, is_name
from buildkit.store.traces import Traces

Status = Literal["running", "succeeded", "failed", "cancelled"]


class BuildProcess(BaseModel):
    """The process that runs a build: its number, its start (clock ticks since boot), which boot of which host."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    pid: int
    start: int
    boot: str
    host: str


class BuildRecord(BaseModel):
    """One build. ``log`` is the path of its log, ``error`` the kind of what ended it, with its ``exit_code``."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)

    schema_: Literal[1] = Field(1, alias="schema")
    id: Name
    key: Name | None = None
    recipe: str
    started: Moment
    finished: Moment | None = None
    status: Status
    log: str | None = None
    error: str | None = None
    exit_code: int | None = None
    process: BuildProcess | None = None


class BuildRecords:
    """The records in ``root/builds``. Raises StoreError's family."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "builds"

    def new_id(self) -> str:
        """A build id like ``20261121-3f2a`` (UTC date), reserved so that no other process gets it.

        On a read-only cache nothing can be reserved: the id is longer instead, so that it is unique all the same.
        """
        day = datetime.now(timezone.utc).strftime("%Y%m%d")
        with contextlib.suppress(OSError):
            make_folder(self.folder)
            for digits in (2, 2, 2, 3, 3, 4, 6, 8):
                name = f"{day}-{secrets.token_hex(digits)}"
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(self._path(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                    return name
        return f"{day}-{secrets.token_hex(8)}"

    def write(self, record: BuildRecord) -> None:
        """Write or replace a record, in one step."""
        with disk_causes(self.folder):
            make_folder(self.folder)
            with new_file(self._path(record.id), self.folder) as descriptor:
                write_all(descriptor, record.model_dump_json(by_alias=True, indent=1).encode() + b"\n")

    def newest_first(self) -> list[BuildRecord]:
        """Every record. Reserved ids without a record and damaged files are left out."""
        with disk_causes(self.folder):
            check_folder(self.folder)
            found = [self._read(path) for path in self.folder.glob("*.json") if is_name(path.stem)]
        return sorted((record for record in found if record), key=lambda r: (r.started, r.id), reverse=True)

    def read(self, identifier: str) -> BuildRecord:
        """The record of this very id. Raises NoSuchBuild."""
        record = self.read_if_any(identifier)
        if record is None:
            raise NoSuchBuild(f"no build {identifier} is recorded here")
        return record

    def read_if_any(self, identifier: str) -> BuildRecord | None:
        """The same; None where there is none."""
        with disk_causes(self.folder):
            return self._read(self._path(identifier)) if is_name(identifier) else None

    def last_sign(self, record: BuildRecord) -> float:
        """When the record, the build's trace or its log was written last, in seconds since the epoch; 0.0: never."""
        places = [self._path(record.id), Traces(self.folder.parent).path(record.id)]
        places += [Path(record.log)] if record.log else []
        found = [0.0]
        for place in places:
            with contextlib.suppress(OSError):
                found.append(place.stat().st_mtime)
        return max(found)

    def find(self, text: str) -> BuildRecord:
        """The newest build meant by ``last``, an id or its beginning, the beginning of a key, or a recipe's name."""
        every = self.newest_first()
        if found := self.matching(text, every):
            return found[0]
        near = difflib.get_close_matches(text, {name for record in every for name in (record.id, record.recipe)})
        hint = f"did you mean {' or '.join(near)}?" if near else "name a build's id, the beginning of a key, or `last`"
        raise NoSuchBuild(f"no build {text} is recorded here", hint=hint)

    @staticmethod
    def matching(text: str, every: Sequence[BuildRecord]) -> list[BuildRecord]:
        """Those of ``every`` (newest first) that :meth:`find` would choose from; one for ``last`` and for an id."""
        groups = (
            list(every[:1]) if text == "last" else [],
            [record for record in every if record.id == text],
            [record for record in every if record.recipe == text],
            [
                record
                for record in every
                if text and (record.id.startswith(text) or (record.key or "").startswith(text))
            ],
        )
        return next((group for group in groups if group), [])

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    @staticmethod
    def _read(path: Path) -> BuildRecord | None:
        with contextlib.suppress(FileNotFoundError, ValidationError):
            return BuildRecord.model_validate_json(path.read_bytes())
        return None
