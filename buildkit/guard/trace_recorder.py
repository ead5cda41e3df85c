"""Recording a build's trace from the broker's events and the guard's samples, while it goes on.

Events come from the client's thread, samples from the build's. Events and keys that are not known here are passed over.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from buildkit.guard.curve import Curve
from buildkit.guard.protocol import Sample
from buildkit.guard.trace import (
    MOST_BYTES,
    MOST_RUNS,
    MOST_UNITS,
    MemoryPoint,
    Outcome,
    Trace,
    TreePoint,
    UnitTrace,
    bounded_number,
    bounded_time,
)
from buildkit.guard.trace import Run as RunTrace

Event = Mapping[str, str]
_LONGEST = 200  # characters of a unit's name, or of a reason


@dataclass(frozen=True)
class About:
    """What is recorded: the build's id, its key, the recipe's name, and with how much it was planned."""

    build: str
    key: str | None
    recipe: str
    cores: int
    jobs: int
    planned: int
    admitted: bool


@dataclass(frozen=True)
class Progress:
    """Compilations now, and the memory (bytes) that they hold and may hold; None where that is not known yet."""

    running: int
    waiting: int
    done: int
    memory: int
    budget: int


@dataclass
class _Run:
    queued: float
    start: float | None = None
    end: float | None = None
    outcome: Outcome = "waiting"
    reason: str = ""
    code: int = 0
    signal: int = 0
    peak: int = 0
    cpu: float = 0.0
    threads: int = 1
    bound: int = 0
    source: str = ""


@dataclass
class _Unit:
    order: int
    name: str
    kind: str
    key: str
    pid: str
    runs: list[_Run] = field(default_factory=list)
    kills: int = 0


class Recorder:
    """One build's trace so far. ``now`` is the monotonic clock that the broker's events are in, too."""

    def __init__(self, about: About, *, now: Callable[[], float] = time.monotonic) -> None:
        self._about = about
        self._now = now
        self._zero = now()
        self._started = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self._lock = threading.Lock()
        self._units: list[_Unit] = []
        self._open: list[_Unit] = []
        self._numbers: dict[str, _Unit] = {}
        self._memory: Curve[MemoryPoint] = Curve(_worst_memory)
        self._tree: Curve[TreePoint] = Curve(_worst_tree)
        self._pool = ""
        self._last: MemoryPoint | None = None
        self._cpu_before = self._cpu = self._elapsed = 0.0
        self._done = 0

    # What comes

    def hear(self, event: Event) -> None:
        """One event of the broker. What is damaged in it is passed over: the build does not depend on its trace."""
        deal = {
            "queued": self._queued,
            "started": self._run_started,
            "ended": self._ended,
            "killed": self._killed,
            "failed": self._given_up,
            "lost": self._lost,
            "memory": self._memory_seen,
        }.get(event.get("what", ""))
        if deal is not None:
            with self._lock, contextlib.suppress(KeyError, ValueError):
                deal(event, bounded_time(float(event["at"]) - self._zero))

    def sample(self, sample: Sample) -> None:
        """A look at the whole tree. A second command of the build (another hook) begins at 0 again."""
        with self._lock:
            if sample.elapsed < self._elapsed:
                self._cpu_before = self._cpu
            self._elapsed = sample.elapsed
            self._cpu = max(self._cpu, self._cpu_before + sample.cpu_seconds)
            at = self._now() - self._zero
            point = TreePoint(at=_ms(at), memory=sample.memory, cpu=_ms(self._cpu), processes=sample.processes)
            self._tree.add(point)

    def progress(self) -> Progress | None:
        """How far it is; None before the broker has told of anything."""
        with self._lock:
            if self._last is None:
                return None
            states = [unit.runs[-1].outcome for unit in self._open]
            running, waiting = states.count("running"), states.count("waiting")
            return Progress(running, waiting, self._done, self._last.units if running else 0, self._last.budget)

    # Events

    def _queued(self, event: Event, at: float) -> None:
        """One that is in line, or that has found another broker after one has died."""
        before = next((unit for unit in self._open if (unit.pid, unit.key) == (event["pid"], event["key"])), None)
        unit = before or self._new(event, at)
        self._numbers[event["unit"]] = unit

    def _run_started(self, event: Event, at: float) -> None:
        unit = self._numbers.get(event["unit"])
        if unit is None:
            waited = float(event.get("waited", 0))
            unit = self._numbers[event["unit"]] = self._new(event, max(0.0, at - waited))
        run = unit.runs[-1]
        run.start, run.outcome = max(at, run.queued), "running"
        run.threads = max(1, bounded_number(event.get("threads", 1)))
        run.bound = bounded_number(event.get("bound", 0), MOST_BYTES)
        run.source = _text(event.get("source", ""))

    def _ended(self, event: Event, at: float) -> None:
        well = int(event["code"]) == 0 and int(event.get("signal", 0)) == 0
        run = self._close(event, at, "done" if well else "failed")
        self._done += well
        run.code, run.signal = bounded_number(event["code"]), bounded_number(event.get("signal", 0))

    def _killed(self, event: Event, at: float) -> None:
        unit = self._numbers[event["unit"]]
        self._close(event, at, "killed")
        unit.kills += 1
        unit.runs.append(_Run(at))
        if len(unit.runs) > MOST_RUNS:
            del unit.runs[MOST_RUNS // 2]

    def _given_up(self, event: Event, at: float) -> None:
        self._close(event, at, "given-up")

    def _lost(self, event: Event, at: float) -> None:
        self._close(event, at, "lost")

    def _close(self, event: Event, at: float, outcome: Outcome) -> _Run:
        """The end of a unit's last run."""
        unit = self._numbers[event["unit"]]
        run = unit.runs[-1]
        run.end, run.outcome = max(at, run.start or run.queued), outcome
        run.reason = _text(event.get("reason", ""))
        run.peak, run.cpu = bounded_number(event.get("peak", 0), MOST_BYTES), bounded_time(float(event.get("cpu", 0)))
        if outcome != "killed":
            self._open.remove(unit)
            del self._numbers[event["unit"]]
        if self._last is not None and all(one.runs[-1].outcome != "running" for one in self._open):
            # The broker says no more of memory while nothing runs.
            over = {"at": max(self._last.at, _ms(at)), "units": 0, "running": 0}
            self._memory.add(self._last.model_copy(update=over))
        return run

    def _memory_seen(self, event: Event, at: float) -> None:
        names = ("units", "budget", "available", "limit", "running", "waiting")
        self._last = MemoryPoint(at=_ms(at), **{name: int(event[name]) for name in names})
        self._memory.add(self._last)
        self._pool = _text(event.get("pool", ""))

    def _new(self, event: Event, queued: float) -> _Unit:
        name, kind, key = (_text(event[word]) for word in ("name", "kind", "key"))
        unit = _Unit(len(self._units), name, kind, key, event["pid"], [_Run(queued)])
        self._units.append(unit)
        self._open.append(unit)
        return unit

    # What is known

    def trace(self, *, complete: bool, restarts: int = 0) -> Trace:
        """The trace so far. ``complete``: the build has ended, and with it all that runs."""
        with self._lock:
            now = self._now() - self._zero
            units = sorted(self._units, key=_seconds, reverse=True)[:MOST_UNITS]
            about = self._about
            return Trace(
                build=about.build,
                key=about.key,
                recipe=about.recipe,
                started=self._started,
                seconds=_ms(now),
                complete=complete,
                admitted=about.admitted,
                cores=about.cores,
                jobs=about.jobs,
                planned=about.planned,
                pool=self._pool,
                restarts=restarts,
                units=tuple(
                    _unit_trace(unit, now if complete else None) for unit in sorted(units, key=lambda unit: unit.order)
                ),
                left_out=len(self._units) - len(units),
                memory=tuple(self._memory.points()),
                tree=tuple(self._tree.points()),
            )


def _unit_trace(unit: _Unit, over: float | None) -> UnitTrace:
    runs = tuple(_run_trace(run, over) for run in unit.runs)
    return UnitTrace(order=unit.order, name=unit.name, kind=unit.kind, key=unit.key, kills=unit.kills, runs=runs)


def _run_trace(run: _Run, over: float | None) -> RunTrace:
    """``over``: when the build has ended, and with it what still ran."""
    outcome, end = run.outcome, run.end
    if over is not None and outcome in {"running", "waiting"}:
        outcome, end = "lost", max(over, run.start or run.queued)
    return RunTrace(
        queued=_ms(run.queued),
        start=None if run.start is None else _ms(run.start),
        end=None if end is None else _ms(end),
        outcome=outcome,
        reason=run.reason,
        code=run.code,
        signal=run.signal,
        peak=run.peak,
        cpu=_ms(run.cpu),
        threads=run.threads,
        bound=run.bound,
        source=run.source,
    )


def _seconds(unit: _Unit) -> float:
    return sum(run.end - run.start for run in unit.runs if run.start is not None and run.end is not None)


def _worst_memory(one: MemoryPoint, other: MemoryPoint) -> MemoryPoint:
    """Two neighbours as one: the most that was held and the least that there was."""
    return MemoryPoint(
        at=other.at,
        units=max(one.units, other.units),
        budget=min(one.budget, other.budget),
        available=min(one.available, other.available),
        limit=min(one.limit, other.limit),
        running=max(one.running, other.running),
        waiting=max(one.waiting, other.waiting),
    )


def _worst_tree(one: TreePoint, other: TreePoint) -> TreePoint:
    return TreePoint(
        at=other.at,
        memory=max(one.memory, other.memory),
        cpu=max(one.cpu, other.cpu),
        processes=max(one.processes, other.processes),
    )


def _ms(seconds: float) -> float:
    return round(seconds, 3)


def _text(text: str) -> str:
    """A foreign text as JSON can hold it: no lone surrogates, and not too long."""
    return text[:_LONGEST].encode("utf-8", "backslashreplace").decode()
