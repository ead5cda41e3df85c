"""A build's trace in a few figures and sentences (pure): what it took, what bounded it, what would help."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.guard.trace import Trace, UnitTrace
from buildkit.report.critical import CriticalPath, critical_path

BOUNDS = 0.5
"""Share of the critical path from which on one compilation is said to bound the build."""
_NOTICED = 0.1
"""Share of the path from which on waiting, or what was thrown away, is worth a sentence."""


@dataclass(frozen=True)
class Summary:
    """Seconds, bytes, counts. ``share``: of the critical path, that the longest compilation takes there."""

    path: CriticalPath
    longest: UnitTrace | None
    share: float
    units: int
    done: int
    running: int
    waiting: int
    kills: int
    thrown_away: float
    """Seconds of runs that were ended and made again."""
    together: int
    """The most compilations that ran at once."""
    peak: int
    """The most memory that all held together."""
    budget: int
    """The least that they could hold."""
    cpu: float
    advice: tuple[str, ...]


def summarise(trace: Trace) -> Summary:
    """The summary of what is known so far."""
    path = critical_path(trace.units)
    longest = max((unit for unit in trace.units if unit.seconds > 0), key=lambda unit: unit.seconds, default=None)
    share = path.seconds_of(longest) / path.seconds if longest is not None and path.seconds > 0 else 0.0
    last = [unit.runs[-1].outcome for unit in trace.units]
    return Summary(
        path=path,
        longest=longest,
        share=min(1.0, share),
        units=len(trace.units) + trace.left_out,
        done=last.count("done"),
        running=last.count("running"),
        waiting=last.count("waiting"),
        kills=sum(unit.kills for unit in trace.units),
        thrown_away=_thrown_away(trace),
        together=_together(trace),
        peak=_peak(trace),
        budget=min((point.budget for point in trace.memory), default=trace.planned),
        cpu=trace.tree[-1].cpu if trace.tree else sum(unit.cpu for unit in trace.units),
        advice=tuple(_advice(trace, path, longest, share)),
    )


def _thrown_away(trace: Trace) -> float:
    return sum(run.seconds for unit in trace.units for run in unit.runs if run.outcome == "killed")


def _together(trace: Trace) -> int:
    """One that starts when another ends does not run beside it."""
    runs = [run for unit in trace.units for run in unit.runs if run.start is not None]
    edges = [(run.start or 0.0, 1) for run in runs] + [(run.end, -1) for run in runs if run.end is not None]
    most = now = 0
    for _at, step in sorted(edges):
        now += step
        most = max(most, now)
    return most


def _peak(trace: Trace) -> int:
    """By the broker's looks, and by each one's own peak; without the broker that of all processes."""
    if trace.admitted:
        return max([point.units for point in trace.memory] + [unit.peak for unit in trace.units], default=0)
    return max((point.memory for point in trace.tree), default=0)


def _advice(trace: Trace, path: CriticalPath, longest: UnitTrace | None, share: float) -> list[str]:
    found = []
    own = backend_seconds(trace, path)
    if longest is not None and len(trace.units) > 1 and share >= BOUNDS and own < BOUNDS * trace.seconds:
        found.append(
            f"{longest.name} bounds this build: it is {share:.0%} of the critical path, and more cores or memory do "
            "not make it shorter. Fewer --target values do, or dividing that file into several."
        )
    if path.seconds and path.waited >= _NOTICED * path.seconds:
        found.append(
            f"Compilations on the critical path stood in line for {path.waited:.0f} s: more memory or more cores would "
            "let them start earlier."
        )
    if path.seconds and (lost := _thrown_away(trace)) >= _NOTICED * path.seconds:
        found.append(
            f"{lost:.0f} s went into runs that were ended and made again: the next build knows what they take, and "
            "does not start them side by side."
        )
    if _serial(trace, path):
        found.append(
            "The backend starts one compilation at a time, whatever it is allowed: the order of its calls bounds this "
            "build, not memory."
        )
    if path.seconds and own >= BOUNDS * trace.seconds:
        found.append(
            f"{own:.1f} s of {trace.seconds:.1f} s are the backend's own, before, between and after its compilations: "
            "faster compilations would not help much."
        )
    return found


def backend_seconds(trace: Trace, path: CriticalPath) -> float:
    """Seconds in which nothing on the critical path ran or stood in line."""
    return max(0.0, trace.seconds - path.seconds + path.backend)


def _serial(trace: Trace, path: CriticalPath) -> bool:
    """Several, never two at once, though nothing stood in line."""
    ended = [unit for unit in trace.units if unit.seconds > 0]
    return len(ended) > 2 and trace.jobs > 1 and _together(trace) == 1 and path.waited < _NOTICED * path.seconds
