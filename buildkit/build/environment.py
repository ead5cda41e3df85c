"""Private environments: one to build in, one to prove in. Both borrow torch; neither is ever the person's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from buildkit import process
from buildkit.build import deferral
from buildkit.build.borrow import Loan, check_against_loan, lend, sound_distributions
from buildkit.build.installer import Installer
from buildkit.build.locks import RequirementLock
from buildkit.build.torches import manifest_of, site_packages
from buildkit.errors import EnvironmentChanged
from buildkit.machine.interpreter import Interpreter
from buildkit.machine.manifest import check_manifest, write_manifest
from buildkit.store.locks import file_lock

DEFERRAL = Path(deferral.__file__).parent
"""What is loaded into each backend's process."""


def ensure_build_environment(
    parent: Path,
    *,
    python: Interpreter,
    lock: RequirementLock,
    loan: Loan,
    links: Path,
    installer: Installer,
    pycache: Path,
    hold: Callable[[Path], None],
) -> Path:
    """The environment that backends run in, made once for a lock and a loan; returns its folder.

    It is shared by builds, which must not write into it: where the kernel cannot keep them from it, the
    manifest shows it, and the environment is made again. Files are copied from uv's cache, so that what is
    written into them reaches nothing else. Byte code is made here once, because builds cannot leave any. ``hold``
    is told first which folder it will be, so that nobody clears it away.
    """
    folder = parent / f"{python.abi}-{lock.sha256[:16]}-{links.name}"
    hold(folder)
    manifest = manifest_of(folder)
    parent.mkdir(parents=True, exist_ok=True)
    with file_lock(parent / f".{folder.name}.lock"):
        if manifest.is_file():
            try:
                check_manifest(folder, manifest)
            except EnvironmentChanged:
                manifest.unlink()
            else:
                return folder
        shutil.rmtree(folder, ignore_errors=True)
        interpreter = installer.create(folder, python.base_executable)
        installer.install_lock(lock.path, python=interpreter, link_mode="copy")
        lend(folder, links)
        _check(folder, loan, python)
        _compile(interpreter, [*site_packages(folder), DEFERRAL], pycache, torch="torch" in loan.names)
        write_manifest(folder, manifest)
    return folder


def _compile(interpreter: Path, folders: Sequence[Path], pycache: Path, *, torch: bool) -> None:
    """Byte code of the environment and of what a backend imports of torch, in the cache and nowhere else."""
    pycache.mkdir(parents=True, exist_ok=True)
    # Images often set PYTHONDONTWRITEBYTECODE, meant for their own layers: without byte code every import of
    # torch takes three times as long.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment = {**plain, "PYTHONPYCACHEPREFIX": str(pycache), "PYTHONNOUSERSITE": "1"}
    words = [str(interpreter), "-m", "compileall", "-q", *(str(folder) for folder in folders)]
    process.run(words, env=environment, timeout=300, check=False)
    if torch:
        words = [str(interpreter), "-c", "import torch.utils.cpp_extension"]
        process.run(words, env=environment, timeout=300, check=False)


def make_proof_environment(
    folder: Path,
    *,
    wheel: Path,
    requirements: Sequence[str],
    python: Interpreter,
    loan: Loan,
    links: Path,
    installer: Installer,
) -> Path:
    """A clean environment that holds the wheel, what it requires, and torch; returns its interpreter."""
    shutil.rmtree(folder, ignore_errors=True)
    interpreter = installer.create(folder, python.base_executable)
    excludes = folder / "excludes.txt"
    excludes.write_text("\n".join(loan.names) + "\n", encoding="utf-8")
    installer.install(
        [str(wheel), *requirements],
        python=interpreter,
        options=["--excludes", str(excludes)],
        link_mode="hardlink",
    )
    lend(folder, links)
    _check(folder, loan, python)
    return interpreter


def _check(environment: Path, loan: Loan, python: Interpreter) -> None:
    """What was installed may itself require borrowed packages: the lent versions have to do."""
    for distribution in sound_distributions(site_packages(environment)):
        check_against_loan(distribution.requires or (), loan, python, whose=distribution.name)


def installed_versions(folders: Sequence[Path]) -> dict[str, str]:
    """Normalised name to version of everything in some site-packages folders; the first one found counts."""
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    for distribution in sound_distributions(folders):
        found.setdefault(canonicalize_name(distribution.name), distribution.version)
    return found


def unmet(requirements: Sequence[str], installed: dict[str, str], python: Interpreter) -> list[str]:
    """The requirements that an environment does not meet, as they were written."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    from buildkit.build.borrow import marker_environment

    markers = marker_environment(python)
    missing = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate(markers):
            continue
        version = installed.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            missing.append(text)
    return missing
