"""What doctor saw of a machine: plain values, filled by :mod:`buildkit.build.doctor.look`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from buildkit.errors import CudabuildError
from buildkit.guard.tier import Tier
from buildkit.machine.compiler import HostCompiler
from buildkit.machine.gpus import Gpus
from buildkit.machine.interpreter import Interpreter
from buildkit.machine.limits import Limits
from buildkit.machine.place import Surroundings
from buildkit.machine.toolkit import Toolkit
from buildkit.machine.torch_identity import TorchIdentity
from buildkit.machine.windows import Windows
from buildkit.source.reach import Reach


@dataclass(frozen=True)
class SeenPython:
    """The active Python, the torch in it, and the setuptools that plain pip would build with.

    ``damaged`` is why a torch that is there cannot be told.
    """

    interpreter: Interpreter
    torch: TorchIdentity | None
    setuptools: str | None
    damaged: CudabuildError | None = None

    @property
    def short(self) -> str:
        """``3.11``, free-threaded ``3.13t``."""
        release = ".".join(self.interpreter.version.split(".")[:2])
        return f"{release}t" if self.interpreter.abi.endswith("t") else release


@dataclass(frozen=True)
class SeenIndex:
    """``settings`` in words, credentials left out, and whether the first index answers."""

    settings: str
    reach: Reach


@dataclass(frozen=True)
class SeenCache:
    """The cache's folder (which need not be there yet). ``free`` in bytes; ``damaged`` says which wheels are.

    ``is_folder`` is False where a file is in its place; ``unreadable`` is why it is not known what is stored.
    """

    folder: Path
    free: int
    is_folder: bool
    writable: bool
    wheels: int
    damaged: tuple[str, ...]
    unreadable: CudabuildError | None = None


@dataclass(frozen=True)
class Seen:
    """Everything. What could not be found out is None, and ``troubles`` says why, by the name of the part."""

    root: Path
    surroundings: Surroundings
    skipped: int
    """Entries of PATH that are on Windows' drives and were not looked at."""
    limits: Limits
    gpus: Gpus
    python: SeenPython | None
    toolkits: tuple[Toolkit, ...]
    toolkit_notes: tuple[str, ...]
    damaged_toolkits: Mapping[Path, CudabuildError]
    """Of those that cudabuild made, by their roots; one that does not run is not among ``toolkits``."""
    compiler: HostCompiler | None
    glibc: str | None
    index: SeenIndex
    cache: SeenCache
    tier: Tier
    windows: Windows | None
    exported: str | None
    """TORCH_CUDA_ARCH_LIST."""
    troubles: Mapping[str, CudabuildError] = field(default_factory=dict)

    def shown(self, path: Path) -> str:
        """A path as it is called on the machine that was looked at."""
        return f"/{path.relative_to(self.root)}" if path.is_relative_to(self.root) else str(path)
