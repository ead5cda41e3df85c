"""How many compilations at once: tables, and a sentence for each figure."""

from __future__ import annotations

import pytest

from buildkit.errors import TooLittleMemory
from buildkit.guard.budget import memory_budget, plan_jobs
from buildkit.machine.limits import Limits
from buildkit.machine.memory import reserve

GIB = 1 << 30
MIB = 1 << 20


def limits(total: float, available: float, source: str = "MemTotal") -> Limits:
    return Limits(
        cpus=8,
        cpu_source="affinity",
        memory=int(total * GIB),
        memory_available=int(available * GIB),
        memory_source=source,
    )


@pytest.mark.parametrize(
    ("total", "kept"),
    [(256.0, 12.8), (24.0, 1.2), (8.0, 0.5), (4.0, 0.5), (2.0, 0.25), (1.0, 0.125)],
)
def test_reserve(total: float, kept: float) -> None:
    assert reserve(int(total * GIB)) == pytest.approx(kept * GIB, abs=1)


@pytest.mark.parametrize(
    ("total", "available", "asked", "bytes_", "words"),
    [
        (8, 6, None, 5.5, "5.5 GiB: 6.0 GiB free of 8.0 GiB (MemTotal), 512 MiB kept in reserve"),
        (8, 6, 4, 4, "4.0 GiB: as asked for; 6.0 GiB free of 8.0 GiB (MemTotal), 512 MiB kept in reserve"),
        (8, 6, 7, 5.5, "5.5 GiB: less than the 7.0 GiB asked for; 6.0 GiB free"),
        (8, 0.25, None, 0, "0 MiB: 256 MiB free of 8.0 GiB"),
    ],
)
def test_budget(total: float, available: float, asked: float | None, bytes_: float, words: str) -> None:
    budget = memory_budget(limits(total, available), None if asked is None else int(asked * GIB))
    assert budget.bytes == bytes_ * GIB
    assert budget.reason.startswith(words)


def test_inside_a_limit_at_most_a_twentieth_is_kept() -> None:
    budget = memory_budget(limits(4, 4, "/sys/fs/cgroup/memory/x/memory.limit_in_bytes"), None)
    assert budget.bytes == 4 * GIB - 4 * GIB // 20
    assert "205 MiB kept in reserve" in budget.reason


@pytest.mark.parametrize(
    ("cpus", "budget", "requested", "jobs", "reason"),
    [
        (2, 22, None, 2, "2 at once: 2 processors (22.0 GiB of memory fits 8 of 2.5 GiB each)"),
        (16, 6, None, 2, "2 at once: 6.0 GiB of memory fits 2 of 2.5 GiB each (16 processors)"),
        (16, 6, 12, 2, "2 at once: 6.0 GiB of memory fits 2 of 2.5 GiB each (16 processors); 12 asked for"),
        (4, 40, 12, 4, "4 at once: 4 processors (40.0 GiB of memory fits 16 of 2.5 GiB each); 12 asked for"),
        (4, 40, 1, 1, "1 at once: as asked for; 4 processors, 40.0 GiB of memory fits 16 of 2.5 GiB each"),
        (1, 2.5, None, 1, "1 at once: 1 processor (2.5 GiB of memory fits 1 of 2.5 GiB each)"),
    ],
)
def test_jobs(cpus: int, budget: float, requested: int | None, jobs: int, reason: str) -> None:
    plan = plan_jobs(cpus=cpus, memory_budget=int(budget * GIB), memory_per_unit=int(2.5 * GIB), requested=requested)
    assert (plan.jobs, plan.reason) == (jobs, reason)


def test_less_than_one_unit_is_refused_with_the_figure_to_give() -> None:
    with pytest.raises(TooLittleMemory, match=r"1\.0 GiB is below the 2\.5 GiB") as caught:
        plan_jobs(cpus=4, memory_budget=GIB, memory_per_unit=int(2.5 * GIB), requested=1)
    assert caught.value.exit_code == 5
    assert "--memory 2560MiB" in caught.value.hint
