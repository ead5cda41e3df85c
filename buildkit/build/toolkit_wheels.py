"""A CUDA toolkit made from package-index wheels (13.x), installed once into the cache and checked before each use.

``cuda-toolkit`` is NVIDIA's metapackage: one version of it pins matching versions of every part. The extras
asked for below exist in all of 13.0 to 13.4 (read off the packages' metadata).
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from buildkit.errors import CudabuildError, EnvironmentChanged, NoToolkit
from buildkit.machine.identity import Memo
from buildkit.machine.manifest import check_manifest, write_manifest
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
# The 12.x wheels hold ptxas and libnvvm, but no nvcc.
_FIRST_MAJOR = 13


def wheel_requirement(release: str) -> str:
    """The requirement that brings the toolkit of this release ("13.0"). NoToolkit before 13.0."""
    found = re.fullmatch(r"(\d+)\.(\d+)", release)
    if found is None or int(found[1]) < _FIRST_MAJOR:
        raise NoToolkit(
            f"the CUDA {release} compiler is not to be had as wheels (they begin with {_FIRST_MAJOR}.0)",
            evidence=f"no toolkit of release {release} is on this machine either",
            hint=f"install the CUDA {release} toolkit and add --cuda-home /usr/local/cuda-{release}; "
            "or take a torch for a toolkit that can be had: --torch VERSION+cu130",
        )
    return f"cuda-toolkit[{','.join(sorted(EXTRAS))}]=={release}.*"


def wheel_toolkit_folder(release: str, folder: Path) -> Path:
    """Where the toolkit of this release lies under the cache's folder of toolkits."""
    return folder / f"cuda-{release}"


def ensure_wheel_toolkit(
    release: str, *, folder: Path, install: Installer, memo: Memo | None = None, reporter: Reporter | None = None
) -> Toolkit:
    """The toolkit of this release from wheels: the one in ``folder`` if it is unchanged, else installed anew.

    NoToolkit if there are no such wheels, IncompleteToolkit if they lack headers; whatever ``install`` raises
    passes. One that was changed is replaced, said by ``reporter``; EnvironmentChanged if it cannot be replaced.
    """
    requirement = wheel_requirement(release)
    final = wheel_toolkit_folder(release, folder)
    manifest = final.with_name(f"{final.name}.manifest.json")
    with _locked(folder / f"{final.name}.lock"):
        changed = _check(final, manifest)
        if changed is not None and reporter is not None:
            reporter.warn(f"{changed.message} ({changed.evidence}): installing it again")
        if changed is not None or not final.exists():
            (reporter or Silent()).phase("toolkit", f"CUDA {release} from wheels")
            try:
                _install(requirement, final, manifest, install)
            except CudabuildError as error:
                raise changed or error from error
    toolkit = _read(final, release, memo or Memo(None))
    require_complete(toolkit)
    return toolkit


def _check(final: Path, manifest: Path) -> EnvironmentChanged | None:
    if not final.exists():
        return None
    try:
        check_manifest(final, manifest)
    except EnvironmentChanged as changed:
        return changed
    return None


def _install(requirement: str, final: Path, manifest: Path, install: Installer) -> None:
    """Install into a scratch folder, then rename: a crash leaves no half toolkit under the final name."""
    for left in final.parent.glob(f".{final.name}-*"):  # by a crash: the lock is ours
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}-"))
    try:
        fresh = scratch / "new"
        fresh.mkdir()
        install([requirement], fresh)
        find_installed(fresh)
        # The manifest first: a manifest without a folder is nothing, a folder without one would be refused.
        write_manifest(fresh, manifest)
        if final.exists():
            final.rename(scratch / "old")
        fresh.rename(final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """One process at a time; waits for the other, whose work is then found done."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
