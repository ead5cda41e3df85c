"""From what was seen to the solver's machine: the torch and the toolkits that a build would take, and its targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from buildkit.build.doctor.seen import Seen, SeenPython
from buildkit.build.doctor.subject import Subject
from buildkit.errors import BadTarget, CudabuildError, NoTarget, TargetsDisagree, UnsupportedTarget
from buildkit.machine import compat, facts
from buildkit.machine.facts import short_release
from buildkit.machine.installable import WHEEL_MAJORS, from_wheels
from buildkit.machine.solver.host import Host, HostCompiler, HostToolkit, HostTorch, Lack, host_torch, major
from buildkit.machine.target import Target
from buildkit.machine.toolkit import Toolkit
from buildkit.plan.decide import TargetChoice, choose_targets


@dataclass(frozen=True)
class Asked:
    """What was typed or configured: targets, a torch's version, memory in bytes, jobs."""

    typed: tuple[str, ...] = ()
    configured: tuple[str, ...] = ()
    torch: str | None = None
    memory: int | None = None
    jobs: int | None = None


@dataclass(frozen=True)
class Judged:
    """The machine to be judged; ``host`` is None where too little is known of it.

    ``chosen`` is the torch that a build would install, empty where the one that is here counts. ``obstacles`` are
    errors about the targets.
    """

    host: Host | None
    chosen: str = ""
    targets: tuple[Target, ...] = ()
    obstacles: tuple[CudabuildError, ...] = ()
    notes: tuple[str, ...] = field(default=())


def judged_host(seen: Seen, subject: Subject, asked: Asked) -> Judged:
    """The machine as the solver sees it. Raises BadTarget for typed targets that are none."""
    obstacles: list[CudabuildError] = []
    choice = _targets(seen, asked, obstacles)
    if seen.python is None or seen.glibc is None:
        return Judged(None, targets=choice.targets if choice else (), obstacles=tuple(obstacles))
    chosen = _chosen(seen, seen.python, asked) if subject.torch else ""
    torch = host_torch(chosen, _default_cuda(chosen)) if chosen else _torch_here(seen.python)
    torch = torch if subject.torch else None
    toolkits = (*_toolkits(seen), *_from_wheels(seen, torch, subject))
    values = {"torch": torch.version.partition("+")[0] if torch else "0", "device": "cuda"}
    host = Host(
        python=seen.python.short,
        glibc=seen.glibc,
        torch=torch,
        gpus=tuple(gpu.capability for gpu in seen.gpus.gpus),
        driver=seen.gpus.driver,
        toolkits=toolkits,
        compiler=_compiler(seen),
        place=seen.surroundings.place,
        machine=seen.python.interpreter.machine,
        project=subject.project,
        cxx=subject.cxx(values),
    )
    targets, notes = _makeable(host, choice)
    return Judged(replace(host, targets=targets), chosen, targets or host.wanted, tuple(obstacles), notes)


def _targets(seen: Seen, asked: Asked, obstacles: list[CudabuildError]) -> TargetChoice | None:
    """As a build would choose them; None for the GPUs here, or for none at all."""
    visible = [gpu.capability for gpu in seen.gpus.gpus]
    everything = facts.toolkit_targets(facts.toolkit_releases()[-1])
    try:
        choice = choose_targets(asked.typed, asked.configured, seen.exported, visible, everything)
    except NoTarget:
        return None
    except BadTarget as error:
        if asked.typed:
            raise
        obstacles.append(_misread(error, seen, asked))
        return None
    except TargetsDisagree as error:
        obstacles.append(error)
        return None
    return None if choice.origin == "the GPUs here" else choice


def _misread(error: BadTarget, seen: Seen, asked: Asked) -> BadTarget:
    """The same, with the name of what nobody typed just now."""
    if asked.configured:
        return BadTarget(f"the configured targets ({';'.join(asked.configured)}): {error.message}", hint=error.hint)
    where = f"TORCH_CUDA_ARCH_LIST={seen.exported}"
    return BadTarget(f"{where}: {error.message}", hint="unset TORCH_CUDA_ARCH_LIST")


def _makeable(host: Host, choice: TargetChoice | None) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """Of an exported list a build takes what can be made; typed and configured ones are taken as they are."""
    if choice is None:
        return (), ()
    toolkit, torch = host.toolkit, host.torch
    if choice.typed or toolkit is None or torch is None or torch.cuda is None:
        return choice.targets, ()
    try:
        decision = compat.check_targets(
            choice.targets,
            toolkit=toolkit.release,
            torch=torch.version,
            setuptools_path=host.project == "setuptools",
            torch_cuda=torch.cuda,
            reduce=True,
        )
    except UnsupportedTarget:
        return choice.targets, ()
    return decision.targets, decision.notes


def _torch_here(python: SeenPython) -> HostTorch | None:
    torch = python.torch
    if torch is None:
        return None
    return HostTorch(torch.version, short_release(torch.cuda) if torch.cuda else None, torch.hip)


def _chosen(seen: Seen, python: SeenPython, asked: Asked) -> str:
    """The torch that a build would install: the one asked for, else the newest that fits where none is here.

    On a Jetson none is chosen: of PyTorch's own wheels none holds code for Orin, so NVIDIA's has to be there.
    """
    if asked.torch not in {None, "active"}:
        return asked.torch or ""
    if python.torch is not None or python.damaged or asked.torch == "active" or seen.surroundings.jetson:
        return ""
    majors = {*WHEEL_MAJORS, *(toolkit.major for toolkit in seen.toolkits)}
    return next(iter(compat.newest_torch(seen.gpus.driver, python.short, toolkit_majors=majors)), "")


def _default_cuda(version: str) -> str | None:
    known = facts.torch_release(version)
    return None if "+" in version or known is None else known.default_cuda


def _toolkits(seen: Seen) -> Iterator[HostToolkit]:
    """Those that are here; what one lacks is filled from wheels where there are such."""
    for toolkit in seen.toolkits:
        yield HostToolkit(short_release(toolkit.release), _lacks(seen, toolkit), seen.shown(toolkit.root))


def _lacks(seen: Seen, toolkit: Toolkit) -> tuple[Lack, ...]:
    if from_wheels(toolkit.release) and not seen.surroundings.jetson:
        return ()
    headers: Sequence[Lack] = ("headers",) if toolkit.missing else ()
    return (*headers, *(() if toolkit.has_runtime else ("libraries",)))


def _from_wheels(seen: Seen, torch: HostTorch | None, subject: Subject) -> Iterator[HostToolkit]:
    """The one that is made from wheels where none of torch's CUDA is here. A Jetson takes JetPack's alone."""
    if seen.surroundings.jetson:
        return
    if not subject.torch and not seen.toolkits:
        yield HostToolkit(facts.toolkit_releases()[-1])
    if torch is None or torch.cuda is None:
        return
    if from_wheels(torch.cuda) and all(toolkit.major != major(torch.cuda) for toolkit in seen.toolkits):
        yield HostToolkit(torch.cuda)


def _compiler(seen: Seen) -> HostCompiler | None:
    found = seen.compiler
    return HostCompiler(found.kind, int(found.version.partition(".")[0])) if found is not None else None


def driver_runs(seen: Seen) -> list[int]:
    """CUDA majors whose machine code the driver here runs, oldest first; empty where no driver is told."""
    driver = seen.gpus.driver
    if driver is None:
        return []
    place = seen.surroundings.place
    lowest = (
        (series.major, series.windows if place == "wsl2" else series.driver) for series in facts.toolkit_table().series
    )
    return [number for number, least in lowest if compat.driver_number(driver) >= compat.driver_number(least)]
