"""What is kept of runs: ``CACHE/matrix/RUN.json``, replaced in one step after each event; logs in ``RUN/``."""

from __future__ import annotations

import contextlib
import platform
import secrets
import shutil
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from pydantic import ValidationError

from buildkit.build.running import SILENCE, runs_here
from buildkit.errors import NoSuchBuild
from buildkit.matrix.results import RunObject
from buildkit.store.disk import disk_causes, make_folder, new_file, write_all
from buildkit.store.locks import file_lock
from buildkit.store.model import is_name

KEPT = 30
"""Runs whose documents and logs are kept, besides the one that is being written."""


class Runs:
    """The runs in a folder. Raises StoreError's family."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def new_id() -> str:
        """An id like ``20261122-3f2a91`` (UTC date)."""
        return f"{datetime.now(timezone.utc):%Y%m%d}-{secrets.token_hex(3)}"

    @contextlib.contextmanager
    def choosing(self) -> Iterator[None]:
        """While it is held no other command begins a run: who has looked what runs writes its own document first."""
        with file_lock(self.folder / "choosing.lock"):
            yield

    def logs(self, run: str) -> Path:
        """Where a run's answers and logs lie."""
        return self.folder / run

    def write(self, state: RunObject) -> None:
        """Write or replace a run's document, in one step."""
        with disk_causes(self.folder):
            make_folder(self.folder)
            with new_file(self._path(state.run), self.folder) as descriptor:
                write_all(descriptor, state.model_dump_json(by_alias=True, indent=1).encode() + b"\n")

    def touch(self, run: str) -> None:
        """Say that it still runs, to whoever looks from another machine."""
        with contextlib.suppress(OSError):
            self._path(run).touch()

    def newest_first(self) -> Iterator[RunObject]:
        """Every run that can be read, read one by one."""
        found = [path for path in self.folder.glob("*.json") if is_name(path.stem)]
        for path in sorted(found, key=_written, reverse=True):
            if (state := _read(path)) is not None:
                yield state

    def find(self, text: str) -> RunObject:
        """The newest run, or the one of this id or its beginning. Raises NoSuchBuild."""
        for state in self.newest_first():
            if text == "last" or state.run.startswith(text):
                return state
        raise NoSuchBuild(
            "no matrix was run here" if text == "last" else f"no run {text} of a matrix is recorded here",
            hint="cudabuild matrix run" if text == "last" else "cudabuild matrix status",
        )

    def newest_of(self, file: str) -> RunObject | None:
        """The newest run of this file."""
        return next((state for state in self.newest_first() if state.file == file), None)

    def is_alive(self, state: RunObject) -> bool:
        """Whether a run is at work; one on another machine is believed while it gives a sign now and then."""
        if state.status != "running" or state.process is None:
            return False
        if state.process.host == platform.node():
            return runs_here(state.process)
        return time.time() - _written(self._path(state.run)) < SILENCE

    def clear(self, keep: str) -> None:
        """Remove the oldest runs beyond those that are kept; ``keep``: one that is not counted."""
        ended = [state for state in self.newest_first() if state.run != keep and not self.is_alive(state)]
        for state in ended[KEPT:]:
            shutil.rmtree(self.logs(state.run), ignore_errors=True)
            with contextlib.suppress(OSError):
                self._path(state.run).unlink()

    def _path(self, run: str) -> Path:
        return self.folder / f"{run}.json"


def _written(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _read(path: Path) -> RunObject | None:
    with contextlib.suppress(OSError, ValidationError):
        return RunObject.model_validate_json(path.read_bytes())
    return None
