"""How fast a package with a few huge units builds under a memory limit: ``python benchmarks/admission.py --help``.

The package (:mod:`hungry`) has a tail that lets no second unit of its size fit: the best static number of jobs that is
safe is 1. In turn, order swapped: a build with that static number (CUDABUILD_GUARD=off --jobs 1), a first build
(nothing learned) and a second one, each inside the limit, from the backend's start to the wheel file. Printed are the
seconds, the ratios to the static build, the kernel's kills; then what the simulator predicts of the second build with
the bounds of the first, against what was measured.

    python benchmarks/admission.py --memcap .../memcap.py --pairs 3
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common import TORCH, clean_environment, forget, make_context, script, show
from hungry import Hungry, write_package
from memory import TARGET, Run, end, start, unlearn
from schedule import load, recorded

CAP = 4
NAME = "hungrytail"
UNITS = (*[Hungry(0.75, twice=True)] * 3, Hungry(3.1), *[Hungry(0.75, twice=True)] * 4, Hungry(3.1),
         *[Hungry(0.75, twice=True)] * 3)  # fmt: skip
LIMIT = 0.80
"""Of the static build's time, for the second build."""


def build(memcap: Path, source: Path, *words: str, **environment: str) -> Run:
    """One build inside the limit; it must succeed."""
    forget(NAME)
    command = [script(), "build", str(source), "--target", TARGET, "--torch", TORCH, "--json", *words]
    done = end(start(memcap, CAP, command, {**clean_environment(), **environment}))
    if done.kernel["exit"] != 0 or done.kernel["kills"]:
        sys.exit(f"{words}: {done.kernel}\n{done.err[-2000:]}")
    return done


def seconds(done: Run) -> float:
    """From the backend's start to its wheel."""
    stages: dict[str, float] = {stage["name"]: stage["seconds"] for stage in done.answer["verdict"]["stages"]}
    return stages["build"]


def keep_trace(done: Run, place: Path) -> Path:
    """A copy of the build's trace: its own goes with its wheel."""
    return Path(shutil.copy(make_context().store.root / "traces" / f"{done.answer['build']}.json", place))


def predict(first: Path, second: Path, speed: Sequence[float]) -> None:
    """What the simulator says of the second build, knowing no more than the first had taught."""
    budgets = [point.budget for point in load(second).memory]
    recorded(second, first, round(statistics.median(budgets)), os.cpu_count() or 1, speed)


def pair(memcap: Path, source: Path, speed: Sequence[float], *, swapped: bool) -> dict[str, float]:
    """Static, first and second build; ``swapped``: static last."""
    found: dict[str, float] = {}

    def static() -> None:
        found["static"] = seconds(build(memcap, source, "--jobs", "1", CUDABUILD_GUARD="off"))

    def ours() -> None:
        unlearn(NAME)
        first = build(memcap, source)
        before = keep_trace(first, source.parent / "first.json")
        second = build(memcap, source)
        predict(before, keep_trace(second, source.parent / "second.json"), speed)
        found["first"], found["second"] = seconds(first), seconds(second)
        found["requeued"] = second.answer["guard"]["requeued"]

    for step in (ours, static) if swapped else (static, ours):
        step()
    return found


def main() -> int:
    """Measure and print; 1 when the median ratio of the second build passes the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memcap", type=Path, required=True, help="the program that runs a command below a limit")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--speed", type=lambda text: tuple(map(float, text.split(","))), default=(1.0, 0.93),
                        help="of one unit with 1, 2, ... beside each other")  # fmt: skip
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="admission-"))
    try:
        source = write_package(folder, NAME, UNITS)
        rows = [pair(chosen.memcap, source, chosen.speed, swapped=number % 2 == 1) for number in range(chosen.pairs)]
    finally:
        shutil.rmtree(folder)
    for row in rows:
        show(cap_gib=CAP, units=len(UNITS) + 1, first_ratio=round(row["first"] / row["static"], 3),
             second_ratio=round(row["second"] / row["static"], 3), **row)  # fmt: skip
    ratios = {name: statistics.median(row[name] / row["static"] for row in rows) for name in ("first", "second")}
    show(what="to the best safe static number of jobs (1)", **{name: round(value, 3) for name, value in ratios.items()})
    return int(ratios["second"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
