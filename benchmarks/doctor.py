"""``cudabuild doctor``, the whole command, median of N: ``python benchmarks/doctor.py [N] [RECIPE]``.

It is timed as a person runs it: after the first time, which remembers what compilers, toolkits and the interpreter said
of themselves. What it imports is counted apart, by ``-X importtime``. Exits with 1 above its bound, or where torch was
imported.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time

from common import ROOT, clean_environment, script, show

LONGEST = 1.0
"""Seconds that it may take."""


def main() -> int:
    """Time it, and look at what it imports."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    words = ["doctor", *sys.argv[2:3], "--target", "8.6"]
    environment = clean_environment()
    times = [seconds([script(), *words], environment) for _ in range(count + 1)][1:]
    command = [sys.executable, "-X", "importtime", "-m", "buildkit", *words]
    told = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False).stderr
    rows = re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)$", told, re.MULTILINE)
    median = statistics.median(times)
    with_torch = any(name.partition(".")[0] == "torch" for _, name in rows)
    passed = median <= LONGEST and not with_torch
    show(what="doctor", runs=count, median_s=round(median, 3), bound_s=LONGEST, all=[round(one, 3) for one in times])
    show(
        what="imports of doctor",
        modules=len(rows),
        seconds=round(sum(int(own) for own, _ in rows) / 1e6, 3),
        torch=with_torch,
        passed=passed,
    )
    return 0 if passed else 1


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Of one run. The exit code is the machine's matter, not this benchmark's."""
    started = time.monotonic()
    subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=False)
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
