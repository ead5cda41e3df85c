"""For each target: is its code there, did it run, and as what. Pure: from the stages' evidence to rows.

What runs where is decided by one table (:func:`buildkit.machine.target.runs_on`): the driver takes the machine code
that fits the GPU best, and compiles PTX only where there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from buildkit.machine.target import Capability, Target, known_notation, runs_on
from buildkit.verify.device_code import ObjectCode, UnitCode
from buildkit.verify.judge import missing_in

By = Literal["sass", "ptx-jit"]
_SPECIFIC = {"": 0, "f": 1, "a": 2}


class Ran(BaseModel):
    """A GPU that ran a target's code: its machine code (``sass``), or what the driver made of its PTX (``ptx-jit``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: str = Field(description="Its name.")
    uuid: str = Field(description="Its UUID; empty where it has none (Jetson).")
    capability: str = Field(description="Its compute capability.")
    driver: str = Field(description="The driver's version; empty where it is not known.")
    by: By = Field(description="`sass`: the target's machine code. `ptx-jit`: its PTX, compiled by the driver.")


class TargetRow(BaseModel):
    """One target of a wheel: what of it is there, and whether it ran."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str = Field(description="As it was asked for, such as `8.6+PTX`.")
    sass: tuple[str, ...] = Field(description="Shared objects that hold its machine code in every unit.")
    ptx: tuple[str, ...] = Field(description="Shared objects that hold its PTX in every unit.")
    lacking: tuple[str, ...] = Field(description="Units with device code that lack what was asked for.")
    executed: bool = Field(description="Whether its code ever ran; code that is only present did not.")
    runs: tuple[Ran, ...] = Field(description="Where it ran. See below.")
    summary: str = Field(description="All of it in words.")


def image_for(elf: Iterable[Target], ptx: Iterable[Target], device: Capability) -> tuple[By, Target] | None:
    """What a GPU runs of one unit: the machine code that fits it best, else the newest PTX that it can compile."""
    fitting = [target.without_ptx for target in elf if runs_on(target.without_ptx, device)]
    if fitting:
        return "sass", max(fitting, key=_fit)
    compiled = [target.without_ptx for target in ptx if runs_on(target.with_ptx, device)]
    return ("ptx-jit", max(compiled, key=_fit)) if compiled else None


def _fit(target: Target) -> tuple[Capability, int]:
    return target.capability, _SPECIFIC[target.suffix]


def how_it_ran(code: ObjectCode, device: Capability) -> tuple[By, Target] | None:
    """What a GPU runs of an object; None where nothing of it can, or where its units differ in that."""
    found = {image_for(unit.elf, unit.ptx, device) for unit in code.units}
    return found.pop() if len(found) == 1 else None


def rows_of(
    targets: Sequence[str], audit: Mapping[str, Any], probes: Sequence[Mapping[str, Any]]
) -> tuple[TargetRow, ...]:
    """A row for each target: those asked for, else those held, and any other one that ran.

    ``audit`` is the evidence of the stage of that name, ``probes`` that of the probes that were executed.
    """
    objects = [object_of(facts) for facts in audit.get("objects", ())]
    ran = [(ran, _run(probe, ran)) for probe in probes for ran in probe.get("ran", ())]
    named = [known_notation(text) for text in targets or audit.get("targets", ())]
    plain = {target.without_ptx for target in named}
    also = {target for facts, _ in ran if (target := known_notation(facts["target"])) not in plain}
    return tuple(_row(target, objects, ran) for target in sorted([*named, *also]))


def object_of(facts: Mapping[str, Any]) -> ObjectCode:
    """A shared object's code from what :meth:`ObjectCode.evidence` wrote of it."""
    elf, ptx = _targets(facts["elf"]), _targets(facts["ptx"])
    units = tuple(UnitCode(u["unit"], _targets(u["elf"]), _targets(u["ptx"])) for u in facts.get("by_unit", ()))
    return ObjectCode(str(facts["path"]), elf, ptx, units or (UnitCode("every unit", elf, ptx),))


def _targets(texts: Iterable[str]) -> tuple[Target, ...]:
    return tuple(known_notation(text).without_ptx for text in texts)


def _run(probe: Mapping[str, Any], ran: Mapping[str, Any]) -> Ran:
    return Ran(
        gpu=probe["device"],
        uuid=probe.get("device_uuid", ""),
        capability=probe["capability"],
        driver=probe.get("driver", ""),
        by=ran["by"],
    )


def _row(target: Target, objects: Sequence[ObjectCode], ran: Sequence[tuple[Mapping[str, Any], Ran]]) -> TargetRow:
    plain = target.without_ptx
    holding = [entry for entry in objects if entry.elf or entry.ptx]
    runs = tuple(dict.fromkeys(run for facts, run in ran if known_notation(facts["target"]) == plain))
    sass = tuple(entry.path for entry in holding if all(plain in unit.elf for unit in entry.units))
    ptx = tuple(entry.path for entry in holding if all(plain in unit.ptx for unit in entry.units))
    return TargetRow(
        target=str(target),
        sass=sass,
        ptx=ptx,
        lacking=tuple(line for entry in holding for line in _lacking(entry, target)),
        executed=bool(runs),
        runs=runs,
        summary=_summary(plain, sass, ptx, runs),
    )


def _lacking(entry: ObjectCode, target: Target) -> list[str]:
    found = ((unit, missing_in(unit, (target,))) for unit in entry.units)
    return [f"{entry.path}: {unit.name} lacks {', '.join(missing)}" for unit, missing in found if missing]


def _summary(target: Target, sass: Sequence[str], ptx: Sequence[str], runs: Sequence[Ran]) -> str:
    if runs:
        return "; ".join(f"executed on {place(run)} {manner(run.by, target)}" for run in runs)
    kinds = [kind for kind, objects in (("machine code", sass), ("PTX", ptx)) if objects]
    return f"{' and '.join(kinds)} present, never executed" if kinds else "no code of it, never executed"


def place(run: Ran) -> str:
    """``NVIDIA H200 (9.0, driver 580.65)``."""
    return f"{run.gpu} ({', '.join([run.capability, *([f'driver {run.driver}'] if run.driver else [])])})"


def manner(by: By, target: Target) -> str:
    """``by SASS of 9.0``, ``by JIT from PTX of 8.6``."""
    return f"by SASS of {target}" if by == "sass" else f"by JIT from PTX of {target}"
