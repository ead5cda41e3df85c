"""Putting promises behind ``build_ext``: what it compiles and links while it runs is done when it returns.

``build_extensions`` is where distutils compiles one file after the other. When it returns, or when an exception
leaves it, all is settled. Between its beginning and a call of the compiler only code of setuptools, distutils, torch
and Cython may stand: a project's own that would see a failure too late makes the call wait, or ends the promises
with each extension.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

from buildkit.build.deferral.commands import absolute, mentions, read_compilation, reads_link
from buildkit.build.deferral.promises import Line, Promise
from buildkit.build.deferral.watch import KNOWN, watching

MODULES = frozenset({"distutils.command.build_ext", "setuptools._distutils.command.build_ext"})


def listen() -> None:
    """From now on, whoever imports distutils' build_ext gets it with promises."""
    sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds what the others find, and sees build_ext when it has been loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of the first other finder that has one, for the modules of interest."""
        if name not in MODULES:
            return None
        others = (finder for finder in tuple(sys.meta_path) if finder is not self)
        spec = next((found for finder in others if (found := finder.find_spec(name, path, target))), None)
        if spec is not None and spec.loader is not None:
            _after_loading(spec.loader)
        return spec


def _after_loading(loader: Any) -> None:
    load = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        load(module)
        attach(module)

    loader.exec_module = exec_module


def attach(module: ModuleType) -> None:
    """Put promises behind the class ``build_ext`` of a module of distutils."""
    kind: Any = module.build_ext
    errors = f"{module.__name__.rpartition('.command.')[0]}.errors"
    all_of_them, one = kind.build_extensions, kind.build_extension

    @functools.wraps(all_of_them)
    def build_extensions(command: Any) -> Any:
        if getattr(command, "parallel", None) or _scopes:
            return all_of_them(command)
        with _scope(command, errors):
            return all_of_them(command)

    @functools.wraps(one)
    def build_extension(command: Any, extension: Any) -> Any:
        if getattr(command, "parallel", None):
            return one(command, extension)
        if not _scopes:
            with _scope(command, errors) as scope:
                return scope.build(one, command, extension)
        return _scopes[-1].build(one, command, extension)

    kind.build_extensions, kind.build_extension = build_extensions, build_extension


_scopes: list[Scope] = []


@contextmanager
def _scope(command: Any, errors: str) -> Iterator[Scope]:
    scope = Scope(command, errors)
    with watching(scope):
        _scopes.append(scope)
        try:
            yield scope
            scope.wait()
        except (Exception, SystemExit):
            scope.wait()  # an earlier call that fails would have come first
            raise
        finally:
            _scopes.remove(scope)
            scope.line.end()


class Scope:
    """One ``build_extensions`` that runs, or one ``build_extension`` that a project calls by itself."""

    def __init__(self, command: Any, errors: str) -> None:
        slots = os.environ.get("MAX_JOBS", "")
        self.line = Line(int(slots) if slots.isdecimal() and int(slots) else 1, len(os.sched_getaffinity(0)))
        self._errors = errors
        self._thread = threading.get_ident()
        self._one_by_one = any(getattr(each, "optional", False) for each in command.extensions or ())
        self._sources: frozenset[str] = frozenset()
        self._product = ""
        self._starter = ""

    def paths(self) -> frozenset[str]:
        """What is promised."""
        return frozenset(promise.path for promise in self.line.pending)

    def wait(self) -> None:
        """All promises are settled. Raises what distutils would have raised at the first call that failed."""
        self.line.wait()
        failure = self.line.failure
        if failure is not None and threading.get_ident() == self._thread:
            raise self._error(failure)

    def build(self, original: Callable[..., Any], command: Any, extension: Any) -> Any:
        """Build one extension; promises outlive it unless somebody else's code is to handle its failure."""
        compiler = command.compiler
        # What starts a program: newer versions of setuptools have `call`, which `spawn` only leads to.
        self._starter = "call" if hasattr(type(compiler), "call") else "spawn"
        if threading.get_ident() != self._thread or not _is_plain(compiler, self._starter):
            self.wait()
            return original(command, extension)
        waits = self._one_by_one or not _only_known_code(sys._getframe(2))
        self._sources = frozenset(absolute(str(source)) for source in extension.sources or ())
        self._product = absolute(command.get_ext_fullpath(extension.name))
        setattr(compiler, self._starter, functools.partial(self._start, getattr(compiler, self._starter)))
        try:
            answer = original(command, extension)
            if waits:
                self.wait()
        except (Exception, SystemExit):
            self.wait()
            raise
        finally:
            delattr(compiler, self._starter)
            if waits:
                self.line.end()  # who handles its failure may go on, and try again
        return answer

    def _start(self, original: Callable[..., Any], words: Any, *arguments: Any, **options: Any) -> Any:
        if arguments or options or not self._promise(words):
            self.wait()
            return original(words, *arguments, **options)
        return None

    def _promise(self, words: Any) -> bool:
        """Whether the command was promised."""
        if self.line.failure is not None:
            self.wait()
        if not all(isinstance(word, str) for word in words) or threading.get_ident() != self._thread:
            return False
        program = shutil.which(words[0])
        if program is None or not _only_known_code(sys._getframe(2)):
            return False
        announcement = self._announcement(words)
        command = [program, *words[1:]] if self._starter == "spawn" else list(words)
        if reads_link(words, self._product):
            self.line.link(command, announcement, self._product)
            return True
        temporary = os.environ.get("TMPDIR", "/tmp")  # noqa: S108  (where it is unset)
        compilation = read_compilation(words, self._sources, absolute(temporary))
        names = {os.path.split(path)[1] for path in self.paths()}
        if compilation is None or mentions(compilation.into(words, ""), names):
            return False
        self.line.compilation(
            command, announcement, absolute(compilation.output), compilation.place, first=compilation.is_device
        )
        return True

    def _announcement(self, words: Sequence[str]) -> bytes:
        """What distutils would have logged."""
        sys.stdout.flush()
        if not logging.getLogger().isEnabledFor(logging.INFO):
            return b""
        return os.fsencode(f"{subprocess.list2cmdline(words)}\n")

    def _error(self, failure: Promise) -> Exception:
        errors: Any = sys.modules[self._errors]
        kind = errors.LinkError if failure.link else errors.CompileError
        error: Exception = kind(self._cause(failure, errors))
        return error

    def _cause(self, failure: Promise, errors: Any) -> Exception:
        if self._starter == "call":
            return failure.trouble or subprocess.CalledProcessError(failure.status, failure.called)
        how = f": {failure.trouble.args[-1]}" if failure.trouble else f" with exit code {failure.status}"
        cause: Exception = errors.DistutilsExecError(f"command {failure.called[0]!r} failed{how}")
        return cause


def _is_plain(compiler: Any, starter: str) -> bool:
    """Whether what starts its programs is distutils' own, and nothing is only pretended."""
    method = getattr(type(compiler), starter, None)
    own = starter not in vars(compiler) and _is_known(getattr(method, "__module__", ""))
    return own and not getattr(compiler, "dry_run", False)


def _only_known_code(frame: FrameType | None) -> bool:
    """Whether from here up to where the promises began no code of a project stands."""
    while frame is not None and frame.f_globals.get("__name__") != __name__:
        if not _is_known(str(frame.f_globals.get("__name__"))):
            return False
        frame = frame.f_back
    return frame is not None


def _is_known(module: str) -> bool:
    return module.partition(".")[0] in KNOWN
