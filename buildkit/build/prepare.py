"""From a request to a complete plan with its key: everything up to the point where something is compiled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from buildkit.build import package as packages
from buildkit.build import repair
from buildkit.build.borrow import check_against_loan
from buildkit.build.context import Context, WouldInstall
from buildkit.build.devices import CPU_CAUSES, may_be_for_cpu, refuse_device
from buildkit.build.environ import backend_environment, chosen_compiler, passed_variables
from buildkit.build.locks import RequirementLock, find_lock, lock_id, requirement_set, resolve_lock
from buildkit.build.package import Package
from buildkit.build.survey import Machine, Survey, complete_survey, survey, targets_asked
from buildkit.build.system import system_identity
from buildkit.build.toolkit_choice import refuse_without_toolkit
from buildkit.build.without_torch import headers_sha256, survey_without_torch
from buildkit.errors import UnsupportedTarget
from buildkit.machine import compat
from buildkit.machine.arch import runs_on
from buildkit.machine.variants import variant_targets
from buildkit.plan.decide import TargetChoice, required_grade
from buildkit.plan.key import TARGET_VARIABLES, KeyInputs, canonical, family_of, key_of
from buildkit.plan.provable import refuse_unprovable
from buildkit.plan.request import BuiltFor, Request, Requirement
from buildkit.recipe.model import Patch
from buildkit.recipe.selection import build_section_sha256, environment_of, patches_that_apply
from buildkit.source.fetch import FetchedSource


@dataclass(frozen=True)
class Prepared:
    """All that a build needs, and its key."""

    request: Request
    package: Package
    source: FetchedSource
    survey: Survey
    device: BuiltFor
    device_reason: str
    require: Requirement
    environment: dict[str, str]
    patches: tuple[Patch, ...]
    lock: RequirementLock
    question: str
    """Hash of what the backend's answer to "what else do you need" may depend on beside its source."""
    inputs: KeyInputs
    key: str
    family: str

    @property
    def distribution(self) -> str | None:
        """The name the wheel must have; None for a source that says it only when it is built."""
        return self.package.name if self.package.version or self.package.has_recipe else self.source.name

    @property
    def version(self) -> str | None:
        """The version the wheel must have, where it is known beforehand."""
        return self.package.version.version if self.package.version else self.source.version


def prepare(request: Request, configured: tuple[str, ...], context: Context) -> Prepared:
    """Plan a build. Raises every cause that can be known before anything is compiled."""
    package = packages.choose_package(request, context)
    refuse_device(request.device, package)
    machine = survey(request, context)
    reason = ""
    choice: TargetChoice | None = None
    if request.device != "cpu":
        try:
            choice = targets_asked(request, configured, machine, context)
            _refuse_early(request, choice, machine, context)
        except CPU_CAUSES as error:
            if not may_be_for_cpu(request, package):
                raise
            reason, choice = error.message, None
    _refuse_unprovable(request, choice, machine, package)
    source = packages.fetch(package, context)
    package = packages.examined(package, source)
    if choice is not None and (cause := packages.without_cuda(package)) is not None:
        if not may_be_for_cpu(request, package):
            raise cause
        reason, choice = cause.message, None
        _refuse_unprovable(request, choice, machine, package)
    wanted = None if choice is None else configured
    device, reason, whole = _surveyed(request, wanted, reason, machine, context, package, source)
    return complete(request, package, source, whole, device, reason, context)


def _refuse_unprovable(request: Request, choice: TargetChoice | None, machine: Machine, package: Package) -> None:
    refuse_unprovable(
        request.require,
        device="cpu" if choice is None else "cuda",
        targets=choice.targets if choice else (),
        gpus=machine.gpus.gpus,
        has_probe=package.loaded.recipe.verify.probe is not None,
        package=package.name,
    )


def _refuse_early(request: Request, choice: TargetChoice, machine: Machine, context: Context) -> None:
    """Where torch is named with its CUDA, what cannot be done is refused before gigabytes are fetched."""
    public, _, local = (request.torch or "").partition("+cu")
    if not local.isdigit() or len(local) < 3:
        return
    release = f"{local[:-1]}.{local[-1]}"
    refuse_without_toolkit(release, request, machine, context)
    if choice.typed:
        compat.check_targets(choice.targets, toolkit=release, torch=f"{public}+cu{local}", setuptools_path=False)


def _surveyed(
    request: Request,
    configured: tuple[str, ...] | None,
    reason: str,
    machine: Machine,
    context: Context,
    package: Package,
    source: FetchedSource,
) -> tuple[BuiltFor, str, Survey]:
    def surveyed(wanted: tuple[str, ...] | None) -> Survey:
        if not package.loaded.recipe.build.torch:
            return survey_without_torch(request, wanted, machine, context)
        setuptools_path = "setuptools" in (source.build_backend or "setuptools")
        return complete_survey(request, wanted, machine, context, setuptools_path=setuptools_path)

    if configured is not None:
        try:
            whole = surveyed(configured)
            if whole.torch.cuda is not None or not whole.torch.present:
                return "cuda", "", whole
            reason = f"torch {whole.torch.version} is a CPU-only build"
            refuse_device("cpu", package, f", and {reason}")
        except CPU_CAUSES as error:
            if not may_be_for_cpu(request, package) or isinstance(error, UnsupportedTarget):
                raise
            reason = error.message
    if reason:
        context.reporter.warn(f"building for the CPU only: {reason}")
    return "cpu", reason, surveyed(None)


def complete(
    request: Request,
    package: Package,
    source: FetchedSource,
    whole: Survey,
    device: BuiltFor,
    reason: str,
    context: Context,
) -> Prepared:
    """The plan, once it is known what is built, where, and with what."""
    recipe = package.loaded.recipe
    values = _conditions(whole, device, source)
    patches = patches_that_apply(recipe, values)
    passed = {**passed_variables(recipe.build.pass_env, context.environ), **request.passed_environment}
    environment = backend_environment(
        device=device,
        targets=whole.targets,
        compiler=whole.machine.compiler.path,
        recipe_environment=environment_of(recipe, values),
        passed=passed,
        chosen_compiler=chosen_compiler(context.environ),
        torch=whole.torch.present,
    )
    question = question_of(values, environment, [package.loaded.patch_sha256(patch) for patch in patches], whole)
    lock = _lock(request, package, source, whole, question, context)
    inputs = key_inputs(package, source, whole, values, patches, environment, lock)
    if not whole.torch.present and whole.toolkit is not None:
        inputs = replace(inputs, system={**inputs.system, "toolkit": headers_sha256(whole.toolkit, context.memo)})
    return Prepared(
        request=request,
        package=package,
        source=source,
        survey=whole,
        device=device,
        device_reason=reason,
        require=required_grade(
            request.require,
            gpu_visible=gpu_here(whole),
            has_probe=recipe.verify.probe is not None,
            device=device,
        ),
        environment=environment,
        patches=patches,
        lock=lock,
        question=question,
        inputs=inputs,
        key=key_of(inputs),
        family=family_of(inputs),
    )


def question_of(
    values: Mapping[str, str], environment: Mapping[str, str], patches: Sequence[str], whole: Survey
) -> str:
    """What a backend is asked under: scikit-build-core, say, wants cmake only where the system has none."""
    kept = {name: value for name, value in environment.items() if name not in TARGET_VARIABLES}
    content = {
        "values": dict(values),
        "environment": kept,
        "patches": list(patches),
        "programs": whole.machine.system.programs,
        "abi": whole.machine.python.abi,
    }
    return hashlib.sha256(canonical(content)).hexdigest()


def gpu_here(whole: Survey) -> bool:
    """Whether a GPU here runs what is built: others cannot prove it."""
    gpus = whole.machine.gpus.gpus
    return any(runs_on(target, gpu.capability) for gpu in gpus for target in whole.targets)


def _conditions(whole: Survey, device: str, source: FetchedSource) -> dict[str, str]:
    compiler = whole.machine.compiler
    return {
        "torch": whole.torch.version.partition("+")[0] or "0",
        "cuda": whole.toolkit.toolkit.release if whole.toolkit else "0",
        "python": whole.machine.python.version,
        "gcc": compiler.version if compiler.kind == "gcc" else "0",
        "version": source.version or "0",
        "device": device,
    }


def _lock(
    request: Request, package: Package, source: FetchedSource, whole: Survey, question: str, context: Context
) -> RequirementLock:
    discovered = packages.discovered_requires(context, source, question) or ()
    check_against_loan(
        [*package.loaded.recipe.build.requires, *source.build_requires, *discovered],
        whole.loan,
        whole.machine.python,
        whose=package.name,
    )
    requirements = requirement_set(package.loaded.recipe.build.requires, source.build_requires, discovered)
    python = whole.machine.python
    identifier = lock_id(requirements, whole.loan, python, context.index.fingerprint())
    found = None if request.refresh and not context.offline else find_lock(context.places.locks, identifier)
    if found is not None:
        return found
    if not context.may_install:
        raise WouldInstall("the build requirements would be resolved")
    return resolve_lock(
        context.places.locks, identifier, requirements, whole.loan, python, context.installer(), context.reporter
    )


def key_inputs(
    package: Package,
    source: FetchedSource,
    whole: Survey,
    values: Mapping[str, str],
    patches: tuple[Patch, ...],
    environment: Mapping[str, str],
    lock: RequirementLock,
) -> KeyInputs:
    """The fields of the key, from what was found."""
    recipe, python, torch = package.loaded.recipe, whole.machine.python, whole.torch
    compiler, device, system = whole.machine.compiler, values["device"], whole.machine.system
    return KeyInputs(
        recipe=recipe.name,
        version=(package.version.version if package.version else source.version) or "",
        source=source.sha256,
        subdirectory=source.subdirectory,
        patches=[package.loaded.patch_sha256(patch) for patch in patches],
        recipe_build=build_section_sha256(package.loaded, version=package.version, values=values),
        targets=[str(target) for target in whole.targets],
        device=device,
        torch=f"{torch.version} {torch.git_version} {torch.record_sha256}".strip(),
        torch_closure=whole.loan.fingerprint if torch.present else "",
        toolkit=f"{whole.toolkit.toolkit.version} {whole.toolkit.identity}" if whole.toolkit else "",
        python=f"{python.implementation} {python.version} {python.abi}",
        interpreter=system.interpreter,
        platform=python.platform,
        machine=python.machine,
        compiler=f"{compiler.kind} {compiler.version} {compiler.machine} {compiler.identity}",
        glibc=whole.machine.glibc,
        programs=system.programs,
        headers=system.headers,
        libraries=system.libraries,
        environment=dict(environment),
        requirements=lock.sha256,
        system=system_identity(recipe.system),
        variant=[str(target) for target in variant_targets(torch.cuda)] if torch.cuda and device == "cuda" else [],
        repair=repair.rules(),
    )
