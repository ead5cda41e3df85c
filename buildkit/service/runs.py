"""Builds as processes of their own, which outlive the server, and are found again by what they leave on the disk.

A build makes its answer's file, which only one process can, and holds a lock on it while it lives
(`buildkit.cli.as_build`). So a build is begun once however often it is started, and whoever gets the lock knows that
it has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from buildkit.build.running import cancel
from buildkit.errors import CannotCancel, NoSuchBuild
from buildkit.store.builds import BuildRecord, BuildRecords
from buildkit.store.disk import disk_causes

State = Literal["absent", "running", "ended"]
LARGEST = 64 << 20
"""Bytes of an answer that is read."""


@dataclass(frozen=True)
class Outcome:
    """How a build ended: its answer, its record's status, or neither where it was killed."""

    answer: dict[str, Any] | None
    status: str | None
    exit_code: int | None = None


class Runs:
    """The builds of a cache. ``logs`` is the cache's folder of logs and answers."""

    def __init__(self, logs: Path, records: BuildRecords) -> None:
        self.logs, self.records = logs, records
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def log(self, build: str) -> Path:
        """Where its log lies."""
        return self.logs / f"{build}.log"

    def _answer(self, build: str) -> Path:
        return self.logs / f"{build}.json"

    def start(self, build: str, words: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a build in a session of its own; harmless where it was started before. Raises OSError."""
        with disk_causes(self.logs):
            self.logs.mkdir(parents=True, exist_ok=True)
        with self.log(build).open("ab") as log:  # what it says before it has opened its log itself
            self._children[build] = subprocess.Popen(
                list(words),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def is_starting(self, build: str) -> bool:
        """Whether a process that was started here for it is alive."""
        child = self._children.get(build)
        return child is not None and child.poll() is None

    def state(self, build: str) -> State:
        """Whether it was begun, by whomever, and runs."""
        child = self._children.get(build)
        if child is not None and child.poll() is not None:  # which also reaps it
            del self._children[build]
        try:
            descriptor = os.open(self._answer(build), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return "absent"
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return "running"
        finally:
            os.close(descriptor)
        return "ended"

    def forestall(self, build: str) -> bool:
        """See to it that a build that was not begun never will be. False: it was begun."""
        with disk_causes(self.logs):
            self.logs.mkdir(parents=True, exist_ok=True)
            try:
                os.close(os.open(self._answer(build), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
            except FileExistsError:
                return False
        return True

    def outcome(self, build: str) -> Outcome:
        """What an ended build has left."""
        record = self.record(build)
        answer: dict[str, Any] | None = None
        with contextlib.suppress(OSError, ValueError):
            if self._answer(build).stat().st_size <= LARGEST:
                value = json.loads(self._answer(build).read_text(encoding="utf-8"))
                answer = value if isinstance(value, dict) and "recipe" in value else None
        return Outcome(answer, record.status if record else None, record.exit_code if record else None)

    def record(self, build: str) -> BuildRecord | None:
        """Its record, if it has one."""
        return self.records.read_if_any(build)

    def end(self, build: str) -> None:
        """End a running build as ``cudabuild cancel`` does; returns when nothing of it is left. Raises StoreError."""
        with contextlib.suppress(CannotCancel, NoSuchBuild):  # it ended meanwhile, or has not begun
            cancel(self.records, build)
