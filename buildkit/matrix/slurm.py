"""Cells as Slurm jobs, one each, with what each needs.

What a job needs of the network is fetched here first, on the login node, and its node builds with ``--offline``. Jobs
go on when this process ends; who runs the same matrix again finds them by their folders and waits for them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildkit.build.places import Places
from buildkit.errors import CudabuildError
from buildkit.matrix.executor import Began, Ended, Job
from buildkit.matrix.local import read_answer
from buildkit.matrix.slurm_folder import (
    JOB,
    NUMBER,
    SlurmDone,
    SlurmJob,
    read_done,
    read_number,
    write_model,
    write_text,
)
from buildkit.matrix.slurm_programs import Slurm, fetch
from buildkit.matrix.slurm_request import GRACE
from buildkit.matrix.slurm_state import State, job_cause
from buildkit.matrix.worker_delivery import NotDelivered, failure, take
from buildkit.matrix.worker_process import build_command, tail
from buildkit.store.store import Store

POLL = 2.0
"""Seconds between two questions to the controller, which is everybody's: one for all jobs."""
SETTLING = 5.0
"""Seconds after which a file that the node may have written is not to come any more (network file systems wait)."""
ENDING = 60.0
"""Seconds for jobs to end that were cancelled; Slurm kills after KillWait, 30 by default."""
NODE_CACHE = "CUDABUILD_NODE_CACHE"
"""The variable with a folder on the nodes' own disks, for clusters whose shared file system has no locks."""


@dataclass
class _Active:
    """A submitted job."""

    job: Job
    number: str
    folder: Path
    began: bool = False
    where: str = ""
    over_since: float | None = None


@dataclass
class SlurmExecutor:
    """Runs cells as jobs. ``folder``: this run's own, on a file system that the nodes see."""

    folder: Path
    cache: Path
    environ: Mapping[str, str]
    cwd: Path
    """What relative paths of jobs are relative to."""
    online: bool = False
    """Whether nodes have a network: then nothing is fetched here, and they build without ``--offline``."""
    grace: float = GRACE
    poll: float = POLL
    slots: int = 200
    """Jobs in the queue at a time; how many of them run is Slurm's to say."""
    _active: dict[str, _Active] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._slurm = Slurm(self.environ)

    def start(self, job: Job) -> None:
        """Submit it; or wait for the one that an earlier run has submitted. Raises CudabuildError."""
        going_on = self._submitted(job)
        if going_on is not None:
            self._active[job.cell] = going_on
            return
        folder = self._folder(job)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        words = job.words
        if not self.online:
            if "--offline" not in words:
                fetch(words, self.environ, self.cwd, cell=job.cell)
            words = (*(word for word in words if word != "--offline"), "--offline")
        cache = self.environ.get(NODE_CACHE, "")
        asked = SlurmJob(
            cell=job.cell,
            attempt=job.attempt,
            command=tuple(build_command(words)),
            cwd=str(self.cwd),
            walltime=job.need.walltime,
            cache=os.path.expandvars(cache),
            feed=str(self.cache) if cache else "",
        )
        write_model(folder, JOB, asked)
        number = self._slurm.submit(job, folder, grace=self.grace)
        write_text(folder, NUMBER, number)
        self._active[job.cell] = _Active(job, number, folder)

    def wait(self, seconds: float) -> Sequence[Began | Ended]:
        """Ask Slurm until something has happened, at most so long."""
        deadline = time.monotonic() + seconds
        while True:
            events = self._look() if self._active else []
            left = deadline - time.monotonic()
            if events or left <= 0:
                return events
            time.sleep(min(self.poll, left))

    def cancel(self, cell: str) -> None:
        """End its job."""
        if cell in self._active:
            self._slurm.cancel([self._active[cell].number])

    def close(self) -> None:
        """End all jobs, and wait until none is left on a node."""
        numbers = [active.number for active in self._active.values()]
        self._slurm.cancel(numbers)
        deadline = time.monotonic() + ENDING
        while numbers and time.monotonic() < deadline:
            states = self._slurm.states(numbers)
            numbers = [] if states is None else [each for each in numbers if each in states and not states[each].over]
            if numbers:
                time.sleep(min(self.poll, 1.0))
        self._active.clear()

    def _folder(self, job: Job) -> Path:
        return self.folder / f"{job.cell}-{job.attempt}"

    def _submitted(self, job: Job) -> _Active | None:
        """The job of this cell that is in the queue, on a node, or came to its end without being asked about."""
        for attempt in range(job.attempt, 0, -1):
            folder = self.folder / f"{job.cell}-{attempt}"
            number, done = read_number(folder), read_done(folder)
            if number and done is not None:
                return _Active(job, number, folder) if done.exit_code == 0 else None
            if number:
                states = self._slurm.states([number])
                state = (states or {}).get(number)
                if states is None or (state is not None and not state.over):
                    return _Active(job, number, folder)
        return None

    def _look(self) -> list[Began | Ended]:
        states = self._slurm.states([active.number for active in self._active.values()])
        if states is None:
            return []
        events: list[Began | Ended] = []
        for active in list(self._active.values()):
            state = states.get(active.number)
            active.where = (state.node if state is not None else "") or active.where
            done = read_done(active.folder)
            if not active.began and (done is not None or (state is not None and not state.waiting)):
                active.began = True
                events.append(Began(active.job.cell, active.job.attempt, active.where))
            if (state is None or state.over or done is not None) and (ended := self._ended(active, state, done)):
                del self._active[active.job.cell]
                events.append(ended)
        return events

    def _ended(self, active: _Active, state: State | None, done: SlurmDone | None) -> Ended | None:
        """How it ended; None while its node may still say so."""
        own, succeeded = (done.cause, done.exit_code == 0) if done is not None else (None, False)
        cause = job_cause(state, tail(active.folder / "slurm.log"), own=own, succeeded=succeeded)
        if done is None and cause == "lost":
            active.over_since = active.over_since or time.monotonic()
            if time.monotonic() - active.over_since < SETTLING:
                return None
        said = active.folder / "said.log"
        exit_code, answer = self._brought(active, done)
        return Ended(
            cell=active.job.cell,
            attempt=active.job.attempt,
            where=(done.node if done is not None else "") or active.where,
            exit_code=exit_code,
            answer=answer,
            log=said if said.is_file() else None,
            cause=cause,
        )

    def _brought(self, active: _Active, done: SlurmDone | None) -> tuple[int | None, dict[str, Any] | None]:
        """The exit code and the build's answer; its wheel is in this cache now, wherever it was made."""
        answer = read_answer(active.folder / "answer.json")
        exit_code = done.exit_code if done is not None else None
        wheels = active.folder / "store"
        if answer is None or done is None or exit_code != 0:
            return exit_code, answer
        if done.trouble:
            return failure(NotDelivered(f"the wheel did not leave {done.node}", evidence=done.trouble), answer)
        try:
            store = Store(Places(self.cache).store)
            keys = [path.stem for path in (wheels / "entries").glob("*.json")]
            for entry in filter(None, (take(key, wheels, store, trusted=True) for key in keys)):
                path = store.hand_out(entry, Places(self.cache).wheels / entry.key[:16])
                answer = {**answer, "wheel": {**answer["wheel"], "path": str(path)}}
        except (CudabuildError, OSError) as error:
            return failure(error, answer)
        return exit_code, answer
