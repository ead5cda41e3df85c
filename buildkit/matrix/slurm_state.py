"""Pure: what Slurm says of jobs, read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from buildkit.matrix.executor import EndCause

_WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
_RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
_TIME = {"TIMEOUT", "DEADLINE"}
_OVER_MEMORY = re.compile(
    r"slurmstepd\S*: error: .*(?:[Ee]xceeded (?:job |step )?memory limit|oom[-_]kill|Out Of Memory)", re.IGNORECASE
)
_OVER_TIME = re.compile(r"slurmstepd\S*: error: .*DUE TO TIME LIMIT")

SQUEUE = ("squeue", "--noheader", "--states=all", "--format=%i|%T|%N")
SACCT = ("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State,NodeList")
"""Both with ``--jobs`` behind them; the first knows a job for minutes after its end, the second where it is kept."""


@dataclass(frozen=True)
class State:
    """What Slurm calls a job's state (``OUT_OF_MEMORY``), and the node it is or was on."""

    name: str
    node: str = ""

    @property
    def waiting(self) -> bool:
        """In the queue."""
        return self.name in _WAITING

    @property
    def running(self) -> bool:
        """On a node."""
        return self.name in _RUNNING

    @property
    def over(self) -> bool:
        """Neither."""
        return not self.waiting and not self.running


def parse_states(text: str) -> dict[str, State]:
    """Job ids to states, from the lines of squeue or sacct (``CANCELLED by 1000`` is CANCELLED)."""
    found = {}
    for line in text.splitlines():
        words = line.strip().split("|")
        if len(words) == 3 and words[1]:
            node = words[2] if words[2] not in {"None assigned", "(null)"} else ""
            found[words[0]] = State(words[1].split()[0].rstrip("+"), node)
    return found


def parse_submitted(text: str) -> str:
    """The job's id from ``sbatch --parsable`` (``123`` or ``123;cluster``); empty where there is none."""
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()
    number = last.partition(";")[0]
    return number if number.isdigit() else ""


def job_cause(state: State | None, log: str, *, own: EndCause | None, succeeded: bool = False) -> EndCause:
    """Why a job is over. ``own``: what the node's program could still write; ``log``: the end of the job's output.

    A state may be no more than FAILED where the node's accounting has ended the job: then slurmstepd has said why.
    """
    name = state.name if state is not None else ""
    if own == "exited" and succeeded:  # a unit was too large, and the build has got over it
        return own
    if name == "OUT_OF_MEMORY" or _OVER_MEMORY.search(log):
        return "memory"
    if own is not None:
        return own
    if name in _TIME or _OVER_TIME.search(log):
        return "walltime"
    return "exited" if name == "CANCELLED" else "lost"


def state_command(program: Sequence[str], ids: Sequence[str]) -> list[str]:
    """squeue or sacct for these jobs."""
    return [*program, f"--jobs={','.join(ids)}"]
