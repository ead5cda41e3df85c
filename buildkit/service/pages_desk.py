"""What the pages ask for, off the event loop: the service's methods, and this machine's own records."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from buildkit.build.monitoring import Monitor, Now
from buildkit.errors import NoSuchBuild
from buildkit.report.gather import gather
from buildkit.report.html import build_facts, single_file
from buildkit.report.summary import Summary, summarise
from buildkit.report.view import BuildView
from buildkit.service.answers import BuildAnswer, BuildList, BuildRequest, MatrixAnswer, RecipeList, WorkerList
from buildkit.service.pages_data import Filter, Grid, grid_of, hits_of, phase_of, usual_seconds, view_of, waiting_line
from buildkit.store.model import DamagedEntry, ForeignEntry, parse_entry
from buildkit.store.store import Store

LISTED = 50
"""Builds on a page of the list."""
_LOOKED_AT = 200
"""Newest builds that estimates and hits are made of."""


class Service(Protocol):
    """The methods of the service that the pages call; any of several threads. They raise CudabuildError."""

    def submit(self, request: BuildRequest, *, who: str = "local") -> tuple[BuildAnswer, bool]: ...

    def builds(
        self, *, recipe: str | None = None, status: str | None = None, limit: int = 50, after: str | None = None
    ) -> BuildList: ...

    def build(self, text: str) -> BuildAnswer: ...

    def cancel(self, text: str) -> BuildAnswer: ...

    def retry(self, text: str) -> BuildAnswer: ...

    def matrix(self) -> MatrixAnswer: ...

    def recipes(self) -> RecipeList: ...

    def workers(self) -> WorkerList: ...


@dataclass
class Desk:
    """Every method gives the values that a template is drawn with."""

    service: Service
    store: Store
    wheels: Path
    """The folder in which wheels are handed out."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    _monitor: Monitor | None = None
    _looking: threading.Lock = field(default_factory=threading.Lock)

    def matrix(self, wanted: Filter) -> dict[str, Any]:
        """The grid, and whether there is anything without the filter."""
        matrix = self.service.matrix()
        grid: Grid = grid_of(matrix, wanted, datetime.now(timezone.utc))
        return {"grid": grid, "wanted": wanted, "any": bool(matrix.rows)}

    def listed(self, *, recipe: str, status: str, after: str) -> dict[str, Any]:
        """Builds, newest first, a page of them."""
        found = self.service.builds(recipe=recipe or None, status=status or None, limit=LISTED, after=after or None)
        return {"list": found, "recipe": recipe, "status": status}

    def form(self) -> dict[str, Any]:
        """What the form offers."""
        return {"recipes": self.service.recipes().recipes}

    def build(self, identifier: str) -> dict[str, Any]:
        """A build's whole page."""
        answer, view = self._both(identifier)
        return {"answer": answer, **self._live(answer, view), **build_facts(view)}

    def state(self, identifier: str) -> dict[str, Any]:
        """The part of a running build's page that is asked for every other second."""
        answer, view = self._both(identifier)
        return {"answer": answer, "view": view, **self._live(answer, view)}

    def curves(self, identifier: str) -> dict[str, Any]:
        """Memory and timeline so far."""
        answer, view = self._both(identifier)
        return {"answer": answer, **build_facts(view, log=0)}

    def report(self, identifier: str) -> tuple[str, str]:
        """The single file, and a name for it."""
        answer, view = self._both(identifier)
        return single_file(view), f"{answer.id}.html"

    def _both(self, identifier: str) -> tuple[BuildAnswer, BuildView]:
        answer = self.service.build(identifier)
        known = None
        if answer.build is not None:
            try:
                known = gather(answer.build, self.store, wheels=self.wheels)
            except NoSuchBuild:
                known = None
        return answer, view_of(answer, known)

    @staticmethod
    def _live(answer: BuildAnswer, view: BuildView) -> dict[str, Any]:
        """The phase, and what the compilations do just now."""
        running = answer.status == "running"
        now: Summary | None = summarise(view.trace) if running and view.trace is not None else None
        active = [unit for unit in view.trace.units if unit.runs[-1].outcome == "running"] if now and view.trace else []
        return {
            "phase": phase_of(view.log) if running else "",
            "now": now,
            "active": active[:20],
            "held": view.trace.memory[-1] if now and view.trace and view.trace.memory else None,
        }

    def machine(self) -> dict[str, Any]:
        """What runs on this machine, the queue with estimates, and what the store saved."""
        every = self.service.builds(limit=_LOOKED_AT).builds
        running = self.service.builds(status="running", limit=_LOOKED_AT).builds
        queued = self.service.builds(status="queued", limit=_LOOKED_AT).builds
        workers = self.service.workers()
        slots = sum(worker.slots for worker in workers.workers if worker.alive)
        return {
            "now": self._look(),
            "running": running,
            "queue": waiting_line(queued, running, usual_seconds(every), slots),
            "queued": workers.queued,
            "workers": workers.workers,
            "hits": hits_of(every, self._made_in({one.key for one in every if one.cache == "hit" and one.key})),
        }

    def _look(self) -> Now:
        with self._looking:
            if self._monitor is None:
                self._monitor = Monitor(self.store.root, self.environ)
            return self._monitor.look()

    def _made_in(self, keys: set[str]) -> dict[str, float]:
        found = {}
        for key in keys:
            data = self.store.entry_bytes(key)
            try:
                found[key] = parse_entry(data).seconds if data is not None else 0.0
            except (DamagedEntry, ForeignEntry):
                continue
        return found

    def close(self) -> None:
        """Give back what is held open."""
        if self._monitor is not None:
            self._monitor.close()
