"""A cell as a Dask task: what runs on the worker, and what travels back. Imports nothing of Dask."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildkit.errors import CudabuildError
from buildkit.matrix.executor import EndCause
from buildkit.matrix.worker_delivery import Delivery, failure
from buildkit.matrix.worker_process import CellProcess, Done, build_command

TOPIC = "cudabuild-cells"
"""Of Dask's events: which cell began where."""


@dataclass(frozen=True)
class CellDone:
    """What a task returns: how its command ended, as Ended says it, and the end of what it said."""

    cell: str
    where: str
    exit_code: int | None
    answer: dict[str, Any] | None
    cause: EndCause
    said: str
    seconds: float


@dataclass(frozen=True)
class Task:
    """What travels to the worker. ``words``: a job's; ``walltime`` in seconds; ``cwd`` where the worker has it."""

    cell: str
    words: tuple[str, ...]
    walltime: float
    cwd: str


def key_of(task: Task) -> str:
    """A task's key: the same for the same cell with the same words."""
    digest = hashlib.sha256("\0".join(task.words).encode()).hexdigest()[:12]
    return f"cudabuild-{task.cell}-{digest}"


@dataclass
class Cells:
    """The cells that run in this worker. ``environ``: the person's own, which Dask has added nothing to."""

    folder: Path
    cache: Path
    environ: Mapping[str, str]
    delivery: Delivery
    _running: dict[str, CellProcess] = field(default_factory=dict, init=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)
    _closed: bool = field(default=False, init=False)

    def run(self, task: Task, *, where: str, began: Callable[[], None]) -> CellDone:
        """Run one to its end and deliver its wheel, in the thread that Dask has given it."""
        folder = self.folder / f"{task.cell}-{os.getpid()}-{time.monotonic_ns()}"
        process = CellProcess(build_command(task.words), self.environ, folder, Path(task.cwd))
        with self._changed:
            if self._closed:
                return CellDone(task.cell, where, None, None, "lost", "", 0.0)
            process.start()
            self._running[task.cell] = process
        try:
            began()
            done = process.wait(task.walltime)
            return self._delivered(task, done, where)
        finally:
            with self._changed:
                self._running.pop(task.cell, None)
                self._changed.notify_all()
            shutil.rmtree(folder, ignore_errors=True)

    def stop(self, cell: str) -> bool:
        """Have a cell end. False where it does not run here."""
        with self._changed:
            process = self._running.get(cell)
        if process is not None:
            process.stop("cancelled")
        return process is not None

    def close(self, linger: float = 0.0) -> None:
        """Let those that run come to their end for ``linger`` seconds, then end them; no other begins."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._running, linger)
            left = list(self._running.values())
        for process in left:
            process.stop("cancelled")

    def _delivered(self, task: Task, done: Done, where: str) -> CellDone:
        exit_code, answer = done.exit_code, done.answer
        if exit_code == 0 and answer is not None:
            try:
                self.delivery.deliver(answer, self.cache, self.environ)
            except (CudabuildError, OSError) as error:
                exit_code, answer = failure(error, answer)
        return CellDone(task.cell, where, exit_code, answer, done.cause, done.said, done.seconds)
