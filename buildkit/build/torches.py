"""Torch environments that cudabuild installs itself, one per Python and torch version, shared by all builds."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from buildkit.build.installer import Installer
from buildkit.errors import CudabuildError, DependencyConflict, NotCached, NotOnIndex, NoTorch, TorchMismatch
from buildkit.machine.interpreter import Interpreter
from buildkit.machine.manifest import check_manifest, write_manifest
from buildkit.machine.torch_identity import TorchIdentity, identify_torch
from buildkit.progress import Reporter
from buildkit.store.locks import file_lock, once


def manifest_of(folder: Path) -> Path:
    """Beside the environment, so that it is not part of what it lists; written last, so it also says "complete"."""
    return folder.with_name(f"{folder.name}.manifest.json")


def folder_of(parent: Path, python: Interpreter, version: str) -> Path:
    """Where the environment for one Python and one torch stands."""
    return parent / f"{python.abi}-{python.version}-torch-{version}"


def installed_torch(parent: Path, python: Interpreter, version: str) -> TorchIdentity | None:
    """The managed torch of this version, if it is there; reads a few files and starts nothing."""
    folder = folder_of(parent, python, version)
    if not manifest_of(folder).is_file():
        return None
    return identify_torch(site_packages(folder))


def site_packages(environment: Path) -> list[Path]:
    """The folders an environment's packages are in."""
    return sorted(environment.glob("lib/python*/site-packages"))


def ensure_torch(
    parent: Path, python: Interpreter, version: str, installer: Installer, reporter: Reporter
) -> TorchIdentity:
    """The managed torch of this version, installed now if it is not there yet.

    ``2.13.0+cu130`` is looked for as ``===2.13.0`` (the default index's wheel carries no local version) and
    then as ``==2.13.0+cu130``; what came is told by its version.py. Raises NoTorch, TorchMismatch.
    """
    found = installed_torch(parent, python, version)
    if found is not None:
        return found
    parent.mkdir(parents=True, exist_ok=True)
    folder = folder_of(parent, python, version)
    with file_lock(
        parent / f".{folder.name}.lock", on_wait=once(lambda: reporter.note(f"waiting for torch {version}"))
    ):
        found = installed_torch(parent, python, version)
        if found is not None:
            return found
        reporter.phase("torch", f"installing torch {version} (several GB the first time)")
        manifest_of(folder).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            identity = _install(folder, python, version, installer)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        write_manifest(folder, manifest_of(folder))
    return identity


def _install(folder: Path, python: Interpreter, version: str, installer: Installer) -> TorchIdentity:
    interpreter = installer.create(folder, python.base_executable)
    problems: list[CudabuildError] = []
    others: list[str] = []
    for requirement in _spellings(version):
        try:
            installer.install([requirement], python=interpreter)
        except (NotCached, NotOnIndex, DependencyConflict) as error:
            problems.append(error)
            continue
        identity = identify_torch(site_packages(folder))
        if identity is not None and _same(identity.version, version):
            return identity
        others.append(identity.version if identity else "none")
    if others:
        raise TorchMismatch(
            f"torch {version} was asked for, and the index gives {' and '.join(others)}",
            hint=f"use --torch {others[0]}, or configure pip with the index that holds torch {version}",
        )
    if installer.offline:
        raise NotCached(
            f"torch {version} is not in the cache, and --offline forbids to fetch it",
            evidence=problems[0].evidence if problems else "",
            hint="run `cudabuild fetch` with the same options where there is a network",
        )
    raise NoTorch(
        f"no torch {version} for Python {python.version} on the configured index",
        evidence=problems[0].evidence if problems else "",
        hint="choose another with --torch VERSION, or another Python with --python PATH",
    )


def _spellings(version: str) -> Sequence[str]:
    public, plus, local = version.partition("+")
    if not plus:
        return [f"torch==={public}"]
    both = [f"torch==={public}", f"torch=={version}"]
    # The default wheel is several GB of CUDA: not worth a try where a CPU build was asked for.
    return both[::-1] if local == "cpu" else both


def _same(found: str, asked: str) -> bool:
    return found == asked or ("+" not in asked and found.partition("+")[0] == asked)


def check_unchanged(torch: TorchIdentity, parent: Path) -> None:
    """Raise EnvironmentChanged when a managed environment is not what was recorded of it."""
    for folder in torch.location.parents:
        if folder.parent == parent and manifest_of(folder).is_file():
            check_manifest(folder, manifest_of(folder))
