"""What a build reads of the system without being told to: headers, libraries to link, programs, Python's own files.

Found by tracing real builds, and part of the key. Each fingerprint is remembered, so that asking again costs
some stat calls. Folders that a package manager keeps are told by names, sizes and times (packages bring their
times along), and looked at again when the package database or one of their upper folders changes; elsewhere
(``/usr/local``, a Python of one's own) every file's content counts.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.machine.compiler import HostCompiler
from buildkit.machine.identity import Memo, combined_sha256, content_sha256, hash_file, identity_or_none, is_settled
from buildkit.machine.interpreter import Interpreter
from buildkit.process import ProgramFailed, run

SYSTEM_FOLDERS = ("/usr/bin", "/bin")
"""Where backends find programs, beside their environment, the toolkit and the compiler's own folder."""

PROGRAMS = (
    "cc", "c++", "gcc", "g++", "clang", "clang++", "as", "ld", "ar", "ranlib", "strip", "cmake", "make", "ninja",
    "pkg-config", "swig", "nasm", "yasm", "protoc", "m4", "bison", "flex", "meson", "cargo", "ccache", "sccache",
)  # fmt: skip
"""Programs that make or choose what ends up in a wheel, as backends call them: by name."""

_DATABASES = (
    "/var/lib/dpkg/status",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages",
)
_LOCAL = Path("/usr/local")
_LINKED = re.compile(r"lib.+\.(so|a)|.+\.o|specs|.+\.spec")
_Fingerprint = Callable[[Path, Memo], str]
_PYTHON_FILES = re.compile(r"_sysconfigdata.*\.py|(site|user)customize\.py")


@dataclass(frozen=True)
class SystemInputs:
    """SHA-256 of the interpreter's own files, of the headers and of the libraries that a compiler finds by itself.

    ``programs`` maps each of :data:`PROGRAMS` that is here to the SHA-256 of its content.
    """

    interpreter: str
    headers: str
    libraries: str
    programs: dict[str, str]


@dataclass(frozen=True)
class SearchFolders:
    """Where a compiler looks without being told to: existing folders, resolved, none inside another's tree."""

    headers: tuple[Path, ...]
    libraries: tuple[Path, ...]


def read_system_inputs(python: Interpreter, compiler: HostCompiler, memo: Memo) -> SystemInputs:
    """All of it, mostly from memory."""
    folders = search_folders(compiler, memo)
    return SystemInputs(
        interpreter=interpreter_sha256(python, memo),
        headers=_both(folders.headers, memo, packaged=header_tree, own=own_tree),
        libraries=_both(folders.libraries, memo, packaged=linkable, own=linkable),
        programs=program_hashes([str(compiler.path.parent), *SYSTEM_FOLDERS], memo),
    )


def search_folders(compiler: HostCompiler, memo: Memo) -> SearchFolders:
    """Asked of the compiler once, and remembered by its content; /usr/local counts even if it comes later."""
    known = memo.get("search-folders", str(compiler.path), compiler.identity)
    if isinstance(known, dict):
        headers, libraries = str(known.get("headers", "")), str(known.get("libraries", ""))
    else:
        headers, libraries = _asked(compiler)
        memo.put("search-folders", str(compiler.path), compiler.identity, {"headers": headers, "libraries": libraries})
    local = [str(_LOCAL / part) for part in ("lib", f"lib/{compiler.machine}", "lib64")]
    return SearchFolders(
        _outermost([*headers.splitlines(), str(_LOCAL / "include")]),
        _existing([*libraries.splitlines(), *local]),
    )


def _asked(compiler: HostCompiler) -> tuple[str, str]:
    environment = {"PATH": f"{compiler.path.parent}:{':'.join(SYSTEM_FOLDERS)}", "LC_ALL": "C.UTF-8"}

    def ask(*words: str) -> str:
        try:
            done = run([str(compiler.path), *words], env=environment, timeout=30)
        except ProgramFailed as error:
            return error.output
        return done.stdout + done.stderr

    listed = ask("-E", "-v", "-x", "c++", os.devnull).partition("search starts here:")[2].partition("End of search")[0]
    headers = [line.strip() for line in listed.splitlines() if line.startswith(" ")]
    found = re.search(r"^libraries: =?(.*)$", ask("-print-search-dirs"), re.MULTILINE)
    return "\n".join(headers), "\n".join(found[1].split(":") if found else ())


def _existing(folders: Sequence[str]) -> tuple[Path, ...]:
    resolved = dict.fromkeys(Path(os.path.realpath(folder)) for folder in folders if folder)
    return tuple(folder for folder in resolved if folder.is_dir())


def _outermost(folders: Sequence[str]) -> tuple[Path, ...]:
    existing = _existing(folders)
    return tuple(folder for folder in existing if not any(other in folder.parents for other in existing))


def _both(folders: Sequence[Path], memo: Memo, *, packaged: _Fingerprint, own: _Fingerprint) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        kept = is_packaged(folder)
        digest.update(f"{folder} {(packaged if kept else own)(folder, memo)}\n".encode())
    return digest.hexdigest()


def is_packaged(folder: Path) -> bool:
    """Whether a package manager keeps this folder: below /usr, but not below /usr/local, where one is known."""
    return _database() is not None and Path("/usr") in folder.parents and not folder.is_relative_to(_LOCAL)


def _database() -> Path | None:
    return next((Path(name) for name in _DATABASES if os.path.exists(name)), None)  # noqa: PTH110 (a hit's path)


def header_tree(folder: Path, memo: Memo) -> str:
    """Names, sizes and times of everything below a packaged folder."""
    upper = [folder, *(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())]
    database = _database()
    identity = [(str(path), identity_or_none(path)) for path in [*([database] if database else []), *sorted(upper)]]
    known = memo.get("header-tree", str(folder), identity)
    if isinstance(known, str):
        return known
    digest = hashlib.sha256()
    for name, path in _walk(folder):
        status = os.stat(path, follow_symlinks=False)  # noqa: PTH116 (thousands of them)
        digest.update(f"{name}\0{status.st_size} {status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    if is_settled(found for _path, found in identity):
        memo.put("header-tree", str(folder), identity, digest.hexdigest())
    return digest.hexdigest()


def own_tree(folder: Path, memo: Memo) -> str:
    """Names and contents of everything below a folder of one's own; every file is looked at each time."""
    files = [(name, path, identity_or_none(Path(path))) for name, path in _walk(folder)]
    identity = hashlib.sha256(repr(files).encode("utf-8", "surrogateescape")).hexdigest()
    known = memo.get("own-tree", str(folder), identity)
    if isinstance(known, str):
        return known
    digest = hashlib.sha256()
    for name, path, found in files:
        content = hash_file(Path(path)) if found is not None and os.path.isfile(path) else "none"  # noqa: PTH113
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    if is_settled(found for _name, _path, found in files):
        memo.put("own-tree", str(folder), identity, digest.hexdigest())
    return digest.hexdigest()


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Relative name and path of every file and link below a folder, in the order of names."""
    folders = [(str(folder), "")]
    while folders:
        path, prefix = folders.pop()
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                folders.append((entry.path, f"{prefix}{entry.name}/"))
            else:
                yield prefix + entry.name, entry.path


def linkable(folder: Path, memo: Memo) -> str:
    """What ``-lNAME`` finds in a folder: of a shared library the file that its link leads to, of others size and time.

    A shared library's code does not end up in a wheel, its name does; so an update of libfoo.so.1.2.3 in place
    leaves the fingerprint as it is, and a libfoo.so.1.2.4 does not.
    """
    identity = identity_or_none(folder)
    packaged = is_packaged(folder)
    known = memo.get("linkable", str(folder), identity) if packaged else None
    if isinstance(known, str):
        return known
    digest = hashlib.sha256()
    with os.scandir(folder) as entries:
        names = sorted((entry.name, entry.path) for entry in entries if _LINKED.fullmatch(entry.name))
    for name, path in names:
        real = Path(os.path.realpath(path))
        found = identity_or_none(real)
        size_and_time = found[:2] if found and not (packaged and ".so" in real.name) else None
        digest.update(f"{name} {real} {size_and_time}\n".encode("utf-8", "surrogateescape"))
    if packaged and is_settled([identity]):
        memo.put("linkable", str(folder), identity, digest.hexdigest())
    return digest.hexdigest()


def program_hashes(folders: Sequence[str], memo: Memo) -> dict[str, str]:
    """SHA-256 of each of :data:`PROGRAMS` as found in these folders, links followed."""
    search = os.pathsep.join(folders)
    found = {name: Path(os.path.realpath(path)) for name in PROGRAMS if (path := shutil.which(name, path=search))}
    identity = [(name, str(path), identity_or_none(path)) for name, path in found.items()]
    known = memo.get("programs", search, identity)
    if isinstance(known, dict):
        return {name: str(value) for name, value in known.items()}
    hashes = {name: content_sha256(path, memo) for name, path in found.items()}
    if is_settled(each for _name, _path, each in identity):
        memo.put("programs", search, identity, {**hashes})
    return hashes


def interpreter_sha256(python: Interpreter, memo: Memo) -> str:
    """The base interpreter: program, library, build settings (the flags that extensions get), headers.

    Its version alone does not tell two builds of one release apart (debug, other flags, a vendor's patches).
    """
    base = python.base_executable.resolve()
    files = {"executable": base, "pyconfig.h": python.include / "pyconfig.h"}
    root, name = base.parent.parent, python.include.name
    for library in (root / "lib", root / "lib64"):
        files |= {path.name: path for path in library.glob("libpython*.so.*")}
        stdlib = library / name
        if stdlib.is_dir():
            files |= {each: stdlib / each for each in os.listdir(stdlib) if _PYTHON_FILES.fullmatch(each)}
            files["distutils.cfg"] = stdlib / "distutils" / "distutils.cfg"
    own = combined_sha256(files, memo, key=f"interpreter {base}")
    headers = (header_tree if is_packaged(python.include) else own_tree)(python.include, memo)
    return hashlib.sha256(f"{own} {headers}".encode()).hexdigest()
