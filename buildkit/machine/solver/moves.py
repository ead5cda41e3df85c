"""What could be changed on a machine, one kind at a time: the machine after each change, and the change in words.

Each function proposes; whether a proposal helps is found out by examining the machine that it leads to. ``extra`` is
what a proposal costs beyond its kind: the further away from what is here, the more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from buildkit.machine import facts, host_facts
from buildkit.machine.compat import driver_number
from buildkit.machine.facts import TorchRelease, release_number
from buildkit.machine.solver import commands
from buildkit.machine.solver.answer import Change, Kind
from buildkit.machine.solver.host import Host, HostCompiler, HostToolkit, HostTorch, major
from buildkit.machine.solver.run_checks import lowest_driver, shipped_driver, torch_has, torch_targets
from buildkit.machine.solver.toolkit_checks import newest_compiler
from buildkit.machine.target import Capability, Target, merged, runs_on
from buildkit.machine.target_support import makeable_targets, other_number

MOST_OFF = 25.0
"""What a toolkit that is here already costs less than one that is not; no other proposal costs less than its kind."""


@dataclass(frozen=True)
class Move:
    """One proposal: the machine after it."""

    host: Host
    change: Change
    extra: float = 0.0


@lru_cache(maxsize=1024)
def moves(kind: Kind, host: Host) -> tuple[Move, ...]:
    """Every proposal of this kind, the nearest first."""
    return tuple(_PROPOSERS[kind](host))


def _targets(host: Host) -> Iterator[Move]:
    made = _makeable(host)
    seen = {host.wanted}
    for extra, targets in enumerate(_target_lists(host, made) if made else ()):
        if targets and targets not in seen:
            seen.add(targets)
            yield Move(replace(host, targets=targets), commands.build_for(targets, host.wanted), extra)


def _target_lists(host: Host, made: Sequence[Target]) -> Iterator[tuple[Target, ...]]:
    """What was asked for as far as it can be made; the GPUs here; both; PTX for them; with neither, what torch has."""
    kept = merged(one for target in host.wanted if (one := _nearest(target, made, host)) is not None)
    yield kept
    if not host.gpus:
        if host.targets:
            return  # other targets are no answer to who asked for these
        held = torch_targets(host, host.torch) if host.torch else None
        plain = tuple(target for target in made if not target.suffix)
        yield merged(target.without_ptx for target in held or () if target.without_ptx in plain) or plain
        return
    served = [gpu for gpu in host.gpus if host.torch and torch_has(host, host.torch, gpu)] or list(host.gpus)
    native = merged(one for gpu in served if (one := _for_gpu(gpu, made, ptx=False)) is not None)
    yield native
    yield merged([*kept, *native])
    yield merged(one for gpu in served if (one := _for_gpu(gpu, made, ptx=True)) is not None)


def _nearest(target: Target, made: Sequence[Target], host: Host) -> Target | None:
    """The target itself, by its other number, or without suffix: the first that can be made."""
    renamed = other_number(target, host.toolkit.release) if host.toolkit else None
    candidates = [target, *([renamed] if renamed else []), target.plain, *([renamed.plain] if renamed else [])]
    return next((one for one in candidates if one.without_ptx in made), None)


def _for_gpu(gpu: Capability, made: Sequence[Target], *, ptx: bool) -> Target | None:
    """The highest plain target that can be made and runs on this GPU: as machine code, or as PTX."""
    plain = (replace(target, ptx=ptx) for target in made if not target.suffix)
    return max((target for target in plain if runs_on(target, gpu)), default=None)


def _makeable(host: Host) -> tuple[Target, ...]:
    toolkit, torch = host.toolkit, host.torch
    if toolkit is None or torch is None or torch.cuda is None:
        return ()
    return _makeable_by(toolkit.release, torch.version, torch.cuda, host.project == "setuptools")


@cache
def _makeable_by(toolkit: str, torch: str, cuda: str, setuptools_path: bool) -> tuple[Target, ...]:
    return makeable_targets(toolkit=toolkit, torch=torch, torch_cuda=cuda, setuptools_path=setuptools_path)


def _setuptools(host: Host) -> Iterator[Move]:
    if host.torch is None:
        return
    for extra, (version, spec) in enumerate(host_facts.host_table().setuptools_that_works.items()):
        if host_facts.broken_setuptools(host.torch.version, int(version.partition(".")[0])) is None:
            yield Move(replace(host, setuptools=version), commands.install_setuptools(spec), extra)


def _torch(host: Host) -> Iterator[Move]:
    """Every torch that PyTorch publishes for this machine, and what NVIDIA builds for Jetsons."""
    if host.place == "jetson":
        for built in host_facts.wheel_table().jetson:
            torch = HostTorch(built.version, built.cuda)
            yield Move(replace(host, torch=torch), commands.install_nvidias_torch(torch), 1)
    for extra, known, cuda in sorted(_torches(host), key=lambda one: one[0]):
        torch = HostTorch(f"{_public(host.torch, known.version)}+cu{cuda.replace('.', '')}", cuda)
        if torch != host.torch:
            yield Move(replace(host, torch=torch), commands.install_torch(torch, known, host), extra)


def _torches(host: Host) -> Iterator[tuple[float, TorchRelease, str]]:
    """What there is for this machine, with what it costs: two for each release that it is away, older a bit more."""
    now = _position(host.torch)
    for index, known in enumerate(facts.torch_releases()):
        for cuda in known.cuda_variants:
            if host_facts.wheel_targets(known.version, cuda, host.machine) is not None:
                extra = 2 * abs(index - now) + (0.5 if index < now else 0)
                yield extra + _variant_cost(host, cuda, known.default_cuda), known, cuda


def _position(torch: HostTorch | None) -> int:
    """Where this torch stands in the table; the newest where there is none."""
    releases = facts.torch_releases()
    if torch is None:
        return len(releases) - 1
    before = [
        index for index, known in enumerate(releases) if release_number(known.version) <= release_number(torch.version)
    ]
    return before[-1] if before else 0


def _public(torch: HostTorch | None, release: str) -> str:
    """The version that is here where it is of this release: only its CUDA changes then."""
    if torch is not None and torch.by_pytorch and release_number(torch.version) == release_number(release):
        return torch.version.partition("+")[0]
    return f"{release}.0"


def _variant_cost(host: Host, cuda: str, default: str) -> float:
    """Less for the CUDA that torch has now, that the toolkit is of, that the default wheel is of."""
    if host.torch is not None and host.torch.cuda == cuda:
        return 0.0
    if any(toolkit.release == cuda for toolkit in host.toolkits):
        return 0.1
    return 0.2 if cuda == default else 0.3


def _toolkit(host: Host) -> Iterator[Move]:
    """Another one that is here, or one that is not; on a Jetson only what JetPack brought."""
    cuda = host.torch.cuda if host.torch is not None else None
    if cuda is None:
        return
    for toolkit in host.toolkits:
        if toolkit != host.toolkit and major(toolkit.release) == major(cuda):
            others = tuple(one for one in host.toolkits if one != toolkit)
            change = commands.use_toolkit(toolkit)
            yield Move(replace(host, toolkits=(toolkit, *others)), change, -MOST_OFF)
    if host.place == "jetson":
        return
    releases = [known.release for known in facts.known_toolkits() if major(known.release) == major(cuda)]
    for extra, release in enumerate(
        sorted(releases, key=lambda one: abs(release_number(one)[1] - release_number(cuda)[1]))
    ):
        change = commands.install_toolkit(release, host.place)
        yield Move(replace(host, toolkits=(HostToolkit(release), *host.toolkits)), change, extra)


def _compiler(host: Host) -> Iterator[Move]:
    """The newest gcc that the toolkit takes; for one that is too old, the oldest that torch takes."""
    release = host.toolkit.release if host.toolkit is not None else None
    newest = newest_compiler(release, "gcc") if release is not None else None
    known = facts.torch_release(host.torch.version) if host.torch is not None else None
    is_old = known is not None and host.compiler is not None and host.compiler.major < known.gcc
    number = known.gcc if known is not None and is_old else newest
    if number is None or host.compiler == HostCompiler("gcc", number):
        return
    change = commands.install_compiler(HostCompiler("gcc", number), host.place)
    yield Move(replace(host, compiler=HostCompiler("gcc", number)), change)


def _driver(host: Host) -> Iterator[Move]:
    """One that runs torch's CUDA, or that takes the toolkit's PTX. A Jetson's comes with JetPack."""
    if host.driver is None or host.place == "jetson":
        return
    cuda = host.torch.cuda if host.torch is not None else None
    lowest = lowest_driver(cuda, host.place) if cuda is not None else None
    shipped = shipped_driver(host.toolkit.release, host.place) if host.toolkit is not None else None
    for extra, driver in enumerate((lowest, shipped)):
        if driver is not None and driver_number(driver) > driver_number(host.driver):
            yield Move(replace(host, driver=driver), commands.install_driver(driver, host.place), extra)


def _python(host: Host) -> Iterator[Move]:
    """The nearest Python for which this torch has wheels."""
    torch = host.torch
    if torch is None:
        return
    built = host_facts.jetson_torch(torch.version)
    known = facts.torch_release(torch.version)
    if built is not None:
        nearest = built.python
    elif known is not None:
        bounds = (known.oldest_python, host.python.removesuffix("t"), known.newest_python)
        nearest = sorted(bounds, key=release_number)[1]
    else:
        return
    if nearest != host.python:
        yield Move(replace(host, python=nearest), commands.use_python(nearest, torch, known, host))


_PROPOSERS: dict[Kind, Callable[[Host], Iterator[Move]]] = {
    "targets": _targets,
    "setuptools": _setuptools,
    "torch": _torch,
    "toolkit": _toolkit,
    "compiler": _compiler,
    "driver": _driver,
    "python": _python,
}
