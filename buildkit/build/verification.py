"""``verify``: the proof stages again, for a wheel file or for what is installed, on this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from buildkit import process
from buildkit.build.borrow import plan_loan, sound_distributions
from buildkit.build.context import Context
from buildkit.build.final import FACTS_FILE
from buildkit.build.package import adhoc_recipe, normalised
from buildkit.build.proof import IMPORT_TIMEOUT, Proof, Subject, driver_missing, proof_environment, prove
from buildkit.build.survey import choose_torch, survey
from buildkit.errors import CudabuildError, NoSuchBuild, NoTorch, UnknownRecipe, UsageError, VerificationFailed
from buildkit.machine.arch import Target, parse_targets
from buildkit.machine.interpreter import Interpreter, active_interpreter
from buildkit.machine.torch_identity import identify_torch
from buildkit.plan.request import BuiltFor, Request
from buildkit.recipe.loader import LoadedRecipe, find_recipe, search_path
from buildkit.verify.device_code import find_cuobjdump, inspect_object
from buildkit.verify.imports import run_imports
from buildkit.verify.judge import judge_device_code
from buildkit.verify.stages import Recorder
from buildkit.verify.verdict import make_verdict
from buildkit.verify.wheel import open_wheel

COMMAND_TIMEOUT = 3600.0
"""Seconds for the command after ``--``."""


@dataclass(frozen=True)
class Verified:
    """A subject's name and version, and its proof."""

    name: str
    version: str
    proof: Proof


def verify_wheel(wheel: Path, request: Request, context: Context) -> Verified:
    """Audit and import a wheel in a clean environment with the torch of the request (default: the active one).

    The targets are the ones asked for, else those that cudabuild wrote into the wheel, else any.
    """
    if not wheel.is_file():
        raise UsageError(f"there is no file {wheel}", hint="give a wheel's path, or --installed NAME")
    opened = open_wheel(wheel)
    facts = _facts_of_wheel(wheel)
    machine = survey(request, context)
    torch = choose_torch(request, machine, context)
    subject = Subject(
        loaded=_recipe(str(facts.get("recipe") or normalised(str(opened.name))), request, context),
        targets=_targets(request, facts),
        device=_device(request, facts),
        python=machine.python,
        torch=torch,
        loan=plan_loan(torch, machine.python, context.memo),
        gpus=machine.gpus.gpus,
    )
    return Verified(str(opened.name), str(opened.version), prove(wheel, subject, context, built=None))


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


def verify_installed(
    name: str | None, request: Request, context: Context, command: Sequence[str] = ()
) -> list[Verified]:
    """Device code and imports of what is installed in the active environment; all that cudabuild built without a name.

    ``command`` is run there afterwards: its exit status counts as one more stage.
    """
    python = active_interpreter(request.python, context.environ, context.cwd, context.memo)
    if identify_torch(python.site_packages) is None:
        raise NoTorch(
            f"there is no torch in {python.prefix}", hint="activate another environment, or give --python PATH"
        )
    found = [each for each in _every(python) if _wanted(each, name)]
    if not found:
        what = f"{name} is not installed" if name else "nothing that cudabuild built is installed"
        raise NoSuchBuild(
            f"{what} in {python.prefix}", hint="name a package, or another environment with --python PATH"
        )
    return [_verify_one(distribution, python, request, context, command) for distribution in found]


def _every(python: Interpreter) -> list[Distribution]:
    return sound_distributions(python.site_packages)


def _wanted(distribution: Distribution, name: str | None) -> bool:
    if name is None:
        return any(Path(str(file)).name == FACTS_FILE for file in distribution.files or ())
    return normalised(distribution.name) == normalised(name)


def _verify_one(
    distribution: Distribution, python: Interpreter, request: Request, context: Context, command: Sequence[str]
) -> Verified:
    facts: dict[str, Any] = json.loads(distribution.read_text(FACTS_FILE) or "{}")
    loaded = _recipe(str(facts.get("recipe") or normalised(distribution.name)), request, context)
    recorder = Recorder()
    error: CudabuildError | None = None
    try:
        with recorder.stage("audit") as stage:
            stage.evidence = _audit_installed(distribution, loaded, _targets(request, facts), _device(request, facts))
        context.places.work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="verify-", dir=context.places.work) as scratch:
            with recorder.stage("import") as stage:
                found = run_imports(
                    python.executable,
                    imports=loaded.recipe.verify.imports or _modules(distribution),
                    cuda_proof=loaded.recipe.verify.cuda_proof,
                    env=proof_environment(Path(scratch), context),
                    timeout=IMPORT_TIMEOUT,
                    device=_device(request, facts),
                    scratch=Path(scratch),
                )
                stage.evidence, stage.outcome, stage.detail = found.evidence(), found.outcome, found.detail
            if command:
                with recorder.stage("command") as stage:
                    stage.evidence = _run_command(command, python, context)
    except CudabuildError as cause:
        error = cause
    torch = identify_torch(python.site_packages)
    verdict = make_verdict(
        recorder.stages,
        wheel_sha256="",
        device=_device(request, facts),
        targets=tuple(str(target) for target in _targets(request, facts)),
        python=python.abi,
        torch=torch.version if torch else "",
        torch_record_sha256=torch.record_sha256 if torch else "",
        recipe=loaded.recipe.name,
        recipe_sha256=loaded.sha256,
    )
    return Verified(distribution.name, distribution.version, Proof(verdict, error, driver_missing(verdict)))


def _audit_installed(
    distribution: Distribution, loaded: LoadedRecipe, targets: tuple[Target, ...], device: BuiltFor
) -> dict[str, Any]:
    """Device code of every shared object that the distribution installed."""
    objects = [
        inspect_object(Path(str(file.locate())), str(file), find_cuobjdump())
        for file in distribution.files or ()
        if ".so" in file.suffixes
    ]
    checked = {"checked": "device code only"}
    if device == "cpu":
        return {**checked, "targets": [], "objects": [each.evidence() for each in objects]}
    return {**checked, **judge_device_code(objects, targets, loaded.recipe.verify.cuda_objects)}


def _modules(distribution: Distribution) -> tuple[str, ...]:
    tops = {Path(str(file)).parts[0] for file in distribution.files or () if not str(file).startswith("..")}
    return tuple(sorted(top.split(".")[0] for top in tops if not top.endswith((".dist-info", ".data", "__pycache__"))))


def _run_command(command: Sequence[str], python: Interpreter, context: Context) -> dict[str, Any]:
    """The person's own test, with the environment's programs first on PATH."""
    path = f"{python.prefix / 'bin'}:{context.environ.get('PATH', '')}"
    environment = {**context.environ, "PATH": path, "VIRTUAL_ENV": str(python.prefix)}
    done = process.run(command, env=environment, cwd=context.cwd, timeout=COMMAND_TIMEOUT, check=False)
    if done.returncode != 0:
        raise VerificationFailed(
            f"{process.quoted(command)} ended with exit status {done.returncode}",
            evidence=(done.stderr or done.stdout).strip()[-2000:],
        )
    return {"command": process.quoted(command), "exit": 0, "last_line": process.last_line(done.stdout)}
