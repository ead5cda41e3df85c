"""Where a toolkit keeps its parts, as its own nvcc tells it.

nvcc may be a wrapper script, a link, or Debian's ``/usr/bin/nvcc``: only ``nvcc --dryrun`` knows the root.
It prints, on standard error, one ``#$ NAME=VALUE`` line for each variable of ``nvcc.profile`` (see the
nvcc manual, "nvcc.profile"), before the commands that it would run.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import NoToolkit
from buildkit.machine.identity import Memo, file_identity, identity_or_none, is_settled
from buildkit.process import ProgramFailed, last_line, run

_VARIABLE = re.compile(r"^#\$ (?P<name>[A-Z_]+)=(?P<value>.*)$", re.MULTILINE)
_VERSION = re.compile(r"release (?P<release>\d+\.\d+), V(?P<version>\d+(?:\.\d+)*)")
# What NVIDIA calls the folder of a machine under targets/ (CUDA installation guide).
_TARGETS = {"x86_64": ("x86_64-linux",), "aarch64": ("sbsa-linux", "aarch64-linux")}
# Variables that a wrapper script may look at, so that its answer depends on them.
_WRAPPER_VARIABLES = ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CONDA_PREFIX")


@dataclass(frozen=True)
class Layout:
    """The parts of a toolkit. ``shared``: its folders hold other programs' files too (``/usr``, a conda prefix)."""

    nvcc: Path
    root: Path
    binaries: tuple[Path, ...]
    cicc: Path
    libdevice: Path
    include: tuple[Path, ...]
    library: tuple[Path, ...]
    shared: bool

    def tool(self, name: str) -> Path:
        """The program of this name; a path that does not exist if the toolkit has none."""
        folders = (*self.binaries, self.cicc)
        return next((folder / name for folder in folders if (folder / name).is_file()), self.binaries[0] / name)


def find_nvcc(nvcc_or_root: Path) -> Path:
    """The nvcc to start, as an absolute path. NoToolkit if there is none."""
    path = nvcc_or_root.absolute()
    if path.is_dir():
        path = path / "bin" / "nvcc"
    if not path.is_file() or not os.access(path, os.X_OK):
        raise NoToolkit(
            f"no CUDA compiler at {nvcc_or_root}",
            evidence=f"{path} is not a program",
            hint="cudabuild doctor   # lists the toolkits that are here",
        )
    beside = path.parent / "nvcc.profile"
    resolved = path.resolve()
    # Through a mere link nvcc does not find its profile; a wrapper must be started as what it is.
    if path.is_symlink() and not beside.exists() and (resolved.parent / "nvcc.profile").exists():
        return resolved
    return path


def read_version(nvcc: Path, memo: Memo) -> tuple[str, str]:
    """Release and version ("13.0", "13.0.88") by ``nvcc --version``, remembered by the file's identity."""
    identity = file_identity(nvcc)
    known = memo.get("nvcc-version", str(nvcc), identity)
    if not isinstance(known, str):
        known = _ask(nvcc, ["--version"], os.environ)
        if is_settled([identity]):
            memo.put("nvcc-version", str(nvcc), identity, known)
    found = _VERSION.search(known)
    if found is None:
        raise NoToolkit(f"{nvcc} does not tell its version", evidence=last_line(known))
    return found["release"], found["version"]


def read_layout(nvcc: Path, memo: Memo, environ: Mapping[str, str] | None = None) -> Layout:
    """Ask nvcc (once per file identity) for its root, tools, include and library folders."""
    environment = os.environ if environ is None else environ
    identity = (file_identity(nvcc), *(environment.get(name) for name in _WRAPPER_VARIABLES))
    known = memo.get("nvcc-dryrun", str(nvcc), identity)
    if isinstance(known, dict):
        return _layout(nvcc, {name: str(value) for name, value in known.items()})
    variables = {found["name"]: found["value"] for found in _VARIABLE.finditer(_dryrun(nvcc, environment))}
    inherited = {os.path.realpath(entry) for entry in environment.get("PATH", "").split(":") if entry}
    own = [
        entry for entry in variables.get("PATH", "").split(":") if entry and os.path.realpath(entry) not in inherited
    ]
    variables["PATH"] = ":".join(own)
    # Without TOP (no host compiler yet, no profile) the answer may be better next time.
    if "TOP" in variables and is_settled([identity_or_none(nvcc)]):
        memo.put("nvcc-dryrun", str(nvcc), identity, {**variables})
    return _layout(nvcc, variables)


def _dryrun(nvcc: Path, environ: Mapping[str, str]) -> str:
    return _ask(nvcc, ["--dryrun", "-x", "cu", "/dev/null"], environ, check=False)


def _ask(nvcc: Path, arguments: list[str], environ: Mapping[str, str], *, check: bool = True) -> str:
    # Flags that people prepend or append for their builds could change or break the answer.
    clean = {name: value for name, value in environ.items() if name not in ("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS")}
    try:
        done = run([str(nvcc), *arguments], env={**clean, "LC_ALL": "C.UTF-8"}, timeout=60, check=check)
    except ProgramFailed as error:
        raise NoToolkit(
            f"{nvcc} does not run", evidence=error.evidence, hint=f"{nvcc} --version   # shows why"
        ) from error
    return done.stdout + done.stderr


def _layout(nvcc: Path, variables: Mapping[str, str]) -> Layout:
    here = Path(variables["_HERE_"]) if "TOP" in variables else nvcc.resolve().parent
    root = _resolved(variables.get("TOP", str(here.parent)))
    shared = (root / "conda-meta").is_dir() or (root / "include" / "stdio.h").is_file()
    target = _target_folder(root, variables.get("_TARGET_DIR_", ""))
    includes = [*_flagged(variables, ("INCLUDES", "SYSTEM_INCLUDES"), ("-I", "-isystem")), root / "include"]
    libraries = [*_flagged(variables, ("LIBRARIES",), ("-L",)), root / "lib64", root / "lib"]
    if target is not None:
        includes.insert(0, target / "include")
        libraries.insert(0, target / "lib")
    libraries += [root / "lib" / f"{platform.machine()}-linux-gnu"]
    found = _existing(includes)
    cccl = [folder / "cccl" for folder in found if folder.name != "cccl"]
    return Layout(
        nvcc=here / "nvcc" if (here / "nvcc").is_file() else nvcc.resolve(),
        root=root,
        binaries=_existing([here, *(Path(entry) for entry in variables.get("PATH", "").split(":") if entry)]),
        cicc=_resolved(variables.get("CICC_PATH") or _cicc_folder(root, variables)),
        libdevice=_resolved(variables.get("NVVMIR_LIBRARY_DIR", str(root / "nvvm" / "libdevice"))),
        include=_existing([*found, *cccl]),
        library=tuple(folder for folder in _existing(libraries) if any(folder.glob("libcud*"))),
        shared=shared,
    )


def _resolved(path: str | Path) -> Path:
    return Path(os.path.realpath(path))


def _cicc_folder(root: Path, variables: Mapping[str, str]) -> Path:
    """Profiles without CICC_PATH (before CUDA 12, Debian's) put cicc's folder into PATH."""
    entries = [Path(entry) for entry in variables.get("PATH", "").split(":") if entry]
    return next((entry for entry in entries if (entry / "cicc").is_file()), root / "nvvm" / "bin")


def _target_folder(root: Path, named: str) -> Path | None:
    names = [named] if named else [f"targets/{name}" for name in _TARGETS.get(platform.machine(), ())]
    return next((root / name for name in names if (root / name / "include").is_dir()), None)


def _flagged(variables: Mapping[str, str], names: Iterable[str], flags: tuple[str, ...]) -> list[Path]:
    """The folders in ``"-Ifolder"`` and ``"-isystem" "folder"`` words of these variables."""
    folders: list[Path] = []
    for name in names:
        words = iter(shlex.split(variables.get(name, "")))
        for word in words:
            flag = next((flag for flag in flags if word.startswith(flag)), None)
            folder = (word.removeprefix(flag) or next(words, "")) if flag else ""
            if folder:
                folders.append(Path(folder))
    return folders


def _existing(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Those that are folders, links resolved, each once, in order; never the stubs of a driver."""
    resolved = dict.fromkeys(_resolved(folder) for folder in folders if folder.is_dir())
    return tuple(folder for folder in resolved if folder.name != "stubs")
