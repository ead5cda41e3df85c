"""What a build reads of the system without being told to: headers, libraries to link, programs, Python's own files.

Found by tracing real builds, and part of the key. Each fingerprint is remembered, so that asking again costs
some hundred stat calls (hence plain texts for paths: a hit pays for this). Folders that a package manager keeps
are told by names, sizes and times (packages bring their times along), and looked at again when the package
database or one of their upper folders changes; below ``/usr/local`` every file's content counts.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from buildkit.file_identity import FileIdentity
from buildkit.machine.compiler import HostCompiler
from buildkit.machine.identity import Memo, content_sha256, hash_file, identity_or_none, is_settled
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
_LOCAL = "/usr/local"
_LINKED = re.compile(r"lib.+\.(so|a)|.+\.o|specs|.+\.spec")
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
    """Where a compiler looks without being told to: existing folders, resolved; of headers the outermost ones."""

    headers: tuple[str, ...]
    libraries: tuple[str, ...]


def read_system_inputs(
    python: Interpreter, compiler: HostCompiler, memo: Memo, named: Mapping[str, str] | None = None
) -> SystemInputs:
    """All of it, mostly from memory. ``named`` holds CC and CXX as they were exported: commands with their flags."""
    folders = search_folders(compiler, memo)
    trees = [f"{folder} {tree_sha256(folder, memo, watch=_watch(folder))}" for folder in folders.headers]
    linked = [f"{folder} {linkable_sha256(folder, memo)}" for folder in folders.libraries]
    return SystemInputs(
        interpreter=interpreter_sha256(python, memo),
        headers=_sha256("\n".join(trees)),
        libraries=_sha256("\n".join(linked)),
        programs=program_hashes([str(compiler.path.parent), *SYSTEM_FOLDERS], memo, named or {}),
    )


def search_folders(compiler: HostCompiler, memo: Memo) -> SearchFolders:
    """Asked of the compiler once, and remembered by its content; those below /usr/local count once they are there."""
    known = memo.get("search-folders", str(compiler.path), compiler.identity)
    if isinstance(known, dict):
        headers, libraries = str(known.get("headers", "")), str(known.get("libraries", ""))
    else:
        headers, libraries = ("\n".join(found) for found in _asked(compiler))
        memo.put("search-folders", str(compiler.path), compiler.identity, {"headers": headers, "libraries": libraries})
    local = [f"{_LOCAL}/{part}" for part in ("include", "lib", f"lib/{compiler.machine}", "lib64")]
    there = [folder for folder in local if identity_or_none(folder) is not None]
    added = {True: headers.splitlines(), False: libraries.splitlines()}
    for folder in there:
        added[folder.endswith("include")].append(folder)
    return SearchFolders(tuple(dict.fromkeys(added[True])), tuple(dict.fromkeys(added[False])))


def _asked(compiler: HostCompiler) -> tuple[list[str], list[str]]:
    environment = {"PATH": f"{compiler.path.parent}:{':'.join(SYSTEM_FOLDERS)}", "LC_ALL": "C.UTF-8"}

    def ask(*words: str) -> str:
        try:
            done = run([str(compiler.path), *words], env=environment, timeout=30)
        except ProgramFailed as error:
            return error.output
        return done.stdout + done.stderr

    listed = ask("-E", "-v", "-x", "c++", os.devnull).partition("search starts here:")[2].partition("End of search")[0]
    headers = _existing(line.strip() for line in listed.splitlines() if line.startswith(" "))
    found = re.search(r"^libraries: =?(.*)$", ask("-print-search-dirs"), re.MULTILINE)
    outermost = [folder for folder in headers if not any(folder.startswith(f"{other}/") for other in headers)]
    return outermost, _existing(found[1].split(":") if found else ())


def _existing(folders: Iterable[str]) -> list[str]:
    resolved = dict.fromkeys(os.path.realpath(folder) for folder in folders if folder)
    return [folder for folder in resolved if Path(folder).is_dir()]


Watch = Literal["upper", "folders", "files"]
"""By what a tree is known to be unchanged: the package database and its upper folders, all folders, all files."""


def _watch(folder: str) -> Watch:
    if folder == _LOCAL or folder.startswith(f"{_LOCAL}/"):
        return "files"
    return "upper" if folder.startswith("/usr/") and _database() else "folders"


def _database() -> str | None:
    return next((name for name in _DATABASES if identity_or_none(name) is not None), None)


def tree_sha256(folder: str, memo: Memo, *, watch: Watch) -> str:
    """Everything below a folder: by names, sizes and times where it is a package manager's, else by content."""
    seen = _watched(folder, watch)
    known = memo.get("tree", folder, _sha256(repr(seen)))
    if isinstance(known, str):
        return known
    digest = hashlib.sha256()
    for name, path in _walk(folder):
        if watch == "upper":
            status = os.lstat(path)
            told = f"{status.st_size} {status.st_mtime_ns}"
        else:
            told = hash_file(Path(path)) if Path(path).is_file() else "none"
        digest.update(_bytes(f"{name}\0{told}\n"))
    if is_settled(found for _path, found in seen):
        memo.put("tree", folder, _sha256(repr(seen)), digest.hexdigest())
    return digest.hexdigest()


def _watched(folder: str, watch: Watch) -> list[tuple[str, FileIdentity | None]]:
    if watch == "files":
        return [(path, identity_or_none(path)) for _name, path in _walk(folder)]
    if watch == "folders":
        return [(path, identity_or_none(path)) for path, _folders, _files in sorted(os.walk(folder))]
    with os.scandir(folder) as entries:
        upper = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    return [(path, identity_or_none(path)) for path in (_database() or "", folder, *upper)]


def _walk(folder: str) -> Iterator[tuple[str, str]]:
    """Relative name and path of every file and link below a folder, in a fixed order."""
    folders = [(folder, "")]
    while folders:
        path, prefix = folders.pop()
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                folders.append((entry.path, f"{prefix}{entry.name}/"))
            else:
                yield prefix + entry.name, entry.path


def linkable_sha256(folder: str, memo: Memo) -> str:
    """What ``-lNAME`` finds in a folder: of a shared library the file that its link leads to, of others size and time.

    A packaged shared library's code does not end up in a wheel, its name does: an update of libfoo.so.1.2.3 in
    place leaves the fingerprint as it is, and a libfoo.so.1.2.4 does not.
    """
    packaged, identity = _watch(folder) == "upper", identity_or_none(folder)
    known = memo.get("linkable", folder, identity) if packaged else None
    if isinstance(known, str):
        return known
    digest = hashlib.sha256()
    with os.scandir(folder) as entries:
        names = sorted((entry.name, entry.path) for entry in entries if _LINKED.fullmatch(entry.name))
    for name, path in names:
        real = os.path.realpath(path)
        found = identity_or_none(real)
        told = found[:2] if found and not (packaged and ".so" in real) else None
        digest.update(_bytes(f"{name} {real} {told}\n"))
    if packaged and is_settled([identity]):
        memo.put("linkable", folder, identity, digest.hexdigest())
    return digest.hexdigest()


def program_hashes(folders: Sequence[str], memo: Memo, named: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 of each of :data:`PROGRAMS`, and of what CC and CXX call, as found in these folders, links followed."""
    found: dict[str, tuple[str, FileIdentity]] = {}
    called = [word for command in named.values() for word in command.split() if not word.startswith("-")]
    for name in (*PROGRAMS, *called):
        for path in (os.path.join(folder, name) for folder in dict.fromkeys(folders)):  # noqa: PTH118
            if identity := identity_or_none(path):
                found[name] = (path, identity)
                break
    known = memo.get("programs", ":".join(folders), found)
    if isinstance(known, dict):
        return {name: str(value) for name, value in known.items()}
    hashes = {name: content_sha256(Path(path), memo) for name, (path, _found) in found.items()}
    if is_settled(identity for _path, identity in found.values()):
        memo.put("programs", ":".join(folders), found, {**hashes})
    return hashes


def interpreter_sha256(python: Interpreter, memo: Memo) -> str:
    """The base interpreter: program, library, build settings (the flags that extensions get), headers.

    Its version alone does not tell two builds of one release apart (debug, other flags, a vendor's patches).
    """
    include = str(python.include)
    headers = tree_sha256(include, memo, watch="upper" if _watch(include) == "upper" else "files")
    files = _interpreter_files(python)
    identity = [(path, identity_or_none(path)) for path in files]
    known = memo.get("interpreter-files", str(python.base_executable), identity)
    if not isinstance(known, str):
        contents = [f"{Path(path).name} {content_sha256(Path(path), memo)}" for path, found in identity if found]
        known = _sha256("\n".join(contents))
        if is_settled(found for _path, found in identity):
            memo.put("interpreter-files", str(python.base_executable), identity, known)
    return _sha256(f"{known} {headers}")


def _interpreter_files(python: Interpreter) -> list[str]:
    base, name = str(python.base_executable), python.include.name
    root = os.path.dirname(os.path.dirname(base))  # noqa: PTH120
    files = [base, f"{python.include}/pyconfig.h"]
    for library in (f"{root}/lib", f"{root}/lib64", f"{root}/lib/{python.machine}-linux-gnu"):
        stdlib = f"{library}/{name}"
        files += [f"{library}/lib{name}.so.1.0", f"{stdlib}/distutils/distutils.cfg"]
        if identity_or_none(stdlib):
            files += sorted(f"{stdlib}/{each}" for each in os.listdir(stdlib) if _PYTHON_FILES.fullmatch(each))  # noqa: PTH208
    return files


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _sha256(text: str) -> str:
    return hashlib.sha256(_bytes(text)).hexdigest()
