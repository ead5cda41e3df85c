"""A cell's command on another machine: a process that ends with the worker that started it, however that ends."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from buildkit.matrix.executor import EndCause, cell_environment
from buildkit.matrix.local import read_answer
from buildkit.process import end_group, start_attended

PATIENCE = 30.0
"""Seconds that a command has for ending its build, which takes 2 at most, before it is killed."""
TAIL = 64 << 10
"""Bytes of what a command said that travel."""

Stopped = Literal["", "walltime", "cancelled"]


@dataclass(frozen=True)
class Done:
    """How a command ended. ``exit_code`` is None where a signal ended it; ``said`` the end of its progress."""

    exit_code: int | None
    answer: dict[str, Any] | None
    cause: EndCause
    said: str
    seconds: float


def build_command(words: Sequence[str]) -> list[str]:
    """What makes a cell, from a job's words."""
    return [sys.executable, "-m", "buildkit", *words, "--json"]


def end_cause(status: int | None, stopped: Stopped, *, killed_for_memory: bool = False) -> EndCause:
    """Why a command is over. ``status``: as Popen gives it, negative for a signal."""
    if stopped == "walltime":
        return "walltime"
    if status is not None and status >= 0:
        return "exited"
    return "memory" if killed_for_memory else "exited" if stopped == "cancelled" else "lost"


def tail(path: Path, size: int = TAIL) -> str:
    """The end of a file; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


@dataclass
class CellProcess:
    """A running command. ``folder`` takes ``answer.json`` and ``said.log``; ``cwd`` may be another machine's.

    Started and waited for by one and the same thread: the kernel takes the end of the thread for that of its parent.
    """

    command: Sequence[str]
    environ: Mapping[str, str]
    folder: Path
    cwd: Path
    _process: subprocess.Popen[bytes] = field(init=False)
    _stopped: Stopped = field(default="", init=False)
    _changed: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def log(self) -> Path:
        """What the command says."""
        return self.folder / "said.log"

    def start(self) -> CellProcess:
        """Start it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._started, self._kills = time.monotonic(), kernel_kills()
        cwd = self.cwd if self.cwd.is_dir() else self.folder
        self._process = start_attended(
            self.command,
            env=cell_environment(self.environ),
            cwd=cwd,
            stdout=self.folder / "answer.json",
            stderr=self.log,
        )
        return self

    def stop(self, why: Literal["walltime", "cancelled"]) -> None:
        """Have it end, from whatever thread."""
        with self._changed:
            if self._process.poll() is None:
                self._stopped = self._stopped or why
                self._process.send_signal(signal.SIGTERM)

    def wait(self, walltime: float | None = None) -> Done:
        """Wait for its end; after ``walltime`` seconds it is stopped."""
        left = None if walltime is None else max(0.0, walltime - (time.monotonic() - self._started))
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(left)
            if self._process.poll() is None:
                self.stop("walltime")
                self._killed_in_the_end()
        except BaseException:
            self.stop("cancelled")
            self._killed_in_the_end()
            raise
        status = self._process.returncode
        answer = read_answer(self.folder / "answer.json")
        cause = end_cause(status, self._stopped, killed_for_memory=status == -9 and kernel_kills() > self._kills)
        exit_code = status if status >= 0 else None
        return Done(exit_code, answer, cause, tail(self.log), time.monotonic() - self._started)

    def _killed_in_the_end(self) -> None:
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            end_group(self._process)


def kernel_kills(root: Path = Path("/")) -> int:
    """How often the kernel has killed for memory since it started, in whatever group (proc_vmstat's oom_kill)."""
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
