"""How long a matrix takes when its longest cells go first, by estimates of an earlier run: recorded times, replayed.

python benchmarks/matrix_makespan.py [--slots 4] [--replays 200] [--times FILE]

`matrix_times.json` holds, for 24 wheels, what each of their recorded builds took (its `source` says where and when). A
replay takes two builds of each wheel that followed each other: the earlier one is the estimate, the later one is what
the cell takes now. Beside the lower bound (all work over all slots, and the longest cell) stands the order in which the
cells happen to come, which is Dask's. The first replay is of the last two builds, cells by name; the others are drawn.

One JSON line; exit code 1 where a replay takes more than 1.1 of the lower bound.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from common import show

from buildkit.matrix.schedule import longest_first, lower_bound, makespan

BOUND = 1.1
TIMES = Path(__file__).with_name("matrix_times.json")


def replay(cells: Sequence[tuple[str, Sequence[float]]], slots: int, seed: int) -> tuple[float, float]:
    """Ratios to the lower bound: the longest first by estimates, and as they come. Seed 0: the last two builds."""
    chance = random.Random(seed)  # noqa: S311  (the same each time is the point)
    estimates, seconds = {}, {}
    for name, recorded in cells:
        later = chance.randrange(1, len(recorded)) if seed else len(recorded) - 1
        estimates[name], seconds[name] = recorded[later - 1], recorded[later]
    order = sorted(seconds)
    if seed:
        chance.shuffle(order)
    bound = lower_bound(seconds, slots)
    longest = longest_first(order, estimates)
    return makespan(longest, seconds, slots) / bound, makespan(order, seconds, slots) / bound


def spread(ratios: Sequence[float]) -> dict[str, float]:
    """The first, the median and the worst."""
    return {
        "last_two": round(ratios[0], 3), "median": round(statistics.median(ratios), 3), "worst": round(max(ratios), 3)
    }  # fmt: skip


def main() -> int:
    """Replay, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--times", type=Path, default=TIMES)
    options = parser.parse_args()
    cells = [(cell["cell"], cell["seconds"]) for cell in json.loads(options.times.read_text("utf-8"))["cells"]]
    ratios = [replay(cells, options.slots, seed) for seed in range(options.replays)]
    longest, plain = [one for one, _ in ratios], [other for _, other in ratios]
    show(
        cells=len(cells),
        slots=options.slots,
        replays=options.replays,
        bound=BOUND,
        longest_first=spread(longest),
        as_they_come=spread(plain),
    )
    return 0 if max(longest) <= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
