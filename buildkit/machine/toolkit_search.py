"""The places where a CUDA toolkit may be, in the order in which they are preferred. Looks, asks nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Set by environment modules: Lmod's and Tcl's usual names, EasyBuild's, Spack's, Cray's.
_MODULE_VARIABLES = (
    "CUDA_ROOT",
    "EBROOTCUDA",
    "EBROOTCUDACORE",
    "CUDA_DIR",
    "CUDADIR",
    "CUDATOOLKIT_HOME",
    "CUDAToolkit_ROOT",
)


@dataclass(frozen=True)
class Candidate:
    """An nvcc or a root to look at. ``demanded``: it was typed, so it must hold a toolkit."""

    path: Path
    origin: str
    demanded: bool = False


def toolkit_candidates(
    environ: Mapping[str, str], cuda_home: Path | None, *, root: Path = Path("/")
) -> list[Candidate]:
    """Candidates in order: --cuda-home, CUDA_HOME, PATH, /usr/local, modules, conda, Debian's, each once."""
    candidates: dict[Path, Candidate] = {}
    if cuda_home is not None:
        candidates[cuda_home] = Candidate(cuda_home, "--cuda-home", demanded=True)
    for candidate in _places(environ, root):
        candidates.setdefault(candidate.path, candidate)
    return list(candidates.values())


def _places(environ: Mapping[str, str], root: Path) -> Iterator[Candidate]:
    yield from _variables(environ, ("CUDA_HOME", "CUDA_PATH"))
    for folder in environ.get("PATH", "").split(":"):
        nvcc = Path(folder) / "nvcc"
        if folder.startswith("/") and _present(nvcc):
            yield Candidate(nvcc, "PATH")
    for place in _local(root):
        if _present(place / "bin" / "nvcc"):
            yield Candidate(place, str(place))
    yield from _variables(environ, _MODULE_VARIABLES)
    if (prefix := environ.get("CONDA_PREFIX")) and _present(Path(prefix) / "bin" / "nvcc"):
        yield Candidate(Path(prefix), "conda (CONDA_PREFIX)")
    for name in ("usr/bin/nvcc", "usr/lib/nvidia-cuda-toolkit/bin/nvcc", "usr/lib/cuda/bin/nvcc"):
        if _present(root / name):
            yield Candidate(root / name, "the distribution's package")


def _present(file: Path) -> bool:
    """Whether there is such a file; one in a folder that may not be looked into is none (``Path.is_file`` raises)."""
    return os.path.isfile(file)  # noqa: PTH113


def _variables(environ: Mapping[str, str], names: tuple[str, ...]) -> Iterator[Candidate]:
    for name in names:
        if value := environ.get(name):
            yield Candidate(Path(value), name)


def _local(root: Path) -> list[Path]:
    """/usr/local/cuda (the one that the administrator chose), its numbered siblings, newest first, and /opt/cuda."""
    versioned = sorted((root / "usr/local").glob("cuda-*"), key=_version, reverse=True)
    return [root / "usr/local/cuda", *versioned, root / "opt/cuda"]


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", path.name))
