"""Plans of queued builds, by the command itself: it has a process of its own, and so has what it may run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from buildkit import process
from buildkit.errors import BuildFailed, TimedOut
from buildkit.service.answers import BuildRequest
from buildkit.service.queue import Row
from buildkit.service.words import build_words, child_environment, plan_words
from buildkit.store.disk import disk_causes, make_folder, new_file, write_all

PLAN_SECONDS = 1800.0
"""For a plan: it fetches the source where that is not here."""


class Planner:
    """Makes commands for requests. ``cache`` is the cache's folder, ``environ`` the server's variables, ``recipes`` the
    folder of recipes that it was told to look in first."""

    def __init__(
        self, cache: Path, environ: Mapping[str, str], git_hosts: tuple[str, ...], recipes: Path | None = None
    ) -> None:
        self.cache, self.environ, self._git_hosts, self._recipes = cache, environ, git_hosts, recipes
        self._running: set[subprocess.Popen[bytes]] = set()

    def plan(self, row: Row) -> dict[str, Any]:
        """The object of ``cudabuild plan --json``, of a failure too. Raises CudabuildError."""
        request = BuildRequest.model_validate(row["request"])
        words = plan_words(request, recipes=self.recipes_of(request))
        said, told = self._run(words, self._environment(request))
        try:
            value = json.loads(said)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            evidence = process.last_line(process.redact(told.decode("utf-8", "backslashreplace")))
            raise BuildFailed("the plan gave no answer", evidence=evidence)
        return value

    def _run(self, words: Sequence[str], environment: Mapping[str, str]) -> tuple[bytes, bytes]:
        """What a command prints, on both streams; it can be ended by :meth:`close`."""
        with subprocess.Popen(
            list(words),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as child:
            self._running.add(child)
            try:
                return child.communicate(timeout=PLAN_SECONDS)
            except subprocess.TimeoutExpired:
                _kill(child)
                raise TimedOut(f"the plan took longer than {PLAN_SECONDS:.0f} s") from None
            finally:
                self._running.discard(child)

    def close(self) -> None:
        """End the plans that are being made: nobody waits for them any more."""
        for child in list(self._running):
            _kill(child)

    def build_words(self, request: BuildRequest, build: str, *, jobs: int | None) -> tuple[list[str], dict[str, str]]:
        """The command of a build, and its variables."""
        words = build_words(request, build, jobs=jobs, recipes=self.recipes_of(request))
        return words, self._environment(request)

    def recipes_of(self, request: BuildRequest) -> Path | None:
        """The folder to look in first: the one with the recipe that came with a request, else the server's."""
        if request.recipe_toml is None:
            return self._recipes
        text = request.recipe_toml.encode()
        folder = self.cache / "service" / "recipes" / hashlib.sha256(text).hexdigest()[:32]
        file = folder / request.recipe / "recipe.toml"
        if not file.is_file():
            with disk_causes(file.parent):
                make_folder(file.parent)
                with new_file(file, file.parent) as descriptor:
                    write_all(descriptor, text)
        return folder

    def _environment(self, request: BuildRequest) -> dict[str, str]:
        """Where the source came with the request, git fetches from the allowed hosts only."""
        foreign = request.source is not None or request.recipe_toml is not None
        return child_environment(self.environ, self.cache, self._git_hosts if foreign else None)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """With all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
