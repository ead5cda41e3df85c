"""Installing a proven wheel into the person's environment: nothing else changes, and a failed proof is undone."""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.borrow import marker_environment, sound_distributions
from buildkit.build.context import Context
from buildkit.build.environment import installed_versions
from buildkit.build.installer import Installer
from buildkit.build.proof import IMPORT_TIMEOUT, proof_environment
from buildkit.errors import DependencyConflict, MachineError, TorchMismatch
from buildkit.machine.interpreter import Interpreter, active_interpreter
from buildkit.machine.torch_identity import identify_torch
from buildkit.verify.imports import run_imports
from buildkit.verify.wheel import open_wheel

if TYPE_CHECKING:
    from buildkit.build.pipeline import BuildResult


@dataclass(frozen=True)
class Installed:
    """What changed: the version that was there before (None: none), and requirements that came with the wheel."""

    prefix: Path
    replaced: str | None
    added: tuple[str, ...]


def install_wheel(
    wheel: Path, name: str, python: Interpreter, context: Context, prove_there: Callable[[], None]
) -> Installed:
    """Install, prove there, and undo everything if the proof (or anything else) fails.

    All present versions are constraints: uv may add packages, never change one. Raises DependencyConflict
    naming both sides.
    """
    before = installed_versions(python.site_packages)
    _check_dependents(wheel, name, before.get(name), python)
    installer = context.installer()
    with tempfile.TemporaryDirectory(prefix="install-", dir=_scratch(context)) as scratch:
        constraints = Path(scratch) / "constraints.txt"
        kept = [f"{other}=={version}" for other, version in sorted(before.items()) if other != name]
        constraints.write_text("\n".join(kept) + "\n", encoding="utf-8")
        with _undone_on_failure(name, python, installer, before, Path(scratch) / "backup"):
            _install(wheel, name, python, installer, constraints)
            added = tuple(sorted(installed_versions(python.site_packages).keys() - before.keys() - {name}))
            prove_there()
    return Installed(python.prefix, before.get(name), added)


def destination(chosen: Path | None, context: Context) -> Interpreter:
    """The active environment; MachineError for one that is not to be installed into (PEP 668)."""
    python = active_interpreter(chosen, context.environ, context.cwd, context.memo)
    if python.externally_managed:
        raise MachineError(
            f"{python.prefix} belongs to the system's package manager and is not to be installed into",
            hint="make an environment first: python3 -m venv .venv && . .venv/bin/activate",
        )
    return python


def _check_dependents(wheel: Path, name: str, replaced: str | None, python: Interpreter) -> None:
    """The packages that are there must get along with the new version; installers look at what they install only."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    version = str(open_wheel(wheel).version)
    markers = marker_environment(python)
    for found in sound_distributions(python.site_packages):
        for text in found.requires or ():
            with suppress(InvalidRequirement):
                asked = Requirement(text)
                here = asked.marker is None or asked.marker.evaluate({**markers, "extra": ""})
                if canonicalize_name(asked.name) != name or not here or asked.specifier.contains(version, True):
                    continue
                if replaced is None or asked.specifier.contains(replaced, True):
                    raise DependencyConflict(
                        f"{wheel.name} cannot be installed beside what is in {python.prefix}: "
                        f"{found.name} {found.version} there requires {asked}, and this is {name} {version}",
                        evidence=f"Requires-Dist: {text} ({found.name} {found.version})",
                        hint="build another version of one of them, or use an environment of its own",
                    )


def install_proven(result: BuildResult, chosen: Path | None, context: Context) -> Installed:
    """Install a build's wheel into the active environment and import it there.

    The environment must hold the torch that the wheel was built against. Raises TorchMismatch and what
    :func:`install_wheel` and the imports raise.
    """
    python = destination(chosen, context)
    torch = identify_torch(python.site_packages)
    verdict, wheel, subject = result.verdict, result.wheel, result.subject
    if verdict is None or wheel is None or subject is None:
        raise MachineError(f"{result.recipe} was not built")
    if verdict.torch and (torch is None or torch.version != verdict.torch):
        raise TorchMismatch(
            f"the wheel is for torch {verdict.torch}, and {python.prefix} holds {torch.version if torch else 'none'}",
            hint=f"install that torch there first (pip install 'torch=={verdict.torch}'), or use another environment",
        )
    verify = subject.loaded.recipe.verify

    def prove_there() -> None:
        context.reporter.phase("import", f"in {python.prefix}")
        with tempfile.TemporaryDirectory(prefix="install-", dir=_scratch(context)) as own:
            run_imports(
                python.executable,
                imports=verify.imports or _modules(wheel),
                cuda_proof=verify.cuda_proof,
                env=proof_environment(Path(own), context),
                timeout=IMPORT_TIMEOUT,
                device=subject.device,
                scratch=Path(own),
                torch=bool(verdict.torch),
            )

    return install_wheel(wheel, _name(wheel), python, context, prove_there)


def install_foreign(wheel: Path, python: Interpreter, context: Context, *, device: str, torch: bool) -> Installed:
    """Install a wheel that was proven elsewhere, and import its modules there. Raises as :func:`install_wheel` does.

    The recipe lies with the builder: what is imported is what the wheel holds.
    """

    def prove_there() -> None:
        context.reporter.phase("import", f"in {python.prefix}")
        with tempfile.TemporaryDirectory(prefix="install-", dir=_scratch(context)) as own:
            run_imports(
                python.executable,
                imports=_modules(wheel),
                cuda_proof=(),
                env=proof_environment(Path(own), context),
                timeout=IMPORT_TIMEOUT,
                device="cuda" if device == "cuda" else "cpu",
                scratch=Path(own),
                torch=torch,
            )

    return install_wheel(wheel, _name(wheel), python, context, prove_there)


def _name(wheel: Path) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(wheel.name.split("-")[0])


def _scratch(context: Context) -> Path:
    folder = context.places.work
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _install(wheel: Path, name: str, python: Interpreter, installer: Installer, constraints: Path) -> None:
    options = ["--constraints", str(constraints), "--reinstall-package", name]
    try:
        installer.install([str(wheel)], python=python.executable, options=options, link_mode="copy")
    except DependencyConflict as error:
        raise DependencyConflict(
            f"{wheel.name} cannot be installed beside what is in {python.prefix}: {error.message}",
            evidence=error.evidence,
            hint="change the version named there, or use an environment of its own",
        ) from error


@contextmanager
def _undone_on_failure(
    name: str, python: Interpreter, installer: Installer, before: dict[str, str], backup: Path
) -> Iterator[None]:
    saved = _save(name, python, backup)
    try:
        yield
    except BaseException:
        now = installed_versions(python.site_packages)
        new = [other for other in now if other not in before or (other == name and not _is_saved(name, python, saved))]
        if new:
            installer.run(["pip", "uninstall", "--python", str(python.executable), *sorted(new)], network=False)
        _restore(saved)
        raise


def _find(name: str, python: Interpreter) -> Distribution | None:
    from packaging.utils import canonicalize_name

    found = sound_distributions(python.site_packages)
    return next((each for each in found if canonicalize_name(each.name) == name), None)


def _save(name: str, python: Interpreter, backup: Path) -> dict[Path, Path]:
    """Copy every file of the installed distribution; returns original to copy."""
    found = _find(name, python)
    saved: dict[Path, Path] = {}
    for number, file in enumerate((found.files or []) if found else []):
        original = Path(str(file.locate()))
        if original.is_file():
            copy = backup / str(number)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(original, copy, follow_symlinks=False)
            saved[original] = copy
    return saved


def _is_saved(name: str, python: Interpreter, saved: dict[Path, Path]) -> bool:
    """Whether what is installed under the name now is still the old one, untouched."""
    found = _find(name, python)
    files = [Path(str(file.locate())) for file in (found.files or [])] if found else []
    return bool(saved) and {file for file in files if file.is_file()} == set(saved)


def _restore(saved: dict[Path, Path]) -> None:
    for original, copy in saved.items():
        original.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(copy, original, follow_symlinks=False)


def keeping_lines(wheel: Path, name: str, folder: Path, *, container: str = "", host: str = "") -> list[str]:
    """The lines that keep an installation, for what is found in the project's folder.

    ``container``: the kind of container that this is, whose changes are gone when it is made anew; ``host``: its name.
    """
    lines = []
    if (folder / "uv.lock").is_file() or _mentions(folder / "pyproject.toml", "[tool.uv"):
        lines.append(f"uv add '{name} @ {wheel.resolve().as_uri()}'   # keeps it in this uv project")
    requirements = sorted(folder.glob("requirements*.txt"))
    if requirements:
        lines.append(f"{name} @ {wheel.resolve().as_uri()}   # add to {requirements[0].name}")
    if (folder / "Dockerfile").is_file():
        lines.append(f"COPY {wheel.name} /tmp/   # and, last of all installs in the Dockerfile:")
        lines.append(f"RUN pip install --no-deps /tmp/{wheel.name} && python -c 'import {_imported(wheel)}'")
    elif container in _FORGETFUL:
        lines += _in_the_image(wheel, name, container, host)
    return lines


_FORGETFUL = {"Docker", "Podman", "Kubernetes", "a container"}
"""Kinds of containers whose file system goes with them; Apptainer's environments lie in a person's own folders."""


def _in_the_image(wheel: Path, name: str, container: str, host: str) -> Iterator[str]:
    """What is installed in a container lasts as long as it does: into the Dockerfile with it."""
    tool = "podman" if container == "Podman" else "docker"
    yield (
        f"{tool} cp {host}:{shlex.quote(str(wheel))} wheelhouse/   # outside, in the Dockerfile's folder: this is "
        f"{container}, and what was installed goes with it"
    )
    yield (
        f"RUN --mount=type=bind,source=wheelhouse,target=/wheelhouse pip install --no-deps /wheelhouse/{wheel.name} "
        f"&& pip check && python -c 'import {_imported(wheel)}'   # last of all installs in the Dockerfile"
    )
    yield f"cudabuild docker {name} --out .   # or, outside: a Dockerfile that has all of this"


def _imported(wheel: Path) -> str:
    """What a line imports as a check: the module, and torch before it where it is an extension of torch."""
    return f"torch, {_module(wheel)}" if re.search(r"[+.]pt[0-9]", wheel.name.split("-")[1]) else _module(wheel)


def _mentions(file: Path, text: str) -> bool:
    try:
        return text in file.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _module(wheel: Path) -> str:
    return next(iter(_modules(wheel)), wheel.name.split("-")[0])


def _modules(wheel: Path) -> tuple[str, ...]:
    return tuple(open_wheel(wheel).modules)
