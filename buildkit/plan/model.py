"""The plan: all that determines a wheel, and how it will be made, as one value. Printed by ``--plan``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Outcome = Literal["hit", "superset", "miss", "unknown"]
CanaryPlan = Literal["hit", "miss", "off"]


class PlanModel(BaseModel):
    """Frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PlanSummary(PlanModel):
    """The ``plan`` object of ``cudabuild build --json``. Memory in bytes, times in seconds."""

    targets: tuple[str, ...]
    torch: str
    cuda: str | None
    python: str
    jobs: int
    memory_budget: int
    timeout: float
    stall_timeout: float
    toolkit: str | None
    compiler: str
    require: str
    canary: CanaryPlan | None = None
    """Whether the store has the kernel that is built before the package; None where nothing is compiled for CUDA."""
    expected_seconds: float | None
    notes: tuple[str, ...] = ()
    jobs_reason: str = ""
    timeout_reason: str = ""


class Prediction(PlanModel):
    """What the store says about a plan: hit or miss, and against which entry it was compared."""

    outcome: Outcome
    entry: str | None = None
    """Key of the entry that serves, or of the nearest one."""
    differs: tuple[str, ...] = ()
    note: str = ""
