"""The verdict: which stages a wheel went through, how each ended, on what evidence, and the grade that gives.

Neither the grade nor a target's row is ever set by hand: both follow from the stages. Code that was inspected is not
called executed; ``executed`` needs the package's own probe on a GPU, with kernels seen that are the package's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from buildkit.errors import BelowRequirement
from buildkit.verify.coverage import TargetRow, rows_of

Grade = Literal["none", "built", "audited", "imported", "executed"]
Outcome = Literal["passed", "failed", "not-executed"]
StageName = Literal["canary", "build", "audit", "import", "smoke", "probe", "app"]
GRADES: tuple[Grade, ...] = ("none", "built", "audited", "imported", "executed")

SCHEMA = 2
"""1 knew no rows, and took a passed smoke stage for "executed"."""

_CHAIN: tuple[tuple[StageName, Grade], ...] = (("build", "built"), ("audit", "audited"), ("import", "imported"))
_BEFORE = ("canary", "build")
"""Stages of making a wheel: a proof that is done later does not have them."""


class Stage(BaseModel):
    """One stage of making or proving a wheel, in the order in which they were gone through."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: StageName = Field(description="`canary`, `build`, `audit`, `import`, `smoke`, `probe` or `app`.")
    outcome: Outcome = Field(description="`passed`, `failed`, or `not-executed` where it could not be done here.")
    seconds: float = Field(ge=0.0, description="How long it took.")
    evidence: dict[str, Any] = Field({}, description="What it found; its keys depend on the stage.")
    detail: str = Field("", description="Why it failed or was not executed, or what is worth knowing of it.")


class Verdict(BaseModel):
    """What is proven of one wheel file, and of what it is true. A wheel that was executed on several GPUs has a
    ``probe`` stage for each."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    schema_: Literal[2] = Field(default=2, alias="schema", description="Version of the verdict: 2.")
    grade: Grade = Field(
        description="`none`, `built`, `audited`, `imported` or `executed`: it follows from the stages."
    )
    stages: tuple[Stage, ...] = Field(description="See below.")
    wheel_sha256: str = Field(description="The bytes that it is about.")
    device: Literal["cuda", "cpu"] = Field(description="What it was built for.")
    targets: tuple[str, ...] = Field((), description="What was asked to be in it.")
    rows: tuple[TargetRow, ...] = Field((), description="For each target what is there and what ran. See below.")
    python: str = Field("", description="ABI of the Python that it was proven with, such as `cp311`.")
    torch: str = Field(description="The torch that it was proven with.")
    torch_record_sha256: str = Field("", description="Hash of that torch's RECORD.")
    recipe: str = Field("", description="Whose checks these were.")
    recipe_sha256: str = Field("", description="Hash of that recipe.")
    probe_sha256: str | None = Field(None, description="Hash of its probe; null where it has none.")
    capability: str | None = Field(None, description="Of the GPU it was executed on (the last one); null: on none.")

    @model_validator(mode="after")
    def _all_follows(self) -> Self:
        if self.grade != grade_of(self.stages):
            raise ValueError(f"grade {self.grade} does not follow from the stages ({grade_of(self.stages)} does)")
        if self.rows != _rows(self.targets, self.stages):
            raise ValueError("the targets' rows do not follow from the stages")
        if self.capability not in (executed_on(self.stages) or (None,)):
            raise ValueError(f"it was never executed on {self.capability}")
        return self


def grade_of(stages: Iterable[Stage]) -> Grade:
    """The furthest grade whose stage and all before it passed.

    A wheel that came from elsewhere has no build stage: that there are other stages shows that it exists.
    ``executed`` needs a probe that :func:`ran_on_gpu`, and no stage that failed; the smoke stage proves the toolchain,
    and counts for nothing here.
    """
    every = tuple(stages)
    if not every:
        return "none"
    reached: Grade = "none"
    for name, grade in _CHAIN:
        outcomes = [stage.outcome for stage in every if stage.name == name] or (["passed"] if name == "build" else [])
        if not outcomes or any(outcome != "passed" for outcome in outcomes):
            return reached
        reached = grade
    return "executed" if executed_on(every) and all(stage.outcome != "failed" for stage in every) else reached


def ran_on_gpu(stage: Stage) -> bool:
    """Whether a stage is a passed probe that names its GPU, and kernels in the package's own objects that ran there."""
    evidence = stage.evidence
    kernels = evidence.get("kernels")
    return (
        stage.name == "probe"
        and stage.outcome == "passed"
        and bool(evidence.get("device"))
        and bool(evidence.get("capability"))
        and isinstance(kernels, (list, tuple))
        and any(isinstance(each, Mapping) and each.get("object") and each.get("launches") for each in kernels)
    )


def executed_on(stages: Iterable[Stage]) -> tuple[str, ...]:
    """The compute capabilities of the GPUs that ran it, the last one first."""
    found = [str(stage.evidence["capability"]) for stage in stages if ran_on_gpu(stage)]
    return tuple(dict.fromkeys(reversed(found)))


def make_verdict(stages: Sequence[Stage], **facts: Any) -> Verdict:
    """A verdict whose grade and rows follow from its stages; ``facts`` are the other fields of :class:`Verdict`."""
    capability = next(iter(executed_on(stages)), None)
    rows = _rows(facts.get("targets", ()), stages)
    return Verdict(grade=grade_of(stages), stages=tuple(stages), rows=rows, capability=capability, **facts)


def _rows(targets: Sequence[str], stages: Sequence[Stage]) -> tuple[TargetRow, ...]:
    audit = next((stage.evidence for stage in stages if stage.name == "audit"), {})
    return rows_of(targets, audit, [stage.evidence for stage in stages if ran_on_gpu(stage)])


def read_verdict(value: Mapping[str, Any]) -> Verdict | None:
    """A verdict as it was stored; None for one of another schema, or that does not hold together: prove it again."""
    try:
        return Verdict.model_validate(value)
    except (ValidationError, LookupError, TypeError, ValueError):
        return None


def is_current(value: Mapping[str, Any]) -> bool:
    """Whether a stored verdict says that it is of this schema: one that does and cannot be read is no older one."""
    return value.get("schema") == SCHEMA


def stored_grade(value: Mapping[str, Any]) -> Grade:
    """The grade that a stored verdict is worth telling people: what it said in an older schema, ``none`` where it does
    not hold together."""
    verdict = read_verdict(value)
    if verdict is not None or is_current(value):
        return verdict.grade if verdict is not None else "none"
    return next((grade for grade in GRADES if grade == value.get("grade")), "none")


def merged(old: Verdict, new: Verdict) -> Verdict:
    """The new verdict with what only the old one shows of the same bytes: how they were made, what GPUs ran them.

    Runs count on only for the same torch, targets and probe.
    """
    if old.wheel_sha256 != new.wheel_sha256:
        return new
    made = [stage for stage in old.stages if stage.name in _BEFORE and not _has(new, stage.name)]
    same = all(getattr(old, name) == getattr(new, name) for name in _KEPT if not name.startswith("recipe"))
    ran = [stage for stage in old.stages if same and ran_on_gpu(stage) and not _again(stage, new)]
    own = [stage for stage in new.stages if not (ran and stage.name == "probe" and stage.outcome == "not-executed")]
    later = [stage for stage in own if stage.name in ("probe", "app")]
    before = [stage for stage in own if stage not in later]
    return with_stages(new, [*made, *before, *ran, *later])


def raised(old: Verdict | None, new: Verdict) -> Verdict | None:
    """What to keep of the same wheel in place of ``old``; None where the new verdict shows nothing more, or less."""
    if old is None:
        return new
    best = merged(old, new)
    return None if best == old or not meets(best.grade, old.grade) else best


def with_stages(verdict: Verdict, stages: Sequence[Stage]) -> Verdict:
    """A verdict about the same, from other stages."""
    return make_verdict(stages, **{name: getattr(verdict, name) for name in _KEPT})


_KEPT = (
    "wheel_sha256", "device", "targets", "python", "torch", "torch_record_sha256", "recipe", "recipe_sha256",
    "probe_sha256",
)  # fmt: skip


def _has(verdict: Verdict, name: str) -> bool:
    return any(stage.name == name for stage in verdict.stages)


def _again(stage: Stage, verdict: Verdict) -> bool:
    """Whether the verdict's own probe ran (or failed) on a GPU of the same capability."""
    capability = stage.evidence["capability"]
    probes = (other for other in verdict.stages if other.name == "probe" and other.outcome != "not-executed")
    return any(other.evidence.get("capability") == capability for other in probes)


def meets(grade: Grade, require: Grade) -> bool:
    """Whether a grade is at least the one required."""
    return GRADES.index(grade) >= GRADES.index(require)


def check_requirement(verdict: Verdict, require: Grade) -> None:
    """Raise :class:`BelowRequirement` unless the verdict's grade is at least ``require``."""
    if meets(verdict.grade, require):
        return
    stage = next((stage for stage in verdict.stages if stage.outcome != "passed" and stage.name != "canary"), None)
    busy = stage is not None and stage.detail.startswith("busy")
    accept = f"to accept what can be shown here: --require {verdict.grade}" if verdict.grade != "none" else ""
    raise BelowRequirement(
        f"the wheel is proven as far as {verdict.grade!r}; {require!r} is required",
        evidence=f"{stage.name}: {stage.detail}" if stage else "",
        hint=f"free the GPU and run the same command again (the wheel is kept), or {accept}" if busy else accept,
    )


def valid_here(
    verdict: Verdict, *, require: Grade, torch: str, torch_record_sha256: str, capabilities: Iterable[str] = ()
) -> bool:
    """Whether a stored verdict still counts on this machine.

    Its grade suffices, torch is the very same, and where ``executed`` is required, a GPU of a compute capability that
    it was executed on is here (``capabilities`` are texts like ``"12.0"``).
    """
    same_torch = (verdict.torch, verdict.torch_record_sha256) == (torch, torch_record_sha256)
    same_gpu = require != "executed" or not set(executed_on(verdict.stages)).isdisjoint(capabilities)
    return meets(verdict.grade, require) and same_torch and same_gpu
