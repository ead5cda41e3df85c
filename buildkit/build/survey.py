"""Finding out what this machine is, for one request: interpreter, torch, toolkit, compiler, GPUs, limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from buildkit.build.borrow import Loan, plan_loan
from buildkit.build.context import Context
from buildkit.build.environ import chosen_compiler
from buildkit.build.toolkit_wheels import ensure_wheel_toolkit, find_installed, wheel_requirement, wheel_toolkit_folder
from buildkit.build.torches import ensure_torch, installed_torch
from buildkit.errors import IncompleteToolkit, MissingHeaders, NotCached, NoToolkit, NoTorch, TorchMismatch
from buildkit.machine import compat, facts
from buildkit.machine.arch import Target
from buildkit.machine.compiler import HostCompiler, find_host_compiler, glibc_version
from buildkit.machine.gpus import Gpus, visible_gpus
from buildkit.machine.interpreter import Interpreter, active_interpreter
from buildkit.machine.limits import Limits, read_limits
from buildkit.machine.system_inputs import SystemInputs, read_system_inputs
from buildkit.machine.toolkit import Toolkit, find_toolkits, read_toolkit
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


@dataclass(frozen=True)
class ToolkitChoice:
    """The toolkit that compiles, and those that fill its missing headers and libraries."""

    toolkit: Toolkit
    fill: tuple[Toolkit, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is missing and filled, said before anything is compiled."""
        if not self.fill:
            return ()
        missing = ", ".join(self.toolkit.missing)
        return (f"the toolkit at {self.toolkit.root} lacks {missing}: filled from package-index wheels",)

    @property
    def identity(self) -> str:
        """Of everything that the view is made from."""
        return "+".join([self.toolkit.identity, *(other.identity for other in self.fill)])


WHEEL_MAJORS = (13,)
"""CUDA majors whose toolkit can be made from package-index wheels."""


class WouldInstall(Exception):
    """A plan cannot go on without installing something, and was told not to."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


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
        installed = installed_torch(context.places.torch, machine.python, version)
        if installed is not None:
            return _usable(installed, request)
    return _usable(_install_torch(versions, machine, context), request)


def _newest(request: Request, machine: Machine, context: Context) -> list[str]:
    """Torch versions to try where none was named: what the driver runs and a toolkit can be had for."""
    here = find_toolkits(context.environ, request.cuda_home, context.memo)
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


def choose_toolkit(request: Request, cuda: str | None, machine: Machine, context: Context) -> ToolkitChoice:
    """A toolkit of the major of ``cuda`` (torch's), complete, or completed from wheels.

    Raises NoToolkit, IncompleteToolkit.
    """
    wanted = cuda or ""
    found = find_toolkits(context.environ, request.cuda_home, context.memo)
    if request.cuda_home is not None and found:
        compat.check_torch_toolkit(wanted, found[0].release)
        found = found[:1]
    fitting = [toolkit for toolkit in found if toolkit.release.split(".")[0] == wanted.split(".")[0]]
    complete = [toolkit for toolkit in fitting if not toolkit.missing]
    if complete and (complete[0] is fitting[0] or not _from_wheels(wanted)):
        return ToolkitChoice(complete[0])
    if not fitting:
        none_here = _none_here(found, wanted)
        return ToolkitChoice(_wheels(wanted, machine, context, problem=none_here))
    partial = fitting[0]
    problem = IncompleteToolkit(
        f"the toolkit at {partial.root} (CUDA {partial.release}) lacks headers that torch includes",
        evidence=", ".join(partial.missing),
        hint="install the missing libraries' development files, or let cudabuild fill them from wheels "
        "(it needs the package index once: `cudabuild fetch`)",
    )
    return ToolkitChoice(partial, (_wheels(partial.release, machine, context, problem=problem),))


def refuse_without_toolkit(cuda: str, request: Request, context: Context) -> None:
    """Raise NoToolkit where none of this CUDA's major is here nor to be had as wheels: before torch is fetched."""
    major = cuda.partition(".")[0]
    found = find_toolkits(context.environ, request.cuda_home, context.memo)
    if int(major) not in WHEEL_MAJORS and all(toolkit.release.partition(".")[0] != major for toolkit in found):
        raise _none_here(found, cuda)


def _from_wheels(release: str) -> bool:
    """Whether a toolkit of this release could fill the gaps of a partial one."""
    return int(release.split(".", maxsplit=1)[0]) in WHEEL_MAJORS


def _none_here(found: Sequence[Toolkit], wanted: str) -> NoToolkit:
    here = ", ".join(f"CUDA {toolkit.release} at {toolkit.root}" for toolkit in found) or "none"
    major = wanted.split(".", maxsplit=1)[0]
    return NoToolkit(
        f"torch is built for CUDA {wanted}, and no toolkit of that major version is here (found: {here})",
        hint=f"install a CUDA {major}.x toolkit and give --cuda-home PATH, or use a torch for the toolkit here",
    )


def _wheels(release: str, machine: Machine, context: Context, *, problem: NoToolkit | IncompleteToolkit) -> Toolkit:
    try:
        wheel_requirement(release)
    except NoToolkit:
        raise problem from None
    folder = wheel_toolkit_folder(release, context.places.toolkits)
    if folder.is_dir():
        # Whether it is still what was installed is checked before it compiles anything: see check_shared.
        return read_toolkit(find_installed(folder), "wheels", context.memo)
    if not context.may_install:
        raise WouldInstall(f"the CUDA {release} toolkit would be installed from wheels")
    if context.offline:
        raise NotCached(
            problem.message + ", and --offline forbids making one from wheels",
            evidence=problem.evidence,
            hint="run `cudabuild fetch` with the same options where there is a network",
        )
    return install_wheel_toolkit(release, machine.python, context)


def install_wheel_toolkit(release: str, python: Interpreter, context: Context) -> Toolkit:
    """The toolkit of this release from wheels, checked against its manifest, installed (again) where need be."""
    installer = context.installer()
    return ensure_wheel_toolkit(
        release,
        folder=context.places.toolkits,
        install=lambda requirements, folder: installer.install_into(folder, requirements, python=python.executable),
        memo=context.memo,
        reporter=context.reporter,
    )


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
    toolkit = choose_toolkit(request, torch.cuda, machine, context)
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
