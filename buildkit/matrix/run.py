"""The loop that runs a matrix's cells on an executor: longest first, retries by cause, a document after each event."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from buildkit.errors import CudabuildError
from buildkit.matrix.executor import Began, Ended, Executor, Job, Need
from buildkit.matrix.results import (
    ENDED,
    AttemptObject,
    CellErrorObject,
    CellObject,
    RunObject,
    counts_of,
    succeeded,
)
from buildkit.matrix.retry import Again, again, cause_of, kind_of
from buildkit.store.model import utc_now

TICK = 1.0
"""Seconds after which the table of a terminal is drawn anew, at least."""
_SIGN = 60.0
"""Seconds after which the document is touched where nothing happens."""


class Watcher(Protocol):
    """Who is told what happens."""

    def changed(self, state: RunObject, cell: CellObject | None) -> None:
        """Something happened: to this cell, or (None) nothing but that time has passed."""

    def note(self, text: str) -> None:
        """A line for people."""


@dataclass(frozen=True)
class Task:
    """A cell that is to be run: how its command is made for a try with so much `--memory`, and what it takes."""

    cell: str
    words: Callable[[int | None], tuple[str, ...]]
    need: Need
    memory: int | None


@dataclass(frozen=True)
class Policy:
    """How a run goes on after a failure; ``largest``: bytes that any machine has at most (None: not known)."""

    fail_fast: bool = False
    largest: int | None = None


@dataclass
class _Line:
    """What is to be begun, in order; some not yet."""

    tasks: list[Task]
    not_before: dict[str, float] = field(default_factory=dict)

    def next(self, now: float) -> Task | None:
        """The first that may begin now."""
        found = next((task for task in self.tasks if self.not_before.get(task.cell, 0.0) <= now), None)
        if found is not None:
            self.tasks.remove(found)
        return found

    def pause(self, now: float) -> float:
        """Seconds until one of those that wait may begin."""
        waits = [max(0.0, self.not_before.get(task.cell, 0.0) - now) for task in self.tasks]
        return min(waits, default=TICK)


class MatrixRun:
    """One run. ``save`` is given the document after each event, ``sign`` is called now and then."""

    def __init__(
        self,
        state: RunObject,
        executor: Executor,
        watcher: Watcher,
        policy: Policy,
        *,
        save: Callable[[RunObject], None],
        sign: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = state
        self._executor = executor
        self._watcher = watcher
        self._policy = policy
        self._save = save
        self._sign = sign
        self._clock = clock
        self._began = clock()
        self._signed = self._began
        self._running: dict[str, Task] = {}
        self._failed: list[int] = []
        """Exit codes, in the order in which cells failed."""
        self._stopping = False

    def run(self, tasks: Sequence[Task]) -> RunObject:
        """Run these, in this order; returns the document. What was started is ended if this is interrupted."""
        line = _Line(list(tasks))
        try:
            with contextlib.closing(self._executor):
                while line.tasks or self._running:
                    self._fill(line)
                    self._listen(line)
        except BaseException:
            self._interrupted()
            raise
        self._finish()
        return self.state

    def _fill(self, line: _Line) -> None:
        if self._stopping:
            line.tasks.clear()
            return
        while len(self._running) < self._executor.slots and (task := line.next(self._clock())) is not None:
            number = len(self.state.cell(task.cell).attempts) + 1
            job = Job(task.cell, number, task.words(task.memory), task.need)
            self._running[task.cell] = task
            attempt = AttemptObject(
                number=number, where="", began=None, ended=None, exit_code=None, cause="", kind="", log=None
            )
            cell = self.state.cell(task.cell)
            self._change(cell.model_copy(update={"status": "running", "attempts": (*cell.attempts, attempt)}))
            self._executor.start(job)

    def _listen(self, line: _Line) -> None:
        pause = TICK if self._running else min(TICK, line.pause(self._clock()))
        news = self._executor.wait(pause)
        for one in news:
            if one.cell not in self._running:
                continue
            if isinstance(one, Began):
                self._attempt(one.cell, where=one.where, began=utc_now())
            else:
                self._ended(one, line)
        if not news:
            self._watcher.changed(self.state, None)
        if self._clock() - self._signed > _SIGN:
            self._signed = self._clock()
            self._sign()

    def _ended(self, ended: Ended, line: _Line) -> None:
        task = self._running.pop(ended.cell)
        cause = cause_of(ended)
        if self._stopping and cause:
            cause = "cancelled"
        where = {"where": ended.where} if ended.where else {}
        log = str(ended.log) if ended.log is not None else None
        self._attempt(
            ended.cell, ended=utc_now(), exit_code=ended.exit_code, cause=cause, kind=kind_of(ended), log=log, **where
        )
        if not cause and ended.answer is not None:
            self._change(succeeded(self.state.cell(ended.cell), ended.answer))
            return
        further = self._again(ended, task) if cause != "cancelled" else None
        if further is not None:
            self._try_again(task, further, line)
        else:
            self._give_up(ended, cause)

    def _again(self, ended: Ended, task: Task) -> Again | None:
        history = tuple(attempt.cause for attempt in self.state.cell(ended.cell).attempts)
        return again(ended, history, task.need, task.memory, largest=self._policy.largest)

    def _try_again(self, task: Task, further: Again, line: _Line) -> None:
        self._attempt(task.cell, again=further.reason)
        self._watcher.note(f"{task.cell}: {further.reason}")
        line.tasks.insert(0, replace(task, need=further.need, memory=further.memory))
        line.not_before[task.cell] = self._clock() + further.after
        self._change(self.state.cell(task.cell).model_copy(update={"status": "waiting"}))

    def _give_up(self, ended: Ended, cause: str) -> None:
        cell = self.state.cell(ended.cell)
        if cause == "cancelled":
            self._change(cell.model_copy(update={"status": "not-run"}))
            return
        error = error_of(ended, cause)
        self._failed.append(error.exit_code)
        answer = ended.answer or {}
        self._change(
            cell.model_copy(
                update={
                    "status": "failed",
                    "error": error,
                    "build": answer.get("build"),
                    "key": answer.get("key"),
                    "grade": (answer.get("verdict") or {}).get("grade"),
                    "seconds": answer.get("seconds"),
                }
            )
        )
        if self._policy.fail_fast and not self._stopping:
            self._stopping = True
            self._watcher.note(f"{ended.cell} failed: what runs is ended (--fail-fast)")
            for other in list(self._running):
                self._executor.cancel(other)

    def _attempt(self, cell: str, **update: object) -> None:
        """Change the last try of a cell."""
        found = self.state.cell(cell)
        last = found.attempts[-1].model_copy(update=update)
        self._change(found.model_copy(update={"attempts": (*found.attempts[:-1], last)}))

    def _change(self, cell: CellObject) -> None:
        cells = tuple(cell if one.id == cell.id else one for one in self.state.cells)
        self._update(cells=cells)
        self._watcher.changed(self.state, cell)

    def _update(self, **update: object) -> None:
        seconds = round(self._clock() - self._began, 3)
        state = self.state.model_copy(update={"seconds": seconds, **update})
        counts = counts_of(state.cells, len(state.dropped))
        self.state = state.model_copy(update={"counts": counts})
        self._save(self.state)

    def _interrupted(self) -> None:
        """What ran is to be run again; no error of writing may hide what ended the run."""
        cells = tuple(_waiting_again(cell) if cell.status == "running" else cell for cell in self.state.cells)
        with contextlib.suppress(CudabuildError, OSError):
            self._update(cells=cells, status="interrupted", finished=utc_now())

    def _finish(self) -> None:
        cells = tuple(
            cell if cell.status in ENDED else cell.model_copy(update={"status": "not-run"}) for cell in self.state.cells
        )
        self._update(cells=cells, status="done", finished=utc_now(), exit_code=next(iter(self._failed), 0))


def _waiting_again(cell: CellObject) -> CellObject:
    """A cell whose try was ended because the run was."""
    last = cell.attempts[-1].model_copy(update={"cause": "cancelled", "ended": utc_now()})
    return cell.model_copy(update={"status": "waiting", "attempts": (*cell.attempts[:-1], last)})


def error_of(ended: Ended, cause: str) -> CellErrorObject:
    """Why a cell failed: what its command told, else what can be told from how it ended."""
    told = (ended.answer or {}).get("error")
    if isinstance(told, Mapping):
        known = {name: told[name] for name in CellErrorObject.model_fields if told.get(name) is not None}
        return CellErrorObject.model_validate(known)
    text, kind, code = _UNTOLD.get(cause, ("its command ended without an answer", "build-failed", 6))
    log = str(ended.log) if ended.log is not None else None
    shown = f" (exit status {ended.exit_code})" if ended.exit_code is not None else ""
    hint = f"read {log}" if log else "cudabuild matrix run"
    return CellErrorObject(kind=kind, exit_code=code, message=f"{text}{shown}", hint=hint, log=log)


_UNTOLD = {
    "lost": ("the machine or worker that ran it went away, again and again", "build-failed", 6),
    "walltime": ("its time on the node was up, again and again", "timeout", 8),
    "memory": ("it was ended for lack of memory, again and again", "out-of-memory", 7),
}
