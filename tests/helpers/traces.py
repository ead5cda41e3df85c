"""Traces for tests, made by the recorder from what a broker would have told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from buildkit.guard.protocol import Sample
from buildkit.guard.trace import Trace
from buildkit.guard.trace_recorder import About, Recorder

GIB = 1 << 30
ZERO = 1000.0
"""What the monotonic clock says at the beginning."""


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = ZERO

    def __call__(self) -> float:
        return self.now


def recorder(clock: Clock, *, admitted: bool = True, jobs: int = 4) -> Recorder:
    about = About("20261121-3f2a", "b" * 64, "fast", cores=4, jobs=jobs, planned=8 * GIB, admitted=admitted)
    return Recorder(about, now=clock)


def event(what: str, at: float, unit: int = 0, **more: object) -> Mapping[str, str]:
    """One event of unit NUMBER (``uNUMBER.cu``), at so many seconds since the beginning."""
    values: dict[str, object] = {"what": what, "unit": unit, "at": f"{ZERO + at:.3f}"}
    if what == "queued":
        values |= {"name": f"u{unit}.cu", "kind": "nvcc", "key": f"k{unit}", "pid": 100 + unit, "order": unit}
    if what == "ended":
        values |= {"code": 0, "signal": 0}
    return {key: str(value) for key, value in {**values, **more}.items()}


def ran(unit: int, queued: float, start: float, end: float, **more: object) -> list[Mapping[str, str]]:
    """A unit from its place in line to its end."""
    named = {key: more.pop(key) for key in ("name", "kind") if key in more}
    return [
        event("queued", queued, unit, **named),
        event("started", start, unit, bound=2 * GIB, source="seen"),
        event("ended", end, unit, **{"peak": GIB, "cpu": 1.5, **more}),
    ]


def memory(at: float, units: int, budget: int = 4 * GIB, *, running: int = 1, waiting: int = 0) -> Mapping[str, str]:
    return event(
        "memory", at, units=units, budget=budget, available=budget - units, limit=8 * GIB, running=running,
        waiting=waiting, pool="MemTotal", safe=2,
    )  # fmt: skip


def trace_of(events: Iterable[Mapping[str, str]], *, seconds: float, complete: bool = True, jobs: int = 4) -> Trace:
    """What a build that took so long leaves; a sample of its tree each second."""
    clock = Clock()
    kept = recorder(clock, jobs=jobs)
    for one in sorted(events, key=lambda one: float(one["at"])):
        kept.hear(one)
    for second in range(int(seconds)):
        clock.now = ZERO + second
        kept.sample(Sample(memory=GIB, cpu_seconds=2.0 * second, processes=3, elapsed=float(second)))
    clock.now = ZERO + seconds
    return kept.trace(complete=complete)
