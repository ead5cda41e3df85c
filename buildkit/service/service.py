"""The service: what its API answers and its pages show, as plain methods. No HTTP here."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildkit.errors import NoSuchBuild, RecipeError, UsageError
from buildkit.index.catalogue import Catalogue
from buildkit.index.lines import lines_for
from buildkit.index.shelf import Shelf
from buildkit.recipe.loader import LoadedRecipe, check_recipe, find_recipe
from buildkit.recipe.selection import choose_version
from buildkit.service import looks, sources
from buildkit.service.answers import (
    BuildAnswer,
    BuildList,
    BuildRequest,
    MatrixAnswer,
    RecipeList,
    ResolveAnswer,
    WheelAnswer,
    WorkerList,
)
from buildkit.service.claims import FORGOTTEN, workers_of
from buildkit.service.database import Database
from buildkit.service.fingerprint import fingerprint_of
from buildkit.service.logs import BuildLog
from buildkit.service.queue import Queue, Row
from buildkit.service.rows import build_answer
from buildkit.service.runs import Runs
from buildkit.service.settings import ServiceSettings
from buildkit.service.worker import Worker
from buildkit.store.release import Release
from buildkit.store.traces import Traces


@dataclass
class Service:
    """What the API and the pages are made of. Methods may block on disk and database; called by several threads.

    They raise CudabuildError: NoSuchBuild and UnknownRecipe for what is not here, UsageError for what cannot be.
    """

    settings: ServiceSettings
    database: Database
    queue: Queue
    runs: Runs
    catalogue: Catalogue
    recipes_in: Sequence[Path]
    place: str
    """The id of this cache: builds of others have their logs elsewhere."""
    base: str = ""
    """The URL by which people reach it, ending in a slash."""
    worker: Worker | None = None
    upstream: bool = False
    closing: threading.Event = field(default_factory=threading.Event)
    """Set when the server is about to end: live logs end then."""
    waiters: list[Any] = field(default_factory=list)
    """Called with a build's id when it has changed."""
    _placed: tuple[Shelf, dict[str, tuple[str, Release]]] | None = None

    # Builds

    def submit(
        self, request: BuildRequest, *, who: str = "local", admin: bool = False, idempotency: str | None = None
    ) -> tuple[BuildAnswer, bool]:
        """Queue a build, or find the one that makes the same; and whether it is new. Raises UsageError, RecipeError."""
        loaded = self._checked(request, admin=admin)
        version = choose_version(loaded.recipe, request.version).version
        fingerprint = fingerprint_of(request, recipe_sha256=loaded.sha256, version=version)
        row, is_new = self.queue.submit(request, fingerprint, who=who, idempotency=idempotency)
        if self.worker is not None:
            self.worker.wake()
        self.tell(row["id"])
        return self._answer(row), is_new

    def _checked(self, request: BuildRequest, *, admin: bool) -> LoadedRecipe:
        """The recipe of a request that may be made."""
        if (request.source is not None or request.recipe_toml is not None) and not admin:
            raise UsageError("only an admin may send a source or a recipe's text", hint="name a recipe that is known")
        loaded = self._recipe(request)
        sources.check(request, loaded, self.settings.git_hosts)
        return loaded

    def _recipe(self, request: BuildRequest) -> LoadedRecipe:
        if request.recipe_toml is None:
            return find_recipe(request.recipe, self.recipes_in)
        text = request.recipe_toml
        loaded = check_recipe(Path(f"/{request.recipe}/recipe.toml"), text.encode(), text)
        if loaded.recipe.name != request.recipe:
            raise RecipeError(f"the recipe is called {loaded.recipe.name}, the request says {request.recipe}")
        return loaded

    def preview(self, request: BuildRequest, *, admin: bool = False) -> dict[str, Any]:
        """The object of ``cudabuild plan --json``, of a failure too. Takes long where a source is to be fetched."""
        loaded = self._checked(request, admin=admin)
        choose_version(loaded.recipe, request.version)
        if self.worker is None:
            raise UsageError("this server makes no plans", hint="ask one that builds")
        return self.worker.planner.plan({"request": request.model_dump(mode="json")})

    def builds(
        self, *, recipe: str | None = None, status: str | None = None, limit: int = 50, after: str | None = None
    ) -> BuildList:
        """Builds, newest first; ``after`` is what the list before this one called ``next``."""
        if after is not None and not (after.isascii() and after.isdigit() and len(after) <= 15):
            raise UsageError(f"{after!r} is not where a list ended", hint="take `next` of the list before")
        rows = self.queue.newest_first(
            recipe=recipe, status=status, limit=limit + 1, after=None if after is None else int(after)
        )
        shown = rows[:limit]
        places = self.queue.positions(shown)
        following = str(shown[-1]["seq"]) if len(rows) > limit else None
        return BuildList(builds=[self._answer(row, places.get(row["id"])) for row in shown], next=following)

    def build(self, text: str) -> BuildAnswer:
        """A build by its id; also by its cache's id, the beginning of a key, a recipe's name, or ``last``."""
        return self._answer(self.row(text))

    def row(self, text: str) -> Row:
        """The same, as the database has it. Raises NoSuchBuild."""
        row = self.queue.find(text)
        if row is None:
            raise NoSuchBuild(f"no build {text} is known here", hint="list them: /api/v1/builds")
        return row

    def _answer(self, row: Row, position: int | None = None) -> BuildAnswer:
        if position is None and row["status"] == "queued":
            position = self.queue.positions([row]).get(row["id"])
        return build_answer(row, self.wheel, position)

    def cancel(self, text: str) -> BuildAnswer:
        """End a build: at once if it waits, else soon. Raises NoSuchBuild, CannotCancel."""
        return self._changed(self.queue.cancel(self.row(text)["id"]))

    def retry(self, text: str) -> BuildAnswer:
        """Queue a failed or cancelled build again. Raises NoSuchBuild, Conflict."""
        return self._changed(self.queue.retry(self.row(text)["id"]))

    def _changed(self, row: Row) -> BuildAnswer:
        if self.worker is not None:
            self.worker.wake()
        self.tell(row["id"])
        return self._answer(row)

    def tell(self, identifier: str) -> None:
        """Call whoever waits for changes of builds."""
        for waiter in list(self.waiters):
            waiter(identifier)

    # Parts of a build

    def answer(self, text: str) -> dict[str, Any] | None:
        """The object of ``cudabuild build --json``; None while there is none."""
        found = self.row(text)["answer"]
        return dict(found) if isinstance(found, Mapping) else None

    def plan(self, text: str) -> dict[str, Any]:
        """The object of ``cudabuild plan --json``. Raises NoSuchBuild before it is planned."""
        row = self.row(text)
        if row["plan"] is None:
            raise NoSuchBuild(f"build {row['id']} has no plan" + (" yet" if row["status"] == "queued" else ""))
        return dict(row["plan"])

    def verdict(self, text: str) -> tuple[Row, dict[str, Any]]:
        """The build, and its proof. Raises NoSuchBuild where there is none."""
        row = self.row(text)
        verdict = (row["answer"] or {}).get("verdict")
        if not isinstance(verdict, dict):
            raise NoSuchBuild(f"build {row['id']} has no verdict" + (" yet" if row["ended"] is None else ""))
        return row, verdict

    def trace(self, text: str) -> bytes:
        """The recorded trace (docs/reference/trace.md). Raises NoSuchBuild where there is none."""
        row = self.row(text)
        data = Traces(self.catalogue.store.root).read(row["build"]) if row["build"] else None
        if not data:
            raise NoSuchBuild(f"build {row['id']} has no trace here", hint="a build that compiled something has one")
        return data

    def log(self, text: str) -> tuple[Row, BuildLog]:
        """The build, and its log over all attempts. Raises NoSuchBuild where that is on another machine."""
        row = self.row(text)
        if row["place"] is not None and row["place"] != self.place:
            raise NoSuchBuild(f"the log of build {row['id']} is on another machine", hint="ask the server that runs it")
        names = [done["build"] for done in row["tries"] if done["build"]] + [row["build"]]
        return row, BuildLog(tuple(self.runs.log(name) for name in names if name))

    # All else

    def wheel(self, filename: str, sha256: str, size: int) -> WheelAnswer:
        """A wheel, with where the index has it."""
        variant, release = self._places().get(filename, ("", None))
        if release is None or release.sha256 != sha256:
            return WheelAnswer(filename=filename, sha256=sha256, size=size, url=None)
        lines = lines_for(self.base, variant, release.project, upstream=self.upstream)
        url = f"{self.base}{variant}/files/{filename}"
        return WheelAnswer(filename=filename, sha256=sha256, size=size, url=url, install=lines.pip)

    def _places(self) -> dict[str, tuple[str, Release]]:
        """Every file that is served, with the path that it stands under; made once for each reading of the store."""
        shelf = self.shelf()
        if self._placed is None or self._placed[0] is not shelf:
            found = {
                release.filename: (variant, release)
                for variant, projects in shelf.variants.items()
                for releases in projects.values()
                for release in releases
            }
            self._placed = (shelf, found)
        return self._placed[1]

    def shelf(self) -> Shelf:
        """What the index serves now."""
        return self.catalogue.current() or self.catalogue.read()

    def resolve(
        self, recipe: str, *, torch: str | None = None, python: str | None = None, platform: str | None = None,
        target: str | None = None,
    ) -> ResolveAnswer:  # fmt: skip
        """Which wheel a machine should take. Raises UnknownRecipe, UsageError."""
        return looks.resolve(self, recipe, looks.Wanted(torch, python, platform, target))

    def matrix(self) -> MatrixAnswer:
        """Recipes by variants."""
        return looks.matrix(self)

    def recipes(self) -> RecipeList:
        """What can be built."""
        return looks.recipes(self)

    def workers(self) -> WorkerList:
        """What runs builds, and how many wait."""
        listed, running = workers_of(self.database, time.time() - FORGOTTEN)
        return looks.workers(listed, running, self.queue.counts(), self.settings.lease)

    def known_recipe(self, name: str) -> LoadedRecipe:
        """A recipe by name. Raises UnknownRecipe."""
        return find_recipe(name, self.recipes_in)

    def check(self) -> dict[str, str]:
        """What the service needs, and how that stands: ``ok``, or why not."""
        checks = {"database": "ok", "worker": "ok", "store": "ok"}
        try:
            self.database.check()
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is that it does not work
            checks["database"] = type(error).__name__
        if self.worker is not None and not self.worker.is_alive:
            checks["worker"] = "ended"
        try:
            self.shelf()
        except Exception as error:  # noqa: BLE001
            checks["store"] = type(error).__name__
        return checks
