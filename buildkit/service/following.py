"""What followers of a build are told, from the database and the log: asked as rarely as can be."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

from buildkit.service.answers import ENDED
from buildkit.service.events import Events, Look
from buildkit.service.logs import BuildLog
from buildkit.service.service import Service

AGE = 2.0
"""Seconds between two questions to the database about a build of which nothing was heard: another server's worker
may run it."""
MOST_KNOWN = 1000


@dataclass
class _Known:
    """What was said of a build, when, and whether it has changed since."""

    status: str
    ended: bool
    log: BuildLog
    asked: float


class Looks:
    """Looks at builds. Called by several threads; the worst of a race is one more question."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._known: OrderedDict[str, _Known] = OrderedDict()
        service.waiters.append(self._forget)

    def __call__(self, build: str) -> Look:
        """The build as it is. Raises NoSuchBuild."""
        known = self._known.get(build)
        if known is None or time.monotonic() - known.asked > AGE:
            known = self._ask(build)
        return Look(known.status, known.ended, known.log, known.log.size())

    def _ask(self, build: str) -> _Known:
        asked = time.monotonic()
        answer = self._service.build(build)
        _, log = self._service.log(build)
        known = _Known(answer.model_dump_json(by_alias=True), answer.status in ENDED, log, asked)
        self._known[build] = known
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return known

    def _forget(self, build: str) -> None:
        """It has changed."""
        self._known.pop(build, None)


def events_of(service: Service) -> Events:
    """The followers of a service."""
    return Events(Looks(service), most=service.settings.followers, closing=service.closing.is_set)
