"""Finding the supervisor: the one in the wheel, or, in a source checkout, one compiled once into the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from buildkit.errors import MachineError, NoCompiler, ReadOnlyCache
from buildkit.process import ProgramFailed, run

PROGRAM = "cudabuild-supervisor"
_PACKAGE = Path(__file__).resolve().parent.parent
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra")


def supervisor_program(cache: Path | None = None) -> Path:
    """The program's path. ``cache``: where a checkout keeps the compiled one (default: the user's cache folder).

    Raises :class:`NoCompiler` when there is no C compiler for a checkout, :class:`MachineError` when it fails,
    :class:`ReadOnlyCache` when the result cannot be kept.
    """
    packaged = _PACKAGE / "_native" / PROGRAM
    if os.access(packaged, os.X_OK):
        return packaged
    return _compiled(_sources(), cache or _user_cache())


def _sources() -> list[Path]:
    for folder in (_PACKAGE / "_csrc" / "supervisor", _PACKAGE.parent / "csrc" / "supervisor"):
        if folder.is_dir():
            return sorted(folder.glob("*.[ch]"))
    raise MachineError(
        f"this installation of cudabuild lacks {PROGRAM} and its source",
        evidence=f"neither {_PACKAGE / '_native' / PROGRAM} nor csrc/supervisor is there",
        hint="install cudabuild again: pip install --force-reinstall cudabuild",
    )


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cudabuild"


def _compiled(sources: list[Path], cache: Path) -> Path:
    digest = hashlib.sha256(os.uname().machine.encode())
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    program = cache / "native" / digest.hexdigest()[:24] / PROGRAM
    if os.access(program, os.X_OK):
        return program
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler("no C compiler, which a source checkout needs once", hint="apt-get install gcc libc6-dev")
    try:
        program.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReadOnlyCache(
            f"{PROGRAM} of a source checkout cannot be kept in {program.parent}",
            evidence=str(error),
            hint="give a cache folder that can be written to: XDG_CACHE_HOME=/path",
        ) from error
    partial = program.with_name(f"{PROGRAM}.{os.getpid()}")
    words = [str(source) for source in sources if source.suffix == ".c"]
    try:
        run([compiler, *_FLAGS, "-o", str(partial), *words], timeout=120)
    except ProgramFailed as error:
        raise MachineError(
            f"{PROGRAM} does not compile", evidence=error.evidence, hint="apt-get install gcc libc6-dev"
        ) from error
    partial.replace(program)
    return program
