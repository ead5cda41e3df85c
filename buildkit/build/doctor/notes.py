"""What is worth knowing of the kind of place this is: WSL2, Slurm, a container, a Jetson, no GPU. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from buildkit.build.doctor.judge import Judgement
from buildkit.build.doctor.seen import Seen
from buildkit.build.doctor.subject import Subject
from buildkit.errors import TooLittleMemory
from buildkit.guard.budget import memory_budget, plan_jobs
from buildkit.machine.facts import gpu_table
from buildkit.machine.limits import Limits
from buildkit.machine.solver.host import Host
from buildkit.machine.solver.run_checks import torch_has
from buildkit.machine.target import Target
from buildkit.machine.target_support import makeable_targets
from buildkit.machine.windows import POWERSHELL, QUESTION, Windows, given_by, wslconfig
from buildkit.store.disk import readable_size

_GIB = 1 << 30
_LOGIN_CPUS = 8
"""Processors that are asked for from a login node, which says nothing of the nodes behind it."""


@dataclass(frozen=True)
class Note:
    """``text`` is prose about one thing; ``lines`` are to be typed, or to be put into a file, as they are."""

    about: str
    text: str
    lines: tuple[str, ...] = ()


def notes_of(seen: Seen, subject: Subject, judgement: Judgement) -> tuple[Note, ...]:
    """All that apply, the most telling first."""
    found = [Note(subject.name, note) for note in subject.notes]
    found += [Note("targets", note) for note in judgement.judged.notes]
    found += [Note("toolkit", remark) for remark in judgement.remarks]
    found += [Note("GPU", note) for note in seen.gpus.notes if note != seen.gpus.silent]
    if seen.surroundings.wsl2:
        found += _wsl2(seen, subject)
    if seen.surroundings.slurm:
        found += _slurm(seen, subject)
    if seen.surroundings.jetson:
        found += _jetson(seen)
    if not seen.gpus.gpus:
        found += _no_gpu(seen, subject, judgement.judged.host)
    return tuple(found)


def _wsl2(seen: Seen, subject: Subject) -> Iterator[Note]:
    windows = seen.windows or Windows(None, None)
    here = readable_size(seen.limits.memory)
    fits = _at_once(_jobs(seen.limits, subject))
    if windows.memory is None:
        yield Note(
            "WSL2",
            f"Windows gives this VM {here}: {fits}. %UserProfile%\\.wslconfig can give it more: three quarters of "
            "what Windows has is a good share (memory=12GB of 16, 24GB of 32, 48GB of 64). It did not say how much "
            "that is; so ask, and tell doctor:",
            (f"/{POWERSHELL} -Command '{QUESTION}'", "cudabuild doctor --windows-memory 64GiB"),
        )
    else:
        yield _wslconfig(seen, subject, windows.memory, f"gives this VM {here}: {fits}")
    yield Note(
        "WSL2",
        "memory= is a ceiling, not a reservation: what WSL2 does not use stays Windows'. To apply it, in Windows "
        "(this ends all that runs in WSL):",
        ("wsl --shutdown",),
    )
    yield Note(
        "WSL2",
        "The driver is the one of Windows, and is renewed there. Inside WSL install toolkits alone, as "
        "cuda-toolkit-12-8: cuda and cuda-drivers bring a driver of their own, which breaks it.",
    )
    if seen.skipped:
        yield Note("WSL2", f"{seen.skipped} entries of PATH below /mnt are Windows' and were skipped.")


def _wslconfig(seen: Seen, subject: Subject, memory: int, told: str) -> Note:
    """The file for a Windows of this much memory, and what it would be worth."""
    lines = wslconfig(memory)
    given = given_by(lines)
    has = f"Windows has {readable_size(memory)} and {told}."
    written = seen.windows.given if seen.windows is not None else None
    if written is not None and written > seen.limits.memory * 1.1:
        return Note("WSL2", f"{has} Its .wslconfig says {readable_size(written)}, which is not applied yet.")
    if given <= seen.limits.memory * 1.1:
        return Note("WSL2", f"{has} That is a good share.")
    used = seen.limits.memory - seen.limits.memory_available
    larger = replace(seen.limits, memory=given, memory_available=given - used)
    with_it = _at_once(_jobs(larger, subject))
    return Note("WSL2", f"{has} With this %UserProfile%\\.wslconfig, {with_it}:", lines)


def _slurm(seen: Seen, subject: Subject) -> Iterator[Note]:
    limits, unit = seen.limits, subject.memory_per_unit
    command = f"cudabuild build {subject.name}"
    each = readable_size(unit)
    if seen.surroundings.slurm_job:
        request = _request(limits.cpus, unit)
        fits = _at_once(_jobs(limits, subject))
        yield Note(
            "Slurm",
            f"Job {seen.surroundings.slurm_job} has {readable_size(limits.memory)} and {limits.cpus} processors: "
            f"{fits}. A job that keeps {limits.cpus} processors busy, at {each} for each compilation, asks for",
            (f"srun {request} {command}",),
        )
    else:
        request = _request(_LOGIN_CPUS, unit)
        yield Note(
            "Slurm",
            "This is no job: what is said here holds for the login node alone. A job for "
            f"{_LOGIN_CPUS} compilations at once, of {each} each:",
            (f"srun {request} --gres=gpu:1 {command}",),
        )
    yield Note(
        "Slurm",
        "Nodes without a network build from the cache (CUDABUILD_CACHE on a disk that both see). On the login node, "
        "then in the job:",
        (f"cudabuild fetch {subject.name}", f"{command} --offline"),
    )


def _request(cpus: int, unit: int) -> str:
    """What Slurm is asked for: each compilation's memory, and what the budget keeps back."""
    return f"--cpus-per-task={cpus} --mem={-(-(cpus * unit + _GIB) // _GIB)}G"


def _jetson(seen: Seen) -> Iterator[Note]:
    memory = readable_size(seen.limits.memory)
    yield Note(
        "Jetson",
        f"Its {memory} serve processors and GPU alike: what a model or the desktop holds on the GPU is missing to "
        "compilers, and is counted here.",
    )
    yield Note(
        "Jetson",
        "Toolkit and driver are JetPack's, and are renewed with it: no toolkit is made from wheels, none comes from "
        "apt. torch is the one that NVIDIA builds for it.",
    )


def _no_gpu(seen: Seen, subject: Subject, host: Host | None) -> Iterator[Note]:
    targets = _possible(host)
    command = f"cudabuild build {subject.name}"
    if seen.surroundings.container:
        yield Note("container", "Where the host has a GPU, a container sees it with:", ("docker run --gpus all ...",))
    if not targets or (host is not None and host.targets):
        return
    examples = gpu_table().example
    listed = "; ".join(f"{target} for {examples[str(target)]}" for target in targets if str(target) in examples)
    yield Note(
        "targets",
        f"No GPU is visible, as while an image is built: say which ones it is for. Possible here: {listed}.",
        (f"{command} --target '8.6;8.9'",) if {"8.6", "8.9"} <= {str(one) for one in targets} else (),
    )


def _possible(host: Host | None) -> tuple[Target, ...]:
    """What toolkit and torch can make, for GPUs that this torch has code for itself."""
    if host is None or host.toolkit is None or host.torch is None or host.torch.cuda is None:
        return ()
    torch = host.torch
    made = makeable_targets(
        toolkit=host.toolkit.release,
        torch=torch.version,
        torch_cuda=torch.cuda,
        setuptools_path=host.project == "setuptools",
    )
    return tuple(target for target in made if torch_has(host, torch, target.capability))


def _jobs(limits: Limits, subject: Subject) -> int:
    """Compilations at once; 0 where not even one fits."""
    budget = memory_budget(limits, None)
    try:
        return plan_jobs(
            cpus=limits.cpus, memory_budget=budget.bytes, memory_per_unit=subject.memory_per_unit, requested=None
        ).jobs
    except TooLittleMemory:
        return 0


def _at_once(jobs: int) -> str:
    if jobs == 0:
        return "not even one compilation fits"
    return f"{jobs} compilation{'s' if jobs != 1 else ''} at once fit{'s' if jobs == 1 else ''}"
