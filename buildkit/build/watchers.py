"""What is done with what a running backend prints and uses: progress for people, and an early end for the canary."""

from __future__ import annotations

import re
from collections.abc import Callable

from buildkit.build.context import Context
from buildkit.build.frontend import GuardReport
from buildkit.errors import BuildFailed
from buildkit.guard.protocol import Sample

NINJA = re.compile(r"^\[(\d+)/(\d+)\]")
"""ninja's status: units done of units known."""


def watchers(
    context: Context, report: GuardReport, *, hasty: bool
) -> tuple[Callable[[str], None], Callable[[Sample], None]]:
    """What is done with each line and sample. ``hasty``: the first compilation that fails ends the others."""
    failed, since_failure = False, 0

    def on_line(line: str) -> None:
        nonlocal failed
        failed = failed or line.startswith("FAILED: ")
        status = NINJA.match(line)
        if status is not None:
            report.units = max(report.units, int(status[2]))
            context.reporter.units(int(status[1]), int(status[2]))
        context.reporter.line(line)

    def on_sample(sample: Sample) -> None:
        nonlocal since_failure
        context.reporter.gauge(memory=sample.memory, elapsed=sample.elapsed)
        since_failure += hasty and failed
        if since_failure > 1:  # by then the compiler's lines have come, which ninja prints after its own
            raise BuildFailed("a compilation failed, and the others were ended")

    return on_line, on_sample
