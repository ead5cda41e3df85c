"""How many jobs, how much memory, how long: the figures of a plan, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.build.context import Context
from buildkit.build.prepare import Prepared
from buildkit.guard.budget import memory_budget, plan_jobs
from buildkit.plan.decide import choose_deadline, expected_seconds
from buildkit.plan.model import PlanSummary
from buildkit.source.inspect import count_units


@dataclass(frozen=True)
class Sizing:
    """The summary that is printed; jobs, budget (bytes) and deadline (seconds) stand in it."""

    summary: PlanSummary


def size_build(prepared: Prepared, context: Context, *, estimate: bool = False) -> Sizing:
    """Size a build. Raises a MachineError where not even one unit fits.

    ``estimate`` looks at history and at the source to say how long it will take: a hit needs neither.
    """
    request, machine, recipe = prepared.request, prepared.survey.machine, prepared.package.loaded.recipe
    budget = memory_budget(machine.limits, request.memory)
    jobs = plan_jobs(
        cpus=machine.limits.cpus,
        memory_budget=budget.bytes,
        memory_per_unit=recipe.build.memory_per_unit,
        requested=request.jobs,
    )
    expected = _expected(prepared, context, jobs.jobs) if estimate else None
    deadline = choose_deadline(request.timeout, recipe.build.timeout, expected)
    toolkit = prepared.survey.toolkit
    return Sizing(
        PlanSummary(
            targets=tuple(str(target) for target in prepared.survey.targets),
            torch=prepared.survey.torch.version,
            cuda=toolkit.toolkit.release if toolkit else None,
            python=machine.python.abi,
            jobs=jobs.jobs,
            memory_budget=budget.bytes,
            timeout=deadline.seconds,
            stall_timeout=request.stall_timeout,
            toolkit=_toolkit_line(prepared),
            compiler=f"{machine.compiler.kind} {machine.compiler.version}",
            require=prepared.require,
            expected_seconds=expected,
            notes=(*machine.gpus.notes, *prepared.survey.notes),
            jobs_reason=f"{jobs.reason}; {budget.reason}",
            timeout_reason=deadline.reason,
        )
    )


def _toolkit_line(prepared: Prepared) -> str | None:
    choice = prepared.survey.toolkit
    if choice is None:
        return None
    line = f"{choice.toolkit.version} ({choice.toolkit.origin})"
    return f"{line}, completed from {choice.fill[0].origin}" if choice.fill else line


def _expected(prepared: Prepared, context: Context, jobs: int) -> float | None:
    recipe = prepared.package.loaded.recipe
    history = [
        (len(entry.inputs.get("targets", ())), entry.seconds)
        for entry in context.store.entries()
        if entry.recipe == recipe.name and entry.seconds > 0
    ]
    return expected_seconds(
        history,
        max(1, len(prepared.survey.targets)),
        units=count_units(prepared.source) if not history else 0,
        seconds_per_unit=recipe.build.seconds_per_unit,
        jobs=jobs,
    )
