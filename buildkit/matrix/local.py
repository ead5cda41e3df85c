"""Cells on this machine: each a process of its own, all under the user's one broker."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.matrix.executor import Began, Ended, Job, cell_environment
from buildkit.process import end_group, start_attended

PATIENCE = 25.0
"""Seconds for a build to end everything of its own after SIGTERM; its supervisor gives up after 10."""
MOST_SLOTS = 8


def usual_slots(cpus: int) -> int:
    """Cells at a time where nobody said: the broker admits their compilations, so that more only fill each other's
    pauses (fetching, linking, proving)."""
    return max(2, min(MOST_SLOTS, cpus // 4))


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    descriptor: int
    answer: Path
    log: Path


class LocalExecutor:
    """Runs `python -m buildkit build` for each job. ``folder``: where answers and logs are put."""

    def __init__(self, slots: int, folder: Path, environ: Mapping[str, str], cwd: Path) -> None:
        self.slots = slots
        self._folder = folder
        self._environ = cell_environment(environ)
        self._cwd = cwd
        self._where = platform.node()
        self._running: dict[str, _Running] = {}
        self._news: list[Began | Ended] = []

    def start(self, job: Job) -> None:
        """Start it now. Raises ProgramFailed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        answer, log = (self._folder / f"{job.cell}.{job.attempt}.{ending}" for ending in ("json", "log"))
        command = [sys.executable, "-m", "buildkit", *job.words, "--json"]
        process = start_attended(command, env=self._environ, cwd=self._cwd, stdout=answer, stderr=log)
        self._running[job.cell] = _Running(job, process, os.pidfd_open(process.pid), answer, log)
        self._news.append(Began(job.cell, job.attempt, self._where))

    def wait(self, seconds: float) -> Sequence[Began | Ended]:
        """What has happened."""
        if not self._news and self._running:
            self._look(seconds)
        elif not self._running and not self._news:
            time.sleep(seconds)  # a cell waits for its next try
        else:
            self._look(0.0)
        news, self._news = self._news, []
        return news

    def cancel(self, cell: str) -> None:
        """SIGTERM, upon which the build ends everything."""
        running = self._running.get(cell)
        if running is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(running.descriptor, signal.SIGTERM)

    def close(self) -> None:
        """The same for all; SIGKILL for a command that hangs: its supervisor ends the rest then."""
        try:
            for cell in list(self._running):
                self.cancel(cell)
            deadline = time.monotonic() + PATIENCE
            while self._running and time.monotonic() < deadline:
                self._look(deadline - time.monotonic())
        finally:
            for running in self._running.values():
                end_group(running.process)
                os.close(running.descriptor)
            self._running.clear()

    def _look(self, seconds: float) -> None:
        by_descriptor = {running.descriptor: running for running in self._running.values()}
        ready, _, _ = select.select(list(by_descriptor), [], [], max(0.0, seconds))
        for descriptor in ready:
            self._ended(by_descriptor[descriptor])

    def _ended(self, running: _Running) -> None:
        job, code = running.job, running.process.wait()
        os.close(running.descriptor)
        del self._running[job.cell]
        answer = read_answer(running.answer)
        self._news.append(Ended(job.cell, job.attempt, self._where, code, answer, running.log, "exited"))


def read_answer(path: Path) -> dict[str, Any] | None:
    """The object that a command has printed; None where it did not come to that."""
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(path.read_text(encoding="utf-8"))
        return value if isinstance(value, dict) else None
    return None
