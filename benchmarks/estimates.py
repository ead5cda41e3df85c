"""How far learned bounds were below what was then taken: ``python benchmarks/estimates.py [TRACES [SMALLEST]]``.

Reads the traces that builds have left (default: those of the benchmarks' cache), takes every run that was let start by
a bound `seen` in an earlier build and came to its end, and prints the 50th and 99th percentile and the most of the
under-prediction, (peak - bound) / peak, which is 0 where the bound held; and the median of bound / peak, which is what
caution costs. SMALLEST (default 100) leaves out runs below so many MiB, whose errors no machine feels.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from common import cache_folder, show

from buildkit.guard.trace import read_trace


def percentile(values: list[float], share: float) -> float:
    """The least value that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> int:
    """Read, and print one line."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else cache_folder() / "store" / "traces"
    smallest = int(sys.argv[2]) << 20 if len(sys.argv) > 2 else 100 << 20
    traces = [trace for path in sorted(folder.glob("*.json")) if (trace := read_trace(path.read_bytes()))]
    under, ratios, builds = [], [], 0
    for trace in traces:
        runs = [run for unit in trace.units for run in unit.runs if run.source == "seen" and run.outcome == "done"]
        large = [run for run in runs if run.peak >= smallest]
        under += [max(0.0, (run.peak - run.bound) / run.peak) for run in large]
        ratios += [run.bound / run.peak for run in large]
        builds += bool(large)
    if not under:
        sys.exit(f"{folder} has no trace of a second build")
    show(
        what="under-prediction of learned bounds", builds=builds, runs=len(under), over_zero=sum(v > 0 for v in under),
        p50=round(percentile(under, 0.5), 4), p99=round(percentile(under, 0.99), 4), most=round(max(under), 4),
        median_bound_to_peak=round(statistics.median(ratios), 3),
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
