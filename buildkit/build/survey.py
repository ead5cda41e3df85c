"""Finding out what this machine is, for one request: interpreter, torch, toolkit, compiler, GPUs, limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from buildkit.build.borrow import Loan, plan_loan
from buildkit.build.context import Context, WouldInstall
from buildkit.build.environ import chosen_compiler
from buildkit.build.toolkit_choice import ToolkitChoice, choose_toolkit
from buildkit.build.toolkits import toolkits_here
from buildkit.build.torches import ensure_torch, folder_of, installed_torch
from buildkit.errors import MissingHeaders, NoTorch, TorchMismatch
from buildkit.machine import compat, facts
from buildkit.machine.arch import Target
from buildkit.machine.compiler import HostCompiler, find_host_compiler, glibc_version
from buildkit.machine.gpus import Gpus, visible_gpus
from buildkit.machine.installable import WHEEL_MAJORS
from buildkit.machine.interpreter import Interpreter, active_interpreter
from buildkit.machine.limits import Limits, read_limits
from buildkit.machine.system_inputs import SystemInputs, read_system_inputs
from buildkit.machine.torch_identity import NO_TORCH, TorchIdentity, identify_torch
from buildkit.plan.decide import TargetChoice, choose_targets
from buildkit.plan.request import Request


@dataclass(frozen=True)
class Machine:
    """What is here whatever is asked: cheap to read, nothing installed."""

    python: Interpreter
    gpus: Gpus
    limits: Limits
    compiler: HostCompiler
    glibc: str
    system: SystemInputs
    """What builds find here without being told to."""


def survey(request: Request, context: Context) -> Machine:
    """Interpreter, GPUs, limits and compiler. Raises MissingHeaders, NoCompiler."""
    python = active_interpreter(request.python, context.environ, context.cwd, context.memo)
    if not python.has_headers:
        short = ".".join(python.version.split(".")[:2])
        raise MissingHeaders(
            f"Python {python.version} has no headers here: {python.include}/Python.h is missing",
            hint=f"apt-get install python3-dev (or python{short}-dev); dnf install python3-devel",
        )
    compiler = find_host_compiler(context.environ, context.memo)
    return Machine(
        python=python,
        gpus=visible_gpus(context.environ),
        limits=read_limits(context.environ),
        compiler=compiler,
        glibc=glibc_version(),
        system=read_system_inputs(python, compiler, context.memo, chosen_compiler(context.environ)),
    )


def targets_asked(
    request: Request,
    configured: Sequence[str],
    machine: Machine,
    context: Context,
    everything: Sequence[Target] | None = None,
) -> TargetChoice:
    """The targets as they were asked for; ``everything`` is what ``all`` means, once torch and toolkit are known."""
    visible = [gpu.capability for gpu in machine.gpus.gpus]
    exported = context.environ.get("TORCH_CUDA_ARCH_LIST")
    known = facts.toolkit_targets(facts.toolkit_releases()[-1]) if everything is None else everything
    return choose_targets(request.targets, configured, exported, visible, known)


def choose_torch(request: Request, machine: Machine, context: Context) -> TorchIdentity:
    """The exact torch to build against: the active environment's, the one named, or the newest that fits."""
    if request.torch in {None, "active"}:
        found = identify_torch(machine.python.site_packages)
        if found is not None:
            return _usable(found, request)
        if request.torch == "active":
            raise NoTorch(
                f"no torch in the active environment ({machine.python.prefix})",
                hint="install torch there, or name one with --torch 2.13.0+cu130",
            )
    versions = [request.torch] if request.torch else _newest(request, machine, context)
    for version in versions:
        context.hold(folder_of(context.places.torch, machine.python, version))
        installed = installed_torch(context.places.torch, machine.python, version)
        if installed is not None:
            return _usable(installed, request)
    return _usable(_install_torch(versions, machine, context), request)


def _newest(request: Request, machine: Machine, context: Context) -> list[str]:
    """Torch versions to try where none was named: what the driver runs and a toolkit can be had for."""
    here = toolkits_here(request.cuda_home, context)
    majors = {int(release.split(".")[0]) for release in (toolkit.release for toolkit in here)}
    free_threaded = "t" if machine.python.abi.endswith("t") else ""
    versions = compat.newest_torch(
        machine.gpus.driver, machine.python.version + free_threaded, toolkit_majors={*majors, *WHEEL_MAJORS}
    )
    if not versions:
        raise NoTorch(
            f"no known torch fits Python {machine.python.version} and driver {machine.gpus.driver}",
            hint="name one with --torch VERSION, or use another Python with --python PATH",
        )
    return versions


def _install_torch(versions: Sequence[str], machine: Machine, context: Context) -> TorchIdentity:
    if not context.may_install:
        raise WouldInstall(f"torch {versions[0]} would be installed")
    problems: list[NoTorch | TorchMismatch] = []
    for version in versions:
        with collecting(problems):
            return ensure_torch(context.places.torch, machine.python, version, context.installer(), context.reporter)
    raise problems[0]


@contextmanager
def collecting(problems: list[NoTorch | TorchMismatch]) -> Iterator[None]:
    """Keep what stands against one candidate and go on to the next."""
    try:
        yield
    except (NoTorch, TorchMismatch) as error:
        problems.append(error)


def _usable(torch: TorchIdentity, request: Request) -> TorchIdentity:
    if torch.hip is not None:
        raise TorchMismatch(
            f"torch {torch.version} is a ROCm build; cudabuild builds for CUDA only",
            evidence=f"hip = {torch.hip!r} in {torch.location}/torch/version.py",
            hint="use an environment with a CUDA build of torch, or --torch 2.13.0+cu130",
        )
    if torch.cuda is None and request.device == "cuda":
        raise TorchMismatch(
            f"torch {torch.version} is a CPU-only build: no CUDA extension can be built against it",
            evidence=f"cuda = None in {torch.location}/torch/version.py",
            hint="name a CUDA build with --torch 2.13.0+cu130, or ask for --device cpu",
        )
    return torch


@dataclass(frozen=True)
class Survey:
    """The machine as it bears on one build, complete."""

    machine: Machine
    torch: TorchIdentity
    loan: Loan
    toolkit: ToolkitChoice | None
    targets: tuple[Target, ...] = ()
    notes: tuple[str, ...] = ()


def complete_survey(
    request: Request, configured: Sequence[str] | None, machine: Machine, context: Context, *, setuptools_path: bool
) -> Survey:
    """Torch and toolkit for a request, and the targets they can make. ``configured`` is None for a CPU build."""
    torch = choose_torch(request, machine, context)
    loan = plan_loan(torch, machine.python, context.memo)
    if configured is None:
        return Survey(machine, torch, loan, None)
    toolkit = choose_toolkit(request, torch.cuda, machine, context, torch=torch.version)
    return with_targets(
        Survey(machine, torch, loan, toolkit), toolkit, request, configured, context, setuptools_path=setuptools_path
    )


def with_targets(
    known: Survey, toolkit: ToolkitChoice, request: Request, configured: Sequence[str], context: Context, *,
    setuptools_path: bool = True,
) -> Survey:  # fmt: skip
    """A survey completed: the targets that its toolkit (and torch) can make of those asked for, and notes."""
    machine, torch, release = known.machine, known.torch, toolkit.toolkit.release
    notes = [*toolkit.notes, *(() if torch is NO_TORCH else compat.check_torch_toolkit(torch.cuda, release))]
    notes += compat.check_compiler(machine.compiler.version, release, kind=machine.compiler.kind)
    notes += compat.check_glibc(machine.glibc, release) + compat.check_driver(machine.gpus.driver, release)
    version, cuda, path = torch.version or None, torch.cuda, setuptools_path
    everything = compat.makeable_targets(toolkit=release, torch=version, setuptools_path=path, torch_cuda=cuda)
    choice = targets_asked(request, configured, machine, context, everything)
    decision = compat.check_targets(
        choice.targets, toolkit=release, torch=version, setuptools_path=path, torch_cuda=cuda, reduce=not choice.typed
    )
    return replace(known, targets=decision.targets, notes=(*notes, *decision.notes))
