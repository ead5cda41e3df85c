"""Where the cells of a matrix run, as a small protocol: this machine, Slurm, Dask.

A job is one `cudabuild build`, run as a process: it has a guard of its own, shares the broker of the user it runs
as, is idempotent by its key and goes on by itself where one that was ended stopped. So an executor neither looks at
what it runs nor tries anything again: it says what began and how it ended, and the run decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

EndCause = Literal["exited", "lost", "walltime", "memory"]
"""Why a job is over: its command ended; the worker or node went away; its time was up; its node ended it for
memory."""


@dataclass(frozen=True)
class Need:
    """What a job takes."""

    memory: int
    """Bytes: what it will hold at most, as far as history tells."""
    cpus: int
    gpu: str | None
    """None: no GPU; empty: any; else a type, as the cluster names it."""
    seconds: float
    """How long it will probably take."""
    walltime: float
    """Seconds after which it may be ended: the cell's timeout with room for what comes before and after."""
    platform: str = ""
    """Of the machine that is to run it (``linux_x86_64``); empty: as this one."""


@dataclass(frozen=True)
class Job:
    """One try of a cell. ``words``: those of `cudabuild build`, without ``--json`` and ``--out``."""

    cell: str
    attempt: int
    words: tuple[str, ...]
    need: Need


@dataclass(frozen=True)
class Began:
    """A job runs now; ``where``: on which machine, for people."""

    cell: str
    attempt: int
    where: str


@dataclass(frozen=True)
class Ended:
    """A job is over.

    ``exit_code`` and ``answer`` (the object of `cudabuild build --json`) are None where the command could not give
    them. ``log``: the file with what the command said, where this machine can read it.
    """

    cell: str
    attempt: int
    where: str
    exit_code: int | None
    answer: dict[str, Any] | None
    log: Path | None
    cause: EndCause


class Executor(Protocol):
    """Runs jobs. ``slots``: how many at a time; one that is full is given no more."""

    slots: int

    def start(self, job: Job) -> None:
        """Have the job run, now or when its turn comes. Raises CudabuildError where it cannot."""

    def wait(self, seconds: float) -> Sequence[Began | Ended]:
        """What has happened since the last call, in order; returns early when something does, else after ``seconds``.

        A signal (Ctrl-C) that comes while it waits is raised here.
        """

    def cancel(self, cell: str) -> None:
        """End the job of this cell, if it has one; its :class:`Ended` still comes."""

    def close(self) -> None:
        """End all it started, and everything that those started."""


def cell_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a cell's command is given: a person's environment, but for the server that may be set in it or in the
    configuration file. The executor has chosen where the cell is built."""
    return {**environ, "CUDABUILD_SERVER": ""}
