"""``python -m buildkit.cli.as_build BUILD COMMAND...``: what the service starts a build as.

The build is recorded under an id that its starter chose, in the files of a detached build (see :mod:`.detach`). It is
begun at most once, however often this is started: the answer's file is made by one process only, which holds a lock on
it while it lives.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buildkit.cli import detach
from buildkit.cli.build_command import command
from buildkit.cli.main import cause_of
from buildkit.cli.options import Asked
from buildkit.cli.results import print_results
from buildkit.cli.settings import cache_folder
from buildkit.errors import UsageError
from buildkit.guard.signals import ending_signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the build; returns its exit code, and 0 where another process has begun it."""
    from buildkit.build.places import Places
    from buildkit.store.model import is_name

    name, *words = sys.argv[1:] if arguments is None else arguments
    if not is_name(name):
        raise UsageError(f"{name!r} cannot be a build's id")
    asked = Asked.read({})
    logs = Places(cache_folder(asked.settings, asked.environ)).logs
    logs.mkdir(parents=True, exist_ok=True)
    if claim(logs / f"{name}.json") is None:
        return 0
    _redirect(logs / f"{name}.json", logs / f"{name}.log")
    with ending_signals():
        return _build(name, words)


def claim(answer: Path) -> int | None:
    """Make an answer's file, locked by this process until it ends; None where another has made it.

    It has its name only once it is locked, so that nobody sees it without an owner while that one lives.
    """
    draft = answer.with_name(f".{answer.stem}-{os.getpid()}.tmp")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.link(draft, answer)
    except FileExistsError:
        os.close(descriptor)
        return None
    finally:
        draft.unlink()
    return descriptor  # never closed: the lock ends with the process


def _redirect(answer: Path, log: Path) -> None:
    """Standard output to the answer, standard error to the log, nothing to read."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    places = (os.open(os.devnull, os.O_RDONLY), os.open(answer, flags), os.open(log, flags, 0o666))
    for number, descriptor in enumerate(places):
        os.dup2(descriptor, number)


def _build(name: str, words: Sequence[str]) -> int:
    from buildkit.build.pipeline import BuildResult

    try:
        options: dict[str, Any] = command.make_context("build", list(words)).params
        (package,) = options.pop("packages")
    except Exception as error:  # noqa: BLE001 - whatever it is, who asked reads it from the answer
        return print_results([BuildResult(words[-1] if words else "", name, error=cause_of(error))], as_json=True)
    return detach.run_recorded(name, package, options)


if __name__ == "__main__":
    sys.exit(main())
