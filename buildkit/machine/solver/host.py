"""A machine as the solver sees it: plain values, no I/O. Whoever calls fills it from what is here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from buildkit.machine.facts import short_release
from buildkit.machine.target import Capability, Target, merged
from buildkit.machine.target_support import cuda_of_torch

Place = Literal["linux", "wsl2", "container", "slurm", "jetson"]
Lack = Literal["headers", "libraries"]
Project = Literal["setuptools", "cmake"]

_VARIANT = re.compile(r"cu\d+")


@dataclass(frozen=True)
class HostTorch:
    """The torch that is there, or that the requirements name. ``cuda`` is None for one without CUDA."""

    version: str
    cuda: str | None
    hip: str | None = None

    @property
    def by_nvidia(self) -> bool:
        """Whether NVIDIA built it (``2.5.0a0+872d972e41.nv24.08``), as for its Jetsons."""
        return ".nv" in self.version.partition("+")[2]

    @property
    def by_pytorch(self) -> bool:
        """Whether it is one of PyTorch's own wheels (``2.8.0``, ``2.8.0+cu128``)."""
        public, _, local = self.version.partition("+")
        return re.fullmatch(r"\d+(\.\d+)+", public) is not None and (not local or _VARIANT.fullmatch(local) is not None)


@dataclass(frozen=True)
class HostToolkit:
    """A CUDA toolkit of this release; ``lacks`` says what of torch's needs is not in it.

    ``home`` is its root; empty for the usual one.
    """

    release: str
    lacks: tuple[Lack, ...] = ()
    home: str = ""


@dataclass(frozen=True)
class HostCompiler:
    """The host compiler: ``gcc`` or ``clang`` and its major version."""

    kind: Literal["gcc", "clang"]
    major: int

    def __str__(self) -> str:
        return f"{self.kind} {self.major}"


@dataclass(frozen=True)
class Host:
    """All that decides whether a CUDA extension can be built and run.

    ``toolkits`` holds the preferred one first, and only what is there or will be without being asked for. ``driver``
    is None where there is none or it does not tell; under WSL2 it is Windows' number. ``targets`` is what was asked
    for, empty for the GPUs here. ``cxx`` is the C++ standard that the package insists on.
    """

    python: str
    glibc: str
    torch: HostTorch | None = None
    gpus: tuple[Capability, ...] = ()
    driver: str | None = None
    toolkits: tuple[HostToolkit, ...] = ()
    compiler: HostCompiler | None = None
    setuptools: str | None = None
    place: Place = "linux"
    machine: str = "x86_64"
    project: Project = "setuptools"
    cxx: int | None = None
    targets: tuple[Target, ...] = ()

    @cached_property
    def wanted(self) -> tuple[Target, ...]:
        """The targets that will be built: those asked for, else the GPUs here."""
        return self.targets or merged(Target(major, minor) for major, minor in self.gpus)

    @cached_property
    def toolkit(self) -> HostToolkit | None:
        """The toolkit that a build takes: the first complete one of torch's CUDA major, else the first of it."""
        if self.torch is None or self.torch.cuda is None:
            return self.toolkits[0] if self.toolkits else None
        fitting = [one for one in self.toolkits if major(one.release) == major(self.torch.cuda)]
        return next((one for one in fitting if not one.lacks), fitting[0] if fitting else None)


def major(release: str) -> int:
    """13 of ``13.0``."""
    return int(release.partition(".")[0])


def host_torch(version: str, cuda: str | None = None) -> HostTorch:
    """A torch by its version; ``cuda`` is what its version.py says, where the version itself does not."""
    local = version.partition("+")[2]
    hip = local.removeprefix("rocm") if local.startswith("rocm") else None
    told = cuda or cuda_of_torch(version)
    return HostTorch(version, short_release(told) if told else None, hip)
