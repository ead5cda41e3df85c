"""Pure: from a job's needs to the words of sbatch, and the script that sbatch is given.

Plain sbatch, not dask-jobqueue: that submits workers, all of one size, that take tasks from a scheduler. A cell has a
size, a GPU and a walltime of its own; Slurm queues jobs by these, goes on with them when whoever submitted them has
gone, needs no connection from its nodes, and names what ended each: its time, or its memory.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from buildkit.machine.memory import capped_reserve
from buildkit.matrix.executor import Job, Need

MIB = 1 << 20
GRACE = 60.0
"""Seconds before the end of a job's time at which its build is told to end. It needs 2; Slurm looks every few, and
counts in minutes."""
_LEAST_MEMORY = 512
"""MiB: cudabuild itself, Python and an installer."""


def memory_request(need: Need) -> int:
    """MiB for ``--mem``: the build's own, and what its guard keeps free inside of a limit."""
    asked = need.memory + 2 * capped_reserve(need.memory)
    return max(_LEAST_MEMORY, math.ceil(asked / MIB))


def time_request(need: Need, grace: float = GRACE) -> int:
    """Minutes for ``--time``: the whole walltime, and then the time to end."""
    return max(1, math.ceil((need.walltime + grace) / 60))


def gpu_words(gpu: str | None) -> list[str]:
    """One GPU, of a type if one is named: sites name theirs as features (``--constraint=rtx_a6000``)."""
    if gpu is None:
        return []
    return ["--gres=gpu:1", *([f"--constraint={gpu}"] if gpu else [])]


def sbatch_words(job: Job, folder: Path, *, grace: float = GRACE, extra: Sequence[str] = ()) -> list[str]:
    """sbatch with what a job asks for. ``folder`` is the job's own, on a file system that the nodes see.

    Partition, account and the like are sbatch's own variables (SBATCH_PARTITION, SBATCH_ACCOUNT), or ``extra``.
    """
    return [
        "sbatch",
        "--parsable",
        f"--job-name=cudabuild-{job.cell}",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={max(1, job.need.cpus)}",
        f"--mem={memory_request(job.need)}M",
        f"--time={time_request(job.need, grace)}",
        f"--signal=B:USR1@{round(grace)}",
        "--no-requeue",  # the run decides what is tried again, and with how much
        "--open-mode=append",
        f"--output={folder / 'slurm.log'}",
        f"--chdir={folder}",
        *gpu_words(job.need.gpu),
        *extra,
    ]


def script(python: str, folder: Path) -> str:
    """The batch script: the node's program in its place, so that Slurm's signals reach it."""
    return f"#!/bin/sh\nexec {shlex.quote(python)} -m buildkit.matrix.slurm_node {shlex.quote(str(folder))}\n"
