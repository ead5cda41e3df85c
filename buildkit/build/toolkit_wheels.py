"""A CUDA toolkit made from package-index wheels (13.x), installed once into the cache and checked before each use.

``cuda-toolkit`` is NVIDIA's metapackage: one version of it pins matching versions of every part. The extras
asked for below exist in all of 13.0 to 13.4 (read off the packages' metadata).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from buildkit.build.toolkit_place import ensure_made, place_of
from buildkit.errors import NoToolkit
from buildkit.machine.identity import Memo
from buildkit.machine.installable import WHEEL_MAJORS, from_wheels
from buildkit.machine.toolkit import Toolkit, read_toolkit, require_complete
from buildkit.progress import Reporter, Silent

Installer = Callable[[Sequence[str], Path], None]
"""Installs requirements (PEP 508 texts) into a folder, as ``pip install --target`` does."""

# The compiler's parts, then the libraries whose headers torch's headers include or that extensions often link.
EXTRAS = (
    "nvcc",
    "nvvm",
    "crt",
    "cudart",
    "cccl",
    "culibos",
    "nvrtc",
    "nvjitlink",
    "nvtx",
    "cupti",
    "profiler",
    "cublas",
    "cusparse",
    "cusolver",
    "curand",
    "cufft",
)


def wheel_requirement(release: str) -> str:
    """The requirement that brings the toolkit of this release ("13.0"). NoToolkit where there are no such wheels."""
    if not re.fullmatch(r"\d+\.\d+", release) or not from_wheels(release):
        series = " and ".join(f"{number}.x" for number in WHEEL_MAJORS)
        raise NoToolkit(
            f"the CUDA {release} compiler is not to be had as wheels (there are those of {series})",
            evidence=f"no toolkit of release {release} is on this machine either",
            hint=f"install the CUDA {release} toolkit and add --cuda-home /usr/local/cuda-{release} "
            "(`cudabuild toolkit list`: those that cudabuild installs); or take a torch for a toolkit that can be had: "
            "--torch VERSION+cu130",
        )
    return f"cuda-toolkit[{','.join(sorted(EXTRAS))}]=={release}.*"


def ensure_wheel_toolkit(
    release: str, *, folder: Path, install: Installer, memo: Memo | None = None, reporter: Reporter | None = None
) -> Toolkit:
    """The toolkit of this release from wheels: the one in ``folder`` if it is unchanged, else installed anew.

    NoToolkit if there are no such wheels, IncompleteToolkit if they lack headers; whatever ``install`` raises
    passes. One that was changed is replaced, said by ``reporter``; EnvironmentChanged if it cannot be replaced.
    """
    requirement = wheel_requirement(release)
    place = place_of(release, folder)

    def make(fresh: Path) -> None:
        install([requirement], fresh)
        find_installed(fresh)

    ensure_made(place, make, reporter or Silent(), "wheels")
    toolkit = _read(place.final, release, memo or Memo(None))
    require_complete(toolkit)
    return toolkit


def find_installed(folder: Path) -> Path:
    """The toolkit's root (``nvidia/cu13``) below an installed folder. NoToolkit if the wheels brought no compiler."""
    root = next((nvcc.parent.parent for nvcc in sorted(folder.glob("nvidia/cu*/bin/nvcc"))), None)
    if root is None:
        raise NoToolkit(
            "the toolkit's wheels came without a compiler",
            evidence=f"no nvidia/cu*/bin/nvcc under {folder}",
            hint="install the CUDA toolkit on this machine and name it with --cuda-home",
        )
    return root


def _read(final: Path, release: str, memo: Memo) -> Toolkit:
    toolkit = read_toolkit(find_installed(final), "wheels", memo)
    if toolkit.release != release:
        raise NoToolkit(
            f"the wheels asked for as CUDA {release} hold another compiler",
            evidence=f"{toolkit.nvcc} is of release {toolkit.release}",
            hint=f"install the CUDA {release} toolkit on this machine and name it with --cuda-home",
        )
    return toolkit
