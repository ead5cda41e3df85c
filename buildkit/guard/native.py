"""Finding the native programs: those in the wheel, or, in a source checkout, compiled once into the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import MachineError, NoCompiler, ReadOnlyCache
from buildkit.process import ProgramFailed, run

PROGRAM = "cudabuild-supervisor"
SHIM = "cudabuild-shim"
_PACKAGE = Path(__file__).resolve().parent.parent
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra")


@dataclass(frozen=True)
class _Native:
    """A program and its sources below ``csrc``. ``static``: without a dynamic linker where libc allows it."""

    name: str
    sources: tuple[str, ...]
    static: bool = False


_SUPERVISOR = _Native(PROGRAM, ("supervisor/*.[ch]",))
_SHIM = _Native(
    SHIM,
    ("shim/*.[ch]", "supervisor/supervisor.h", *(f"supervisor/{name}.c" for name in ("cgroup", "scratch", "sweep"))),
    static=True,
)


def supervisor_program(cache: Path | None = None) -> Path:
    """The program's path. ``cache``: where a checkout keeps the compiled one (default: the user's cache folder).

    Raises :class:`NoCompiler` when there is no C compiler for a checkout, :class:`MachineError` when it fails,
    :class:`ReadOnlyCache` when the result cannot be kept.
    """
    return _program(_SUPERVISOR, cache)


def existing_supervisor(cache: Path | None = None) -> Path | None:
    """The same where it is there already; None where it would have to be compiled first."""
    packaged = _PACKAGE / "_native" / PROGRAM
    if os.access(packaged, os.X_OK):
        return packaged
    try:
        program = _place(_SUPERVISOR, _sources(_SUPERVISOR), cache or _user_cache())
    except MachineError:
        return None
    return program if os.access(program, os.X_OK) else None


def shim_program(cache: Path | None = None) -> Path:
    """The same for the program that stands in front of compilers."""
    return _program(_SHIM, cache)


def _program(native: _Native, cache: Path | None) -> Path:
    packaged = _PACKAGE / "_native" / native.name
    if os.access(packaged, os.X_OK):
        return packaged
    return _compiled(native, _sources(native), cache or _user_cache())


def _sources(native: _Native) -> list[Path]:
    for folder in (_PACKAGE / "_share" / "csrc", _PACKAGE.parent / "csrc"):
        if folder.is_dir():
            return sorted(path for pattern in native.sources for path in folder.glob(pattern))
    raise MachineError(
        f"this installation of cudabuild lacks {native.name} and its source",
        evidence=f"neither {_PACKAGE / '_native' / native.name} nor csrc is there",
        hint="install cudabuild again: pip install --force-reinstall cudabuild",
    )


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cudabuild"


def _place(native: _Native, sources: Sequence[Path], cache: Path) -> Path:
    """Where a checkout keeps the program that these sources make."""
    digest = hashlib.sha256(os.uname().machine.encode())
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return cache / "native" / digest.hexdigest()[:24] / native.name


def _compiled(native: _Native, sources: Sequence[Path], cache: Path) -> Path:
    program = _place(native, sources, cache)
    if os.access(program, os.X_OK):
        return program
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler("no C compiler, which a source checkout needs once", hint="apt-get install gcc libc6-dev")
    try:
        program.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReadOnlyCache(
            f"{native.name} of a source checkout cannot be kept in {program.parent}",
            evidence=str(error),
            hint="give a cache folder that can be written to: XDG_CACHE_HOME=/path",
        ) from error
    partial = program.with_name(f"{native.name}.{os.getpid()}")
    words = ["-o", str(partial), *(str(source) for source in sources if source.suffix == ".c")]
    try:
        _compile([compiler, *_FLAGS, *words], static=native.static)
    except ProgramFailed as error:
        raise MachineError(
            f"{native.name} does not compile", evidence=error.evidence, hint="apt-get install gcc libc6-dev"
        ) from error
    partial.replace(program)
    return program


def _compile(command: list[str], *, static: bool) -> None:
    if static:
        try:
            run([*command, "-static"], timeout=120)
        except ProgramFailed:
            pass  # a libc without its static half
        else:
            return
    run(command, timeout=120)
