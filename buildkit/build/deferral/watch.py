"""Who could see that a call has returned too early, or could change what its compiler is going to read, waits.

Python tells an audit hook of everything that opens, changes or lists files and starts programs. Only asking whether
a file is there is not told of: for that, ``os.stat`` and its like are replaced while promises are being kept.
"""

from __future__ import annotations

import functools
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from buildkit.build.deferral.commands import absolute
from buildkit.build.deferral.promises import FOLDER, is_own_work

_CHANGES = (
    "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.utime",
    "os.chflags", "os.setxattr", "os.removexattr", "shutil.", "os.chdir", "os.putenv", "os.unsetenv",
    "resource.", "ctypes.dlopen",
)  # fmt: skip
_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn")
_LISTINGS = frozenset({"os.listdir", "os.scandir"})
_ANY_WAY = _CHANGES + _PROGRAMS
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
KNOWN = frozenset({"setuptools", "distutils", "torch", "Cython"})
"""Packages whose code may run between a call and its end: they do not look at what the compiler has made."""


class Keeper(Protocol):
    """Who keeps promises: the paths that are promised, and a way to wait until they are kept."""

    def paths(self) -> frozenset[str]:
        """Absolute paths of what is promised and not yet there."""

    def wait(self) -> None:
        """Return when nothing is pending; raises what the first failed call would have raised."""


_keepers: list[Keeper] = []
_hooked: list[bool] = []


@contextmanager
def watching(keeper: Keeper) -> Iterator[None]:
    """While this lasts, whoever could notice waits."""
    if not _hooked:
        sys.addaudithook(_hear)  # for good: Python has no way to take one out
        _hooked.append(True)
    _keepers.append(keeper)
    put_back = _replace_questions()
    try:
        yield
    finally:
        put_back()
        _keepers.remove(keeper)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _keepers or is_own_work():
        return
    for keeper in tuple(_keepers):
        paths = keeper.paths()
        if paths and must_wait(event, arguments, paths):
            keeper.wait()


def must_wait(event: str, arguments: tuple[Any, ...], paths: frozenset[str]) -> bool:
    """Whether an audit event could see or disturb promises for these absolute paths."""
    if event == "open":
        return _opens(arguments, paths)
    if event == "import":
        top = str(arguments[0]).partition(".")[0]
        return top not in KNOWN and top not in getattr(sys, "stdlib_module_names", ())
    if event in _LISTINGS:
        return _lists(arguments[0], paths)
    return event.startswith(_ANY_WAY)


def _opens(arguments: tuple[Any, ...], paths: frozenset[str]) -> bool:
    path, flags = arguments[0], arguments[2]
    if isinstance(path, int):
        return False
    name = _text(path)
    if isinstance(flags, int) and flags & _WRITES:
        return not name.startswith(("/dev/", *([sys.pycache_prefix] if sys.pycache_prefix else [])))
    # By its last word alone: what was opened through a folder's number or a link is seen, too.
    return name.rpartition("/")[2] in {each.rpartition("/")[2] for each in paths} or FOLDER in name


def _lists(folder: object, paths: frozenset[str]) -> bool:
    if isinstance(folder, int):
        return True
    shown = os.path.realpath(_text(folder) or ".")
    return any(shown == os.path.realpath(os.path.split(each)[0]) for each in paths)


def _text(path: object) -> str:
    try:
        return os.fsdecode(path)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""


def _replace_questions() -> Callable[[], None]:
    """Let ``os.stat``, ``lstat`` and ``access`` wait for the paths that are promised, and ``umask`` for all.

    Returns what puts them back.
    """
    put_back: list[Callable[[], None]] = []
    for owner in (os, getattr(pathlib, "_NormalAccessor", None)):  # Python 3.10's pathlib keeps functions of its own
        for name in ("stat", "lstat", "access", "umask"):
            original = getattr(owner, name, None)
            if owner is None or original is None:
                continue
            replaced = _asking(original, always=name == "umask")
            setattr(owner, name, replaced if owner is os else staticmethod(replaced))
            put_back.append(functools.partial(setattr, owner, name, original))
            put_back += [_also(known, replaced) for known in _abilities() if original in known]

    def restore() -> None:
        for each in reversed(put_back):
            each()

    return restore


def _abilities() -> tuple[set[Any], ...]:
    """Where ``os`` says which of its functions can do what."""
    return (os.supports_dir_fd, os.supports_effective_ids, os.supports_fd, os.supports_follow_symlinks)


def _also(known: set[Any], replaced: Callable[..., Any]) -> Callable[[], None]:
    known.add(replaced)
    return functools.partial(known.discard, replaced)


def _asking(original: Callable[..., Any], *, always: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    def ask(*arguments: Any, **options: Any) -> Any:
        if _keepers and not is_own_work():
            for keeper in tuple(_keepers):
                paths = keeper.paths()
                if paths and (always or _is_promised(arguments, options, paths)):
                    keeper.wait()
        return original(*arguments, **options)

    return ask


def _is_promised(arguments: tuple[Any, ...], options: dict[str, Any], paths: frozenset[str]) -> bool:
    path = _text(arguments[0] if arguments else options.get("path"))
    if options.get("dir_fd") is not None:
        return path.rpartition("/")[2] in {each.rpartition("/")[2] for each in paths}
    return bool(path) and absolute(path) in paths
