"""The verdict: which stages a wheel went through, how each ended, on what evidence, and the grade that gives.

The grade is never set by hand: it follows from the stages. Code that was inspected is not called executed;
``executed`` needs a stage that ran on a GPU and says on which.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from buildkit.errors import BelowRequirement

Grade = Literal["none", "built", "audited", "imported", "executed"]
Outcome = Literal["passed", "failed", "not-executed"]
GRADES: tuple[Grade, ...] = ("none", "built", "audited", "imported", "executed")

_CHAIN: tuple[tuple[str, Grade], ...] = (("build", "built"), ("audit", "audited"), ("import", "imported"))
_EXECUTING = ("probe", "smoke")
_DEVICE = "device_uuid"


class Stage(BaseModel):
    """One stage: its name, how it ended, how long it took (seconds), and what it found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    outcome: Outcome
    seconds: float = Field(ge=0.0)
    evidence: dict[str, Any] = {}
    detail: str = ""


class Verdict(BaseModel):
    """What is proven of one wheel file, and of what it is true.

    ``device`` is what was asked for; ``targets`` what was asked to be in it; ``torch`` is torch's version with
    the hash of its RECORD; ``capability`` that of the GPU it was executed on. The recipe's and the probe's
    hashes say which checks these were.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    schema_: Literal[1] = Field(default=1, alias="schema")
    grade: Grade
    stages: tuple[Stage, ...]
    wheel_sha256: str
    device: Literal["cuda", "cpu"]
    targets: tuple[str, ...] = ()
    python: str = ""
    torch: str
    torch_record_sha256: str = ""
    recipe: str = ""
    recipe_sha256: str = ""
    probe_sha256: str | None = None
    capability: str | None = None

    @model_validator(mode="after")
    def _grade_follows(self) -> Self:
        if self.grade != grade_of(self.stages):
            raise ValueError(f"grade {self.grade} does not follow from the stages ({grade_of(self.stages)} does)")
        return self


def grade_of(stages: Iterable[Stage]) -> Grade:
    """The furthest grade whose stage and all before it passed.

    A wheel that came from elsewhere has no build stage: that there are other stages shows that it exists.
    ``executed`` needs a passed probe (or smoke stage, where the wheel has no probe that did not pass) whose
    evidence names the GPU under ``device_uuid``.
    """
    outcomes: dict[str, Stage] = {stage.name: stage for stage in stages}
    if not outcomes:
        return "none"
    reached: Grade = "none"
    for name, grade in _CHAIN:
        stage = outcomes.get(name)
        passed = stage.outcome == "passed" if stage is not None else name == "build"
        if not passed:
            return reached
        reached = grade
    executing = [outcomes[name] for name in _EXECUTING if name in outcomes]
    return "executed" if executing and _executed(executing) else reached


def _executed(stages: Sequence[Stage]) -> bool:
    """The first of these (the probe, where there is one) ran on a named GPU, and none failed."""
    ran = stages[0].outcome == "passed" and bool(stages[0].evidence.get(_DEVICE))
    return ran and all(stage.outcome != "failed" for stage in stages)


def make_verdict(stages: Sequence[Stage], **facts: Any) -> Verdict:
    """A verdict whose grade follows from its stages; ``facts`` are the other fields of :class:`Verdict`."""
    return Verdict(grade=grade_of(stages), stages=tuple(stages), **facts)


def meets(grade: Grade, require: Grade) -> bool:
    """Whether a grade is at least the one required."""
    return GRADES.index(grade) >= GRADES.index(require)


def check_requirement(verdict: Verdict, require: Grade) -> None:
    """Raise :class:`BelowRequirement` unless the verdict's grade is at least ``require``."""
    if meets(verdict.grade, require):
        return
    reason = next((f"{stage.name}: {stage.detail}" for stage in verdict.stages if stage.outcome != "passed"), "")
    raise BelowRequirement(
        f"the wheel is proven as far as {verdict.grade!r}; {require!r} is required",
        evidence=reason,
        hint=f"to accept what can be shown here: --require {verdict.grade}" if verdict.grade != "none" else "",
    )


def valid_here(
    verdict: Verdict, *, require: Grade, torch: str, torch_record_sha256: str, capabilities: Iterable[str] = ()
) -> bool:
    """Whether a stored verdict still counts on this machine.

    Its grade suffices, torch is the very same, and where ``executed`` is required, a GPU of that compute
    capability is here (``capabilities`` are texts like ``"12.0"``).
    """
    same_torch = (verdict.torch, verdict.torch_record_sha256) == (torch, torch_record_sha256)
    same_gpu = require != "executed" or verdict.capability in tuple(capabilities)
    return meets(verdict.grade, require) and same_torch and same_gpu
