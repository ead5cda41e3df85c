"""Plans of queued builds, by the command itself: it has a process of its own, and so has what it may run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildkit import process
from buildkit.errors import BuildFailed
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

    def plan(self, row: Row) -> dict[str, Any]:
        """The object of ``cudabuild plan --json``, of a failure too. Raises CudabuildError."""
        request = BuildRequest.model_validate(row["request"])
        words = plan_words(request, recipes=self.recipes_of(request))
        done = process.run(words, env=self._environment(request), timeout=PLAN_SECONDS, check=False)
        try:
            value = json.loads(done.stdout)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise BuildFailed("the plan gave no answer", evidence=process.last_line(process.redact(done.stderr)))
        return value

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
