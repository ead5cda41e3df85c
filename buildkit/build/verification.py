"""``verify WHEEL``: the proof stages again, on this machine. What is installed: see ``verification_installed``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from buildkit.build.amending import Raised, raise_stored
from buildkit.build.borrow import NO_LOAN, plan_loan
from buildkit.build.context import Context
from buildkit.build.final import FACTS_FILE
from buildkit.build.package import adhoc_recipe, normalised
from buildkit.build.probing import gpu_for
from buildkit.build.proof import Proof, Subject, prove
from buildkit.build.survey import choose_torch, survey
from buildkit.errors import UnknownRecipe, UsageError
from buildkit.machine.arch import Target, parse_targets
from buildkit.machine.torch_identity import NO_TORCH
from buildkit.plan.request import BuiltFor, Request
from buildkit.recipe.loader import LoadedRecipe, find_recipe, search_path
from buildkit.verify.verdict import Grade
from buildkit.verify.wheel import open_wheel


@dataclass(frozen=True)
class Verified:
    """A subject's name and version, and its proof."""

    name: str
    version: str
    proof: Proof
    expected: Grade | None = None
    """The grade that it has to reach where none is asked for: ``executed`` where a GPU and a probe for it are here."""
    raised: tuple[Raised, ...] = ()
    """Entries of the store whose verdict this proof replaced."""


def verify_wheel(wheel: Path, request: Request, context: Context) -> Verified:
    """Audit and import a wheel in a clean environment with the torch of the request (default: the active one).

    The targets are the ones asked for, else those that cudabuild wrote into the wheel, else any. Where the store holds
    this very wheel, its verdict is raised to what was shown here.
    """
    if not wheel.is_file():
        raise UsageError(f"there is no file {wheel}", hint="give a wheel's path, or --installed NAME")
    opened = open_wheel(wheel)
    facts = _facts_of_wheel(wheel)
    machine = survey(request, context)
    loaded = _recipe(str(facts.get("recipe") or normalised(str(opened.name))), request, context)
    torch = choose_torch(request, machine, context) if loaded.recipe.build.torch else NO_TORCH
    subject = Subject(
        loaded=loaded,
        targets=_targets(request, facts),
        device=_device(request, facts),
        python=machine.python,
        torch=torch,
        loan=plan_loan(torch, machine.python, context.memo) if torch.present else NO_LOAN,
        gpus=machine.gpus.gpus,
        driver=machine.gpus.driver or "",
    )
    proof = prove(wheel, subject, context, built=None)
    raised = raise_stored(proof.verdict, context) if proof.error is None else []
    provable = subject.device == "cuda" and subject.loaded.recipe.verify.probe is not None
    expected: Grade | None = "executed" if provable and gpu_for(subject.targets, subject.gpus) is not None else None
    return Verified(str(opened.name), str(opened.version), proof, expected, tuple(raised))


def _facts_of_wheel(wheel: Path) -> dict[str, Any]:
    """What cudabuild wrote into the wheel about its making; empty for another's wheel."""
    with ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(f".dist-info/{FACTS_FILE}")]
        value = json.loads(archive.read(names[0])) if names else {}
    return value if isinstance(value, dict) else {}


def _recipe(name: str, request: Request, context: Context) -> LoadedRecipe:
    try:
        return find_recipe(name, search_path(request.recipes, context.cwd, context.environ))
    except UnknownRecipe:
        return adhoc_recipe(name, context.cwd)


def _device(request: Request, facts: dict[str, Any]) -> BuiltFor:
    """What to prove: a wheel that says it is for the CPU is taken at its word only where no target is asked for."""
    if request.device == "cpu" or (request.device == "auto" and facts.get("device") == "cpu" and not request.targets):
        return "cpu"
    return "cuda"


def _targets(request: Request, facts: dict[str, Any]) -> tuple[Target, ...]:
    wanted = request.targets or tuple(facts.get("targets", ()))
    return parse_targets(wanted) if wanted else ()
