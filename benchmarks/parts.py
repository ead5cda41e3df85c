"""Small parts that every command pays for: ``python benchmarks/parts.py [N]``.

The least of N looks (default 20): loading a recipe, looking at what the system adds to a build, asking for GPUs on a
machine without a driver; and the share of one processor that the guard uses while it looks at a tree of 16 processes.
Exits with 1 if one is above its bound.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import ROOT, show

from buildkit.guard.supervise import run_guarded
from buildkit.machine.compiler import find_host_compiler
from buildkit.machine.gpus import visible_gpus
from buildkit.machine.identity import Memo
from buildkit.machine.interpreter import active_interpreter
from buildkit.machine.system_inputs import read_system_inputs
from buildkit.recipe.loader import bundled_recipes, load_recipe

SLEEPERS = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 9 & done; wait"


def least(clock: Callable[[], float], work: Callable[[], object], count: int) -> float:
    """Seconds by that clock; once before, for what is imported and remembered."""
    work()
    seconds = []
    for _ in range(count):
        began = clock()
        work()
        seconds.append(clock() - began)
    return min(seconds)


def share_of_looking(folder: Path) -> float:
    """Processor seconds of this process for each second that the guard watches."""
    used = time.process_time()
    outcome = run_guarded(
        ("sh", "-c", SLEEPERS), cwd=folder, env={"PATH": os.environ["PATH"]}, log=io.BytesIO(),
        deadline=time.monotonic() + 3, stall=None, writable=[folder], protected=[], scratch=None,
        on_line=lambda _line: None, on_sample=lambda _sample: None,
    )  # fmt: skip
    return (time.process_time() - used) / outcome.seconds


def main() -> int:
    """Measure and judge."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory(prefix="parts-") as name:
        folder = Path(name)
        memo = Memo(folder / "memo")
        compiler = find_host_compiler(os.environ, memo)
        python = active_interpreter(Path(sys.executable), os.environ, ROOT, memo)
        recipe = bundled_recipes() / "cumcubes"
        no_driver = {"PATH": name}
        rows = [
            ("load a recipe, s", least(time.perf_counter, lambda: load_recipe(recipe), count), 0.015),
            ("what the system adds, processor s",
             least(time.process_time, lambda: read_system_inputs(python, compiler, memo), count), 0.020),
            ("GPUs without a driver, s", least(time.perf_counter, lambda: visible_gpus(no_driver, root=folder), count),
             0.030),
            ("guard's look at 16 processes, share of a processor", share_of_looking(folder), 0.05),
        ]  # fmt: skip
    for what, value, bound in rows:
        show(what=what, value=round(value, 5), bound=bound, passed=value <= bound)
    return 0 if all(value <= bound for _, value, bound in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
