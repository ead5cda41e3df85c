"""A trace in the form that Perfetto and chrome://tracing read: the Trace Event Format's JSON (pure).

Complete events (``X``) for runs, with compilations that run side by side in lanes of their own; counters (``C``) for
memory; metadata (``M``) for names. ``ts`` and ``dur`` are microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from buildkit.guard.trace import Run, Trace, UnitTrace

Event = dict[str, Any]
RUNNING, WAITING, MEMORY = 1, 2, 3
"""The processes of the picture."""
_NAMES = {RUNNING: "compilations", WAITING: "in line", MEMORY: "memory and processes"}
_SHORTEST = 0.005
"""Seconds in line below which nobody waited."""


def chrome_trace(trace: Trace) -> dict[str, Any]:
    """The object of the file."""
    about = {"build": trace.build, "recipe": trace.recipe, "key": trace.key, "started": trace.started}
    return {
        "displayTimeUnit": "ms",
        "otherData": about,
        "traceEvents": [*_metadata(trace), *_spans(trace), *_counters(trace)],
    }


def lanes(spans: Sequence[tuple[float, float]]) -> list[int]:
    """A lane for each span (in the order of their begins): no two of a lane overlap, and there are as few as can be."""
    free: list[float] = []
    found = []
    for begin, end in spans:
        lane = next((number for number, until in enumerate(free) if until <= begin), len(free))
        if lane == len(free):
            free.append(end)
        else:
            free[lane] = end
        found.append(lane)
    return found


def _metadata(trace: Trace) -> Iterator[Event]:
    for process, name in _NAMES.items():
        yield _event("M", process, 0, 0.0, "process_name", {"name": f"{trace.recipe}: {name}"})
        yield _event("M", process, 0, 0.0, "process_sort_index", {"sort_index": process})
    for process, spans in ((RUNNING, _running(trace)), (WAITING, _waiting(trace))):
        for lane in sorted(set(lanes([(begin, end) for begin, end, _, _ in spans]))):
            yield _event("M", process, lane + 1, 0.0, "thread_name", {"name": f"{_NAMES[process]} {lane + 1}"})


def _spans(trace: Trace) -> Iterator[Event]:
    for process, spans in ((RUNNING, _running(trace)), (WAITING, _waiting(trace))):
        placed = lanes([(begin, end) for begin, end, _, _ in spans])
        for (begin, end, unit, run), lane in zip(spans, placed, strict=True):
            event = _event("X", process, lane + 1, begin, unit.name, _details(unit, run))
            yield {**event, "dur": _us(end) - _us(begin), "cat": run.outcome if process == RUNNING else "waiting"}


def _running(trace: Trace) -> list[tuple[float, float, UnitTrace, Run]]:
    """Runs; one that goes on reaches to now."""
    found = [
        (run.start, run.end if run.end is not None else max(trace.seconds, run.start), unit, run)
        for unit in trace.units
        for run in unit.runs
        if run.start is not None
    ]
    return sorted(found, key=lambda one: one[:2])


def _waiting(trace: Trace) -> list[tuple[float, float, UnitTrace, Run]]:
    found = []
    for unit in trace.units:
        for run in unit.runs:
            until = next((at for at in (run.start, run.end, trace.seconds) if at is not None), 0.0)
            if until - run.queued > _SHORTEST:
                found.append((run.queued, until, unit, run))
    return sorted(found, key=lambda one: one[:2])


def _details(unit: UnitTrace, run: Run) -> dict[str, Any]:
    return {
        "kind": unit.kind,
        "outcome": run.outcome,
        "reason": run.reason,
        "exit status": run.code,
        "signal": run.signal,
        "peak": run.peak,
        "bound": run.bound,
        "bound from": run.source,
        "cpu seconds": run.cpu,
        "waited seconds": round(run.wait, 3),
        "nvcc threads": run.threads,
        "key": unit.key,
    }


def _counters(trace: Trace) -> Iterator[Event]:
    for point in trace.memory:
        yield _event("C", MEMORY, 0, point.at, "compilations' memory", {"bytes": point.units})
        yield _event("C", MEMORY, 0, point.at, "budget", {"bytes": point.budget})
        yield _event("C", MEMORY, 0, point.at, "compilations", {"running": point.running, "waiting": point.waiting})
    for sample in trace.tree:
        yield _event("C", MEMORY, 0, sample.at, "all processes' memory", {"bytes": sample.memory})
    for before, after in zip(trace.tree, trace.tree[1:], strict=False):
        if after.at > before.at:
            cores = round((after.cpu - before.cpu) / (after.at - before.at), 3)
            yield _event("C", MEMORY, 0, before.at, "cores in use", {"cores": max(0.0, cores)})


def _event(phase: str, process: int, thread: int, at: float, name: str, details: dict[str, Any]) -> Event:
    return {"ph": phase, "pid": process, "tid": thread, "ts": _us(at), "name": name, "args": details}


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
