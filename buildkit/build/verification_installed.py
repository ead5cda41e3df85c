"""``verify --installed``: which packages of the active environment to look at, and against what."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.build.borrow import Loan, plan_loan
from buildkit.build.context import Context
from buildkit.build.installed_read import Surroundings
from buildkit.build.installed_scan import Installation, first_of_each, installations, shared_name, speaks_cuda
from buildkit.build.installed_stages import Checked, PackageCheck, error_of
from buildkit.build.installer import find_uv
from buildkit.build.leftovers import UNKNOWN, Leftover, find_leftovers
from buildkit.build.package import normalised
from buildkit.build.verification_app import App, find_program
from buildkit.errors import NoSuchBuild, NoTorch, UsageError
from buildkit.machine.arch import parse_targets
from buildkit.machine.gpus import Gpus, visible_gpus
from buildkit.machine.interpreter import Interpreter, active_interpreter
from buildkit.machine.torch_identity import TorchIdentity, identify_torch
from buildkit.plan.request import Request
from buildkit.recipe.loader import recipe_names, search_path
from buildkit.verify.installed_code import Device


@dataclass(frozen=True)
class Environment:
    """An environment's packages, and what they were judged against."""

    prefix: Path
    torch: str
    cuda: str | None
    devices: tuple[Device, ...]
    driver: str | None
    results: tuple[Checked, ...]


def verify_installed(
    name: str | None, request: Request, context: Context, *, stated: Sequence[str] = (), app: App | None = None
) -> Environment:
    """Judge the package of that name, or every compiled one and every leftover; findings come back as values.

    ``stated`` GPUs (numbers or names, as people type targets) take the place of those here. Raises NoTorch,
    NoSuchBuild for a name that is not installed, UsageError for torch's own packages, BadTarget.
    """
    python = active_interpreter(request.python, context.environ, context.cwd, context.memo)
    torch = identify_torch(python.site_packages)
    if torch is None:
        raise NoTorch(
            f"there is no torch in {python.prefix}", hint="activate another environment, or give --python PATH"
        )
    loan = plan_loan(torch, python, context.memo)
    _refuse_torch(name, loan)
    if app is not None:
        find_program(app, python, context)  # before anything that takes long
    gpus = visible_gpus(context.environ)
    found = installations(python)
    around = _surroundings(python, torch, _devices(stated, gpus), found, request, context)
    wanted = [each for each in first_of_each(found) if _is_wanted(each, name, loan, around.recipes)]
    left = find_leftovers(
        python,
        found,
        judged={each.name for each in wanted},
        known={*loan.entries, "nvidia"},
        recipes=around.recipes,
        uv=around.uv,
    )
    left = [each for each in left if name is None or each.belongs_to(name)]
    if name is not None and not wanted and not left:
        raise NoSuchBuild(
            f"{name} is not installed in {python.prefix}",
            hint="name a package, or another environment with --python PATH",
        )
    checked = [PackageCheck(each, request, context, around, gpus).run(app) for each in wanted]
    results = (*checked, *map(_of_leftover, left))
    return Environment(python.prefix, torch.version, torch.cuda, around.devices, gpus.driver, results)


def _refuse_torch(name: str | None, loan: Loan) -> None:
    if name is not None and normalised(name) in loan.names:
        raise UsageError(
            f"{name} is torch or comes with it: what is judged is what was built for it",
            hint="cudabuild verify --installed",
        )


def _surroundings(
    python: Interpreter,
    torch: TorchIdentity,
    devices: tuple[Device, ...],
    found: Sequence[Installation],
    request: Request,
    context: Context,
) -> Surroundings:
    unsaid = search_path(None, Path(os.devnull), context.environ)
    on_path = shutil.which("uv", path=context.environ.get("PATH"))
    return Surroundings(
        python=python,
        torch=torch,
        devices=devices,
        recipes=recipe_names(search_path(request.recipes, context.cwd, context.environ)),
        unsaid=tuple(folder.resolve() for folder in unsaid),
        uv="uv" if on_path else str(find_uv()),
        versions={each.name: each.version for each in first_of_each(found)},
    )


def _devices(stated: Sequence[str], gpus: Gpus) -> tuple[Device, ...]:
    if not stated:
        # Several of one kind run the same code.
        return tuple(dict.fromkeys(Device(gpu.name, gpu.capability) for gpu in gpus.gpus))
    native = [gpu.capability for gpu in gpus.gpus]
    named = [(text, target) for text in stated for target in parse_targets([text], native=native)]
    return tuple(dict.fromkeys(Device(text, target.capability, stated=True) for text, target in named))


def _is_wanted(each: Installation, name: str | None, loan: Loan, recipes: Mapping[str, Path]) -> bool:
    """The package that was named, else all that were built for torch or CUDA; not torch's own, nor NVIDIA's."""
    if each.name == UNKNOWN:
        return False
    if name is not None:
        return each.name == normalised(name)
    if each.name in loan.names or each.name.startswith("nvidia-") or each.name == "cudabuild":
        return False
    if each.facts or each.name in recipes:
        return True
    gone = any(shared_name(file) and not (each.site / file).exists() for file in each.files)
    return gone or any(map(speaks_cuda, each.objects))


def _of_leftover(left: Leftover) -> Checked:
    finding = left.finding
    return Checked(left.name, left.version, "", (finding,), error=error_of(left.name, [finding]))
