"""How long builds take under the broker's schedule, against static numbers of jobs and the lower bound (simulated).

python benchmarks/schedule.py                       made-up builds with heavy-tailed peaks
python benchmarks/schedule.py TRACE [EARLIER]       a traced build (CACHE/store/traces/BUILD.json); its bounds are
                                                    those of EARLIER, an earlier build of the same package
    --memory 4GiB --cores 2 --speed 1,0.93          what it was recorded with: the prediction is compared
"""

from __future__ import annotations

import argparse
import os
import random
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common import show

from buildkit.guard.profile import with_margin
from buildkit.guard.replay import intervals_of, jobs_of, recorded_seconds
from buildkit.guard.schedule import line_length
from buildkit.guard.simulate import (
    Job,
    best_line,
    lower_bound,
    lucky_static,
    safe_static,
    simulate_broker,
    with_bounds,
)
from buildkit.guard.trace import Trace, read_trace

GIB = 1 << 30
MACHINES = ((2, 4), (2, 8), (8, 16), (8, 32), (16, 32), (16, 64), (32, 64), (32, 128))
"""Cores, and GiB that the build may use."""
UNITS = 96
SEEDS = 8


def heavy_tailed(seed: int, largest: float) -> list[Job]:
    """As measured packages are: most units at 0.6-1 GiB, a Pareto tail up to 9; large ones take longer.

    The bound is what a first build has taught: the peak of another run, 2 % off either way, and the margin.
    """
    chance = random.Random(seed)  # noqa: S311  (the same each time is the point)
    found = []
    for number in range(UNITS):
        gib = min(largest, 9.0, 0.6 * chance.paretovariate(1.1))
        seconds = min(95.0, chance.lognormvariate(2.5, 0.6)) * (0.6 + 0.2 * gib)
        peak = round(gib * GIB)
        found.append(Job(f"u{number}", seconds, peak, with_margin(round(peak * chance.uniform(0.98, 1.02)))))
    return found


def row(jobs: Sequence[Job], memory: int, cores: int, speed: Sequence[float]) -> dict[str, float]:
    """One build on one machine: seconds, and ratios to the safe static number and to the lower bound."""
    window = line_length(cores, memory)
    longest = best_line(jobs, budget=memory, cores=cores, window=window)
    ours = simulate_broker(jobs, budget=memory, cores=cores, window=window, longest_first=longest, speed=speed)
    safe_jobs, safe = safe_static(jobs, budget=memory, cores=cores, speed=speed)
    lucky_jobs, lucky = lucky_static(jobs, budget=memory, cores=cores, speed=speed)
    bound = lower_bound(jobs, budget=memory, cores=cores, speed=speed)
    return {
        "broker_seconds": ours.seconds,
        "to_safe_static": ours.seconds / safe.seconds,
        "to_lucky_static": ours.seconds / lucky.seconds,
        "to_lower_bound": ours.seconds / bound,
        "safe_jobs": safe_jobs,
        "lucky_jobs": lucky_jobs,
        "sent_back": ours.sent_back,
        "killed": ours.killed,
        "longest_first": longest,
    }


def made_up() -> None:
    """The table for heavy-tailed builds: medians over the seeds."""
    for cores, gib in MACHINES:
        rows = [row(heavy_tailed(seed, 0.85 * gib), gib * GIB, cores, (1.0,)) for seed in range(SEEDS)]
        medians = {key: round(statistics.median(one[key] for one in rows), 2) for key in rows[0]}
        show(benchmark="schedule", units=UNITS, cores=cores, memory_gib=gib, seeds=SEEDS, **medians)


def load(file: Path) -> Trace:
    """A trace that a build has left."""
    trace = read_trace(file.read_bytes())
    if trace is None:
        sys.exit(f"{file} is no trace of a build")
    return trace


def recorded(trace: Path, earlier: Path | None, memory: int, cores: int, speed: Sequence[float]) -> None:
    """What the simulator says of a recorded build on the machine it ran on, and on larger ones."""
    intervals = intervals_of(load(trace))
    jobs = jobs_of(intervals, speed)
    if earlier is not None:
        known = jobs_of(intervals_of(load(earlier)), speed)
        jobs = [replace(job, bound=with_margin(job.bound)) for job in with_bounds(jobs, known)]
        under = [job.peak / job.bound for job in jobs]
        show(benchmark="bounds", units=len(jobs), peak_to_bound_p99=round(sorted(under)[int(0.99 * len(under))], 3))
    measured = recorded_seconds(intervals)
    found = row(jobs, memory, cores, speed)
    show(
        benchmark="prediction", cores=cores, memory_gib=round(memory / GIB, 2), measured_seconds=round(measured, 1),
        predicted_to_measured=round(found["broker_seconds"] / measured, 3),
    )  # fmt: skip
    for more in sorted({cores, 8, 16, 32}):
        found = row(jobs, memory * more // cores, more, speed)
        figures = {key: round(value, 2) for key, value in found.items()}
        show(benchmark="replay", cores=more, memory_gib=round(memory * more / cores / GIB, 2), **figures)


def size(text: str) -> int:
    """``4GiB`` in bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*GiB", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"not a size in GiB: {text}")
    return round(float(match[1]) * GIB)


def main(arguments: Sequence[str]) -> None:
    """Print one JSON line a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", nargs="?", type=Path)
    parser.add_argument("earlier", nargs="?", type=Path)
    parser.add_argument("--memory", type=size, default=4 * GIB)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--speed", type=lambda text: tuple(map(float, text.split(","))), default=(1.0,))
    chosen = parser.parse_args(arguments)
    if chosen.trace is None:
        made_up()
    else:
        recorded(chosen.trace, chosen.earlier, chosen.memory, chosen.cores, chosen.speed)


if __name__ == "__main__":
    main(sys.argv[1:])
