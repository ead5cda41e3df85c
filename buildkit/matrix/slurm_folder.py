"""The folder of one Slurm job, which the login node and a compute node share: plain files, each renamed into place.

job.json   written before it is submitted: what to run
id         the job's number, once Slurm has given it
answer.json, said.log, slurm.log   what the command and the node said
store/     the wheel, where the node's cache is its own
done.json  how it ended: the last thing the node writes
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from buildkit.matrix.executor import EndCause

JOB, DONE, NUMBER = "job.json", "done.json", "id"


class SlurmJob(BaseModel):
    """What a node is to run. ``cache``: a folder of the node's own, fed from ``feed``; empty: the shared one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str
    attempt: int
    command: tuple[str, ...]
    cwd: str
    walltime: float
    cache: str = ""
    feed: str = ""


class SlurmDone(BaseModel):
    """How the command ended, as its node saw it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exit_code: int | None
    cause: EndCause
    node: str
    seconds: float
    trouble: str = ""
    """Why the wheel did not get to ``store/``."""


def write_model(folder: Path, name: str, value: BaseModel) -> None:
    """Write a file in one step."""
    write_text(folder, name, value.model_dump_json())


def write_text(folder: Path, name: str, text: str) -> None:
    """The same for a text."""
    part = folder / f".{name}.{os.getpid()}"
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / name)


def read_job(folder: Path) -> SlurmJob:
    """What is to be run. Raises OSError, ValueError."""
    return SlurmJob.model_validate_json((folder / JOB).read_bytes())


def read_done(folder: Path) -> SlurmDone | None:
    """How it ended; None where the node could not say."""
    with contextlib.suppress(OSError, ValidationError):
        return SlurmDone.model_validate_json((folder / DONE).read_bytes())
    return None


def read_number(folder: Path) -> str:
    """The job's number; empty before it was submitted."""
    with contextlib.suppress(OSError):
        return (folder / NUMBER).read_text(encoding="ascii").strip()
    return ""
