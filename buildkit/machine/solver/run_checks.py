"""What happens on the GPUs that are here: driver, torch's own kernels, and the code that was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from buildkit.machine import facts, host_facts
from buildkit.machine.compat import driver_number
from buildkit.machine.facts import release_number, short_release
from buildkit.machine.solver.answer import Cause, Problem
from buildkit.machine.solver.host import Host, HostTorch, Place, major
from buildkit.machine.target import Capability, Target, known_notation, runs_on, torch_arch_list


def check_run(host: Host) -> Iterator[Problem]:
    """Nothing where no GPU is here: then it runs elsewhere."""
    if not host.gpus:
        return
    yield from _driver(host)
    lacking = tuple(gpu for gpu in host.gpus if host.torch is not None and not torch_has(host, host.torch, gpu))
    if lacking and host.torch is not None:
        yield _without_torch(host, host.torch, lacking)
    yield from _code(host, [gpu for gpu in host.gpus if gpu not in lacking] or list(host.gpus))


def lowest_driver(cuda: str, place: Place) -> str | None:
    """The lowest driver that runs machine code of this CUDA's major series; under WSL2 Windows' number."""
    series = next((one for one in facts.toolkit_table().series if one.major == major(cuda)), None)
    if series is None:
        return None
    return series.windows if place == "wsl2" else series.driver


def shipped_driver(release: str, place: Place) -> str | None:
    """The driver that came with this CUDA release; None where it is not known."""
    known = facts.toolkit_release(release)
    if known is None:
        return None
    return known.windows if place == "wsl2" else known.driver


def _driver(host: Host) -> Iterator[Problem]:
    cuda = host.torch.cuda if host.torch is not None else None
    lowest = lowest_driver(cuda, host.place) if cuda is not None else None
    if host.driver is None or lowest is None or driver_number(host.driver) >= driver_number(lowest):
        return
    whose = "Windows' driver" if host.place == "wsl2" else "The driver"
    sentence = (
        f"{whose} {host.driver} does not run CUDA {cuda}: every CUDA {major(cuda or '0')} takes {lowest} or newer."
    )
    yield Problem("run", "driver-old", sentence)


def torch_has(host: Host, torch: HostTorch, gpu: Capability) -> bool:
    """Whether this torch holds code for this GPU; True where that is not known."""
    if torch.cuda is None:
        return True  # it has none at all, which is told as that
    held = torch_targets(host, torch)
    if held is not None:
        return any(runs_on(target, gpu) for target in held)
    if torch.by_nvidia:
        return True
    needs = [need for need in facts.torch_table().needs if gpu[0] in need.majors]
    return all(
        release_number(torch.version) >= release_number(need.torch)
        and release_number(torch.cuda) >= release_number(need.cuda)
        for need in needs
    )


def torch_targets(host: Host, torch: HostTorch) -> tuple[Target, ...] | None:
    """What this torch's wheel holds device code for; None where that is not known."""
    built = host_facts.jetson_torch(torch.version)
    if built is not None:
        return tuple(known_notation(name) for name in built.targets)
    known = facts.torch_release(torch.version)
    if known is None or not torch.by_pytorch or torch.cuda not in known.cuda_variants:
        return None
    return host_facts.wheel_targets(torch.version, torch.cuda, host.machine)


def _without_torch(host: Host, torch: HostTorch, lacking: Sequence[Capability]) -> Problem:
    held = torch_targets(host, torch)
    holds = f"it holds {torch_arch_list(held)}" if held else "it is too old for it"
    sentence = f"torch {torch.version} has no code for {_listed(lacking)}: {holds}."
    return Problem("run", "torch-lacks-gpu", sentence, blocking=len(lacking) == len(host.gpus))


def _code(host: Host, gpus: Sequence[Capability]) -> Iterator[Problem]:
    """How the targets run on each of these GPUs. What fails on some GPUs only is a warning."""
    if not host.wanted:
        return
    found: dict[Cause, list[Capability]] = {}
    for gpu in gpus:
        cause = _how_it_fails(host, gpu)
        if cause is not None:
            found.setdefault(cause, []).append(gpu)
    failed = sum(len(found.get(cause, ())) for cause in ("wrong-target", "ptx-driver"))
    for cause, concerned in found.items():
        blocking = cause != "ptx-jit" and failed == len(gpus)
        yield Problem("run", cause, _sentence(host, cause, concerned), blocking=blocking)


def _how_it_fails(host: Host, gpu: Capability) -> Cause | None:
    if any(runs_on(target.without_ptx, gpu) for target in host.wanted):
        return None
    if not any(runs_on(target, gpu) for target in host.wanted):
        return "wrong-target"
    return "ptx-jit" if _takes_ptx(host) else "ptx-driver"


def _takes_ptx(host: Host) -> bool:
    """Whether the driver is as new as the toolkit that makes the PTX. A Jetson's driver belongs to its toolkit."""
    if host.driver is None or host.toolkit is None or host.place == "jetson":
        return True
    shipped = shipped_driver(host.toolkit.release, host.place)
    return shipped is None or driver_number(host.driver) >= driver_number(shipped)


def _sentence(host: Host, cause: Cause, gpus: Sequence[Capability]) -> str:
    built, here = torch_arch_list(host.wanted), _listed(gpus)
    if cause == "wrong-target":
        return f'Code for {built} does not run on {here}: "no kernel image is available for execution".'
    release = short_release(host.toolkit.release) if host.toolkit else "?"
    if cause == "ptx-jit":
        return (
            f"On {here} there is only the PTX of {built}: the driver compiles it at the first start, which takes time."
        )
    shipped = shipped_driver(release, host.place)
    return (
        f"On {here} there is only the PTX of {built}, made by CUDA {release}; it takes driver {shipped} or newer, "
        f"and here is {host.driver}."
    )


def _listed(gpus: Sequence[Capability]) -> str:
    numbers = [f"{one}.{other}" for one, other in sorted(set(gpus))]
    return f"the GPU {numbers[0]}" if len(numbers) == 1 else f"the GPUs {' and '.join(numbers)}"
