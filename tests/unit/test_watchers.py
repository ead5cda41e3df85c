"""What is done with a backend's lines and samples: units are counted, and the canary's first failure ends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from buildkit.build.context import Context
from buildkit.build.frontend import GuardReport
from buildkit.build.places import Places
from buildkit.build.watchers import watchers
from buildkit.errors import BuildFailed
from buildkit.guard.protocol import Sample
from buildkit.progress import Silent

SAMPLE = Sample(memory=1, cpu_seconds=1.0, processes=1, elapsed=1.0)


def watched(*, hasty: bool) -> tuple[Any, Any, GuardReport]:
    nothing = cast(Any, None)
    context = Context(Places(Path("/c")), nothing, nothing, nothing, Silent(), {}, Path("/c"))
    report = GuardReport()
    return (*watchers(context, report, hasty=hasty), report)


def test_units_are_those_that_ninja_announces() -> None:
    on_line, _on_sample, report = watched(hasty=False)
    for line in ("[1/5] Building CUDA object a.cu.o", "x [9/9]", "[2/7] Linking"):
        on_line(line)
    assert report.units == 7


def test_the_canary_ends_with_its_first_failure_once_the_compilers_lines_are_there() -> None:
    on_line, on_sample, _report = watched(hasty=True)
    on_line("[1/5] Building CUDA object a.cu.o")
    for _ in range(3):
        on_sample(SAMPLE)
    on_line("FAILED: [code=2] a.cu.o")
    on_sample(SAMPLE)
    with pytest.raises(BuildFailed, match="a compilation failed"):
        on_sample(SAMPLE)


def test_a_package_goes_on_to_its_backends_own_end() -> None:
    on_line, on_sample, _report = watched(hasty=False)
    on_line("FAILED: a.cu.o")
    for _ in range(5):
        on_sample(SAMPLE)
