"""The host C++ compiler: found, told apart, and identified by the content of its parts."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from buildkit.errors import CanaryFailed, MachineError, NoCompiler
from buildkit.machine.identity import Memo, combined_sha256, file_identity, is_settled
from buildkit.process import ProgramFailed, run

_NAMES = ("g++", "c++", "clang++")
# Programs that stand in front of a compiler and take its name: the compiler is the next one of that name on PATH.
_LAUNCHERS = ("ccache", "sccache", "distcc", "icecc", "colorgcc")
# What a compiler runs, and what it links into everything it makes.
_PROGRAMS = ("cc1plus", "cc1", "collect2", "as", "ld")
_FILES = ("libstdc++.so", "libgcc.a", "crtbeginS.o", "crtendS.o", "crti.o", "crtn.o", "liblto_plugin.so")
_INSTALL = (
    "apt-get install g++   (Debian, Ubuntu)  |  dnf install gcc-c++   (Fedora, RHEL)  |  "
    "conda install -c conda-forge gxx"
)


@dataclass(frozen=True)
class HostCompiler:
    """``path`` is what to call, ``version`` "12.2.0", ``machine`` "x86_64-linux-gnu".

    ``identity`` is a SHA-256 over the driver, the compiler proper, assembler, linker and the runtime's own objects.
    """

    path: Path
    kind: Literal["gcc", "clang"]
    version: str
    machine: str
    identity: str


class _Answer(BaseModel):
    """What was found out by running the compiler; remembered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["gcc", "clang"]
    version: str
    machine: str
    files: dict[str, Path]


def find_host_compiler(environ: Mapping[str, str], memo: Memo) -> HostCompiler:
    """CXX's program if it is set, else the first of g++, c++, clang++ on PATH. NoCompiler if there is none."""
    path, answer = _known(environ, memo)
    content = combined_sha256({"driver": path.resolve(), **answer.files}, memo, key=str(path))
    return HostCompiler(path, answer.kind, answer.version, answer.machine, content)


def look_at_compiler(environ: Mapping[str, str], memo: Memo) -> HostCompiler:
    """The same without its identity, for who only looks: little is asked, nothing hashed."""
    path = _program(environ)
    answer = _recalled(memo, path, file_identity(path))
    if answer is not None:
        return HostCompiler(path, answer.kind, answer.version, answer.machine, "")
    try:
        kind, version, machine = _release(path, environ)
    except ProgramFailed as error:
        raise _does_not_run(path, error) from error
    return HostCompiler(path, kind, version, machine, "")


def _known(environ: Mapping[str, str], memo: Memo) -> tuple[Path, _Answer]:
    path = _program(environ)
    identity = file_identity(path)
    answer = _recalled(memo, path, identity)
    if answer is None:
        answer = _asked(path, environ)
        if is_settled([identity]):
            memo.put("compiler", str(path), identity, answer.model_dump(mode="json"))
    return path, answer


def check_word(compiler: HostCompiler, environ: Mapping[str, str], memo: Memo) -> None:
    """CanaryFailed where a compiler compiles as another release than the one it says it is.

    What it defines (``__GNUC__``) is what nvcc and every header go by; what it says is what the tables, patches and
    torch's own checks go by. A wrapper, or a link in the wrong place, can make the two differ.
    """
    said = f"{compiler.kind} {compiler.version}"
    macro = "__GNUC__" if compiler.kind == "gcc" else "__clang_major__"
    lines = _macros(compiler, environ, memo)
    line = next((line for line in lines if line.startswith(f"#define {macro} ")), "")
    if line.rpartition(" ")[2] == compiler.version.partition(".")[0]:
        return
    raise CanaryFailed(
        f"{compiler.path} says that it is {said}, and compiles as another one",
        evidence=f"{line or lines[0]} ({compiler.path} -dM -E), and it says {said}",
        hint="name the compiler itself, such as CC=gcc-12 CXX=g++-12, or unset CXX",
    )


def _macros(compiler: HostCompiler, environ: Mapping[str, str], memo: Memo) -> list[str]:
    """What the compiler defines by itself of its own release; remembered by its content."""
    known = memo.get("compiler-macros", str(compiler.path), compiler.identity)
    if isinstance(known, list):
        return [str(line) for line in known]
    words = [str(compiler.path), "-dM", "-E", "-x", "c++", os.devnull]
    try:
        told = run(words, env={**environ, "LC_ALL": "C.UTF-8"}, timeout=30).stdout.splitlines()
    except ProgramFailed as error:
        return [error.evidence or error.message]
    lines = [line for line in told if re.match(r"#define __(GNUC|clang_major)__ ", line)]
    if lines:
        memo.put("compiler-macros", str(compiler.path), compiler.identity, [*lines])
    return lines or ["it defines neither __GNUC__ nor __clang_major__"]


def glibc_version(root: Path = Path("/")) -> str:
    """The C library's release, "2.36". MachineError where it is not glibc.

    Of a ``root`` that is not this system's by what its libc.so.6 says of itself.
    """
    told = os.confstr("CS_GNU_LIBC_VERSION") or "" if root == Path("/") else _banner(root)
    found = re.fullmatch(r"glibc (\d+(?:\.\d+)+)", told)
    if found is None:
        raise MachineError(
            "this system's C library is not glibc",
            evidence="getconf GNU_LIBC_VERSION knows none",
            hint="build in a container of a distribution with glibc, such as debian:12",
        )
    return found[1]


def _banner(root: Path) -> str:
    """``GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.`` as ``glibc 2.36``."""
    for file in sorted((root / "usr/lib").glob("*/libc.so.6")):
        if found := re.search(rb"stable release version (\d+(?:\.\d+)+)", file.read_bytes()):
            return f"glibc {found[1].decode()}"
    return ""


def _program(environ: Mapping[str, str]) -> Path:
    search = environ.get("PATH", os.defpath)
    typed = environ.get("CXX", "").strip()
    # CXX may hold launchers before the compiler and flags behind it.
    names = list(reversed(_words(typed))) if typed else list(_NAMES)
    for name in names:
        for path in _found(name, search):
            if path.resolve().name not in _LAUNCHERS:
                return path
    if typed:
        raise NoCompiler(
            "CXX names no program that is here", evidence=f"CXX={typed}", hint=f"unset CXX, or: {_INSTALL}"
        )
    raise NoCompiler(
        "no C++ compiler on this machine", evidence=f"none of {', '.join(_NAMES)} is on PATH ({search})", hint=_INSTALL
    )


def _words(text: str) -> list[str]:
    try:
        return [word for word in shlex.split(text) if not word.startswith("-")]
    except ValueError as error:
        raise NoCompiler("CXX cannot be read", evidence=f"CXX={text}: {error}", hint="unset CXX") from error


def _found(name: str, search: str) -> Iterator[Path]:
    """Every program of this name, in PATH's order; a name with a folder is itself."""
    folders = [""] if os.sep in name else search.split(":")
    for folder in folders:
        if path := shutil.which(name, path=folder or None):
            yield Path(path).absolute()


def _recalled(memo: Memo, path: Path, identity: object) -> _Answer | None:
    try:
        return _Answer.model_validate(memo.get("compiler", str(path), identity))
    except ValidationError:
        return None


def _asked(path: Path, environ: Mapping[str, str]) -> _Answer:
    try:
        kind, version, machine = _release(path, environ)
        programs = {name: _ask(path, environ, f"-print-prog-name={name}") for name in _PROGRAMS}
        files = {name: _ask(path, environ, f"-print-file-name={name}") for name in _FILES}
    except ProgramFailed as error:
        raise _does_not_run(path, error) from error
    search = environ.get("PATH", os.defpath)
    parts = {name: shutil.which(found, path=search) or found for name, found in {**programs, **files}.items()}
    parts |= {name: found for name, found in files.items() if os.sep in found}
    return _Answer(
        kind=kind,
        version=version,
        machine=machine,
        files={name: Path(os.path.realpath(found)) for name, found in parts.items() if os.sep in found},
    )


def _ask(path: Path, environ: Mapping[str, str], *arguments: str) -> str:
    return run([str(path), *arguments], env={**environ, "LC_ALL": "C.UTF-8"}, timeout=30).stdout.strip()


def _release(path: Path, environ: Mapping[str, str]) -> tuple[Literal["gcc", "clang"], str, str]:
    """Kind, version and machine."""
    kind = _kind(path, _ask(path, environ, "--version"))
    # -dumpversion alone is "12" where distributions shorten it; clang knows no -dumpfullversion.
    words = ("-dumpfullversion", "-dumpversion") if kind == "gcc" else ("-dumpversion",)
    return kind, _ask(path, environ, *words), _ask(path, environ, "-dumpmachine")


def _does_not_run(path: Path, error: ProgramFailed) -> NoCompiler:
    return NoCompiler(f"the C++ compiler {path} does not run", evidence=error.evidence or error.message, hint=_INSTALL)


def _kind(path: Path, banner: str) -> Literal["gcc", "clang"]:
    if "clang" in banner:
        return "clang"
    if "Free Software Foundation" in banner:
        return "gcc"
    first = banner.splitlines()[0] if banner else "it prints no version"
    raise NoCompiler(f"{path} is neither gcc nor clang", evidence=first, hint=f"CXX=g++, or: {_INSTALL}")
