"""Cells as tasks of a Dask cluster, each with what it takes of a worker, the longest first."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildkit.errors import CudabuildError
from buildkit.matrix.dask_link import Link, Seat
from buildkit.matrix.dask_policy import checked_address
from buildkit.matrix.dask_task import CellDone, Task
from buildkit.matrix.dask_worker import LINGER
from buildkit.matrix.executor import Began, Ended, Job
from buildkit.matrix.worker_delivery import failure, take
from buildkit.matrix.worker_survey import needed, none_can
from buildkit.store.store import Store

PATIENCE = 120.0
"""Seconds to wait for a scheduler that is gone, and for a worker that could make a cell."""
TICK = 0.5
"""Seconds between two looks at the connection and at who waits."""


@dataclass
class _Active:
    """A job that was given to this executor. ``held_until``: it waits for the worker that has begun it before."""

    job: Job
    task: Task
    began: bool = False
    where: str = ""
    submitted: bool = False
    at: str = ""
    """The address of the worker that it was submitted for."""
    held_until: float = 0.0
    since: float = field(default_factory=time.monotonic)
    cancelled: bool = False


@dataclass
class DaskExecutor:
    """Runs cells on the cluster of the scheduler at ``address``. ``logs`` takes what their commands said.

    ``share``: the folder, as this machine sees it, where workers put their wheels; they are brought to ``store``.
    """

    address: str
    logs: Path
    cwd: Path
    insecure: bool = False
    share: Path | None = None
    store: Store | None = None
    patience: float = PATIENCE
    hold: float = LINGER + 30.0
    """Seconds that a cell waits for the worker that has begun it, which may be ending it before it joins again."""
    slots: int = 1
    most: int | None = None
    """Slots at most; else as many as the workers have cells."""
    _active: dict[str, _Active] = field(default_factory=dict, init=False)
    _places: dict[str, str] = field(default_factory=dict, init=False)
    _link: Link | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.address = checked_address(self.address, insecure=self.insecure)
        self._news: queue.SimpleQueue[tuple[str, Mapping[str, Any]]] = queue.SimpleQueue()
        self._seats: list[Seat] = []
        self._linked()

    def start(self, job: Job) -> None:
        """Submit it; at best where it ran before. Raises MachineError where the scheduler does not come back."""
        active = _Active(job, Task(job.cell, job.words, job.need.walltime, str(self.cwd)))
        if self._places.get(job.cell):
            active.held_until = time.monotonic() + self.hold
        self._active[job.cell] = active
        self._linked()
        self._submit_what_can(time.monotonic())

    def wait(self, seconds: float) -> Sequence[Began | Ended]:
        """What has happened, at most so many seconds from now."""
        deadline = time.monotonic() + seconds
        while True:
            events = [*self._lost_with_scheduler(), *self._read_news()]
            if not events:
                events = self._tick()
            left = deadline - time.monotonic()
            if events or left <= 0:
                return events
            with suppress(queue.Empty):
                self._news.put(self._news.get(timeout=min(TICK, left)))

    def cancel(self, cell: str) -> None:
        """End it, wherever it is."""
        active = self._active.get(cell)
        if active is not None:
            active.cancelled = True
            if self._link is not None and not self._link.lost:
                if active.began:
                    self._link.stop(cell)
                else:
                    self._link.withdraw(active.task)
                    self._link.stop(cell)  # it may have begun meanwhile

    def close(self) -> None:
        """End all cells, and wait until they have ended; workers and scheduler are others' to end."""
        for cell in list(self._active):
            self.cancel(cell)
        deadline = time.monotonic() + 40.0
        while self._active and self._link is not None and not self._link.lost and time.monotonic() < deadline:
            self.wait(TICK)
        if self._link is not None:
            self._link.close()

    def drop(self) -> None:
        """Go away as if killed: what runs belongs to the scheduler, and whoever comes next waits for it."""
        if self._link is not None:
            self._link.close()
        self._active.clear()

    def _linked(self) -> Link:
        if self._link is None:
            self._link = Link(self.address, self.patience, lambda what, about: self._news.put((what, about))).connect()
            self._look_at_seats(self._link)  # a worker that was there before has another address now
        return self._link

    def _lost_with_scheduler(self) -> list[Began | Ended]:
        """Where the scheduler is gone, every job is: its worker may still be at it, and is asked for it first."""
        if self._link is None or not self._link.lost:
            return []
        self._link.close()
        self._link, self._seats = None, []
        over = [active for active in self._active.values() if active.submitted]
        return [self._end(active, None) for active in over]

    def _read_news(self) -> list[Began | Ended]:
        events: list[Began | Ended] = []
        with suppress(queue.Empty):
            while True:
                what, about = self._news.get_nowait()
                active = self._active.get(str(about["cell"]))
                if active is None or not active.submitted:
                    continue
                if what == "began":
                    events += self._begun(active, str(about["where"]))
                else:
                    events += self._done(active, about["future"])
        return events

    def _begun(self, active: _Active, where: str) -> list[Began | Ended]:
        again = active.began and active.where == where
        active.began, active.where = True, where
        self._places[active.job.cell] = where
        return [] if again else [Began(active.job.cell, active.job.attempt, where)]

    def _done(self, active: _Active, future: Any) -> list[Began | Ended]:
        done: CellDone | None = None
        if future.status == "finished":
            with suppress(Exception):  # whatever Dask raises for a result that went with its worker
                done = future.result(timeout=30)
        elif self._link is None or self._link.lost:
            return []  # told for all of them together
        begun = self._begun(active, done.where) if done is not None else []
        return [*begun, self._end(active, done)]

    def _end(self, active: _Active, done: CellDone | None) -> Ended:
        job = active.job
        del self._active[job.cell]
        if self._link is not None:
            self._link.release(active.task)
        if done is None:
            return Ended(
                job.cell, job.attempt, active.where, None, None, None, "exited" if active.cancelled else "lost"
            )
        exit_code, answer = self._brought(done)
        return Ended(job.cell, job.attempt, done.where, exit_code, answer, self._written(job, done.said), done.cause)

    def _brought(self, done: CellDone) -> tuple[int | None, dict[str, Any] | None]:
        """The build's answer, its wheel in this store where there is a shared folder."""
        if done.exit_code != 0 or done.answer is None or self.share is None or self.store is None:
            return done.exit_code, done.answer
        try:
            take(str(done.answer["key"]), self.share, self.store, trusted=False)
        except (CudabuildError, OSError) as error:
            return failure(error, done.answer)
        return done.exit_code, done.answer

    def _written(self, job: Job, said: str) -> Path:
        self.logs.mkdir(parents=True, exist_ok=True)
        path = self.logs / f"{job.cell}-{job.attempt}.log"
        path.write_text(said, encoding="utf-8")
        return path

    def _tick(self) -> list[Began | Ended]:
        """Submit who waits for a worker; end who waits for one that nobody has."""
        waiting = [active for active in self._active.values() if not active.began]
        if not waiting or self._link is None:
            return []
        now = time.monotonic()
        self._look_at_seats(self._link)
        self._submit_what_can(now)
        return [event for active in waiting if now - active.since > self.patience for event in self._hopeless(active)]

    def _hopeless(self, active: _Active) -> list[Began | Ended]:
        error = none_can(
            needed(active.job.need, active.job.words), {f"worker {seat.name}": seat.offers for seat in self._seats}
        )
        if self._link is None or not active.submitted:
            return []
        if error is None:
            if active.at:  # its worker went away before it began: wherever there is room
                self._link.withdraw(active.task)
                self._link.release(active.task)
                self._places.pop(active.job.cell)
                active.submitted, active.since = False, time.monotonic()
            return []
        self._link.withdraw(active.task)
        ended = self._end(active, None)
        exit_code, answer = failure(error, {"schema": 1, "recipe": active.job.cell})
        return [Ended(ended.cell, ended.attempt, "", exit_code, answer, None, "exited")]

    def _submit_what_can(self, now: float) -> None:
        """Those that are held for a worker wait until it is there, or for long enough."""
        if self._link is None:
            return
        addresses = {seat.name: seat.address for seat in self._seats}
        for active in self._active.values():
            at = addresses.get(self._places.get(active.job.cell, ""), "")
            if not active.submitted and (at or now >= active.held_until):
                taken = needed(active.job.need, active.job.words)
                self._link.submit(active.task, taken, priority=active.job.need.seconds, at=at)
                active.submitted, active.at = True, at

    def _look_at_seats(self, link: Link) -> None:
        with suppress(OSError, TimeoutError):
            self._seats = link.seats()
            offered = sum(seat.cells for seat in self._seats)
            self.slots = max(1, min(offered, self.most or offered))
