"""What can be wrong with the torch itself: whether it can be had, and what its headers and setup code ask for."""

from __future__ import annotations

from collections.abc import Iterator

from buildkit.machine import facts, host_facts
from buildkit.machine.facts import TorchRelease, release_number, short_release
from buildkit.machine.solver.answer import Problem
from buildkit.machine.solver.host import Host, HostTorch


def check_torch(host: Host) -> Iterator[Problem]:
    """Everything about torch that does not need a toolkit or a GPU to be judged."""
    torch = host.torch
    if torch is None:
        yield Problem("install", "torch-missing", "There is no torch in this environment.")
        return
    known = facts.torch_release(torch.version)
    if known is None:
        release = short_release(torch.version)
        sentence = f"torch {release} is not in cudabuild's tables: what it needs is not known."
        yield Problem("plan", "unknown-release", sentence, blocking=False)
    elif torch.by_pytorch:
        yield from _availability(host, torch, known)
    elif torch.by_nvidia:
        yield from _nvidias_python(host, torch)
    yield from _device(torch)
    yield from _setuptools(host, torch)
    if known is not None:
        yield from _headers(host, known)


def _availability(host: Host, torch: HostTorch, known: TorchRelease) -> Iterator[Problem]:
    """Whether there is such a wheel, for this Python and this C library."""
    if not known.has_python(host.python):
        sentence = f"There is no torch {known.version} for Python {host.python}: its wheels are for {pythons(known)}."
        yield Problem("install", "torch-python", sentence)
    if torch.cuda is not None and not has_variant(known, torch.cuda, host.machine):
        there = ", ".join(cuda for cuda in known.cuda_variants if has_variant(known, cuda, host.machine))
        on = "" if host.machine == "x86_64" else f" on {host.machine}"
        sentence = (
            f"There is no torch {known.version} of CUDA {torch.cuda}{on}; there is CUDA {there or 'none at all'}."
        )
        yield Problem("install", "torch-variant", sentence)
    if release_number(host.glibc) < release_number(known.glibc):
        sentence = f"torch {known.version} needs glibc {known.glibc}, and here is {host.glibc}."
        yield Problem("install", "torch-glibc", sentence)


def has_variant(known: TorchRelease, cuda: str, machine: str) -> bool:
    """Whether PyTorch publishes this release for this CUDA (``12.8``) and machine."""
    return cuda in known.cuda_variants and host_facts.wheel_targets(known.version, cuda, machine) is not None


def pythons(known: TorchRelease) -> str:
    """``3.10 to 3.14`` and, where there are, the free-threaded ones."""
    threads = "".join(f", {version}t" for version in known.free_threaded)
    return f"{known.oldest_python} to {known.newest_python}{threads}"


def _nvidias_python(host: Host, torch: HostTorch) -> Iterator[Problem]:
    built = host_facts.jetson_torch(torch.version)
    if built is not None and release_number(built.python) != release_number(host.python):
        sentence = f"NVIDIA's torch {torch.version} is for Python {built.python}, and here is {host.python}."
        yield Problem("install", "torch-python", sentence)


def _device(torch: HostTorch) -> Iterator[Problem]:
    if torch.hip is not None:
        sentence = f"torch {torch.version} is built for AMD GPUs (ROCm); CUDA code cannot be built against it."
        yield Problem("configure", "torch-rocm", sentence)
    elif torch.cuda is None:
        sentence = (
            f"torch {torch.version} is a CPU-only build: it looks for no CUDA toolkit, and packages fail or "
            "silently leave their CUDA half out."
        )
        yield Problem("configure", "torch-cpu", sentence)


def _setuptools(host: Host, torch: HostTorch) -> Iterator[Problem]:
    if host.project != "setuptools" or host.setuptools is None:
        return
    rule = host_facts.broken_setuptools(torch.version, int(host.setuptools.partition(".")[0]))
    if rule is not None:
        sentence = (
            f"setuptools {host.setuptools} has no {rule.lacks}, which torch {short_release(torch.version)} imports."
        )
        yield Problem("configure", "setuptools-new", sentence)


def _headers(host: Host, known: TorchRelease) -> Iterator[Problem]:
    """The C++ standard and the oldest compiler that torch's headers take."""
    if host.cxx is not None and host.cxx < known.oldest_cxx:
        sentence = (
            f"The package is compiled as C++{host.cxx}, and the headers of torch {known.version} are an #error "
            f"below C++{known.oldest_cxx}."
        )
        yield Problem("compile", "cxx-standard", sentence)
    if host.compiler is not None and host.compiler.kind == "gcc" and host.compiler.major < known.gcc:
        sentence = (
            f"{host.compiler} is too old for torch {known.version}, whose headers are C++{known.cxx_standard}: "
            f"they take gcc {known.gcc} or newer."
        )
        yield Problem("compile", "compiler-old", sentence)
