"""What Prometheus is told of a service: ``/metrics``.

No label holds what a user can type (a recipe, a version, a key): the number of series does not grow with use.
Names and units follow https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from buildkit.errors import CudabuildError

CONTENT_TYPE = CONTENT_TYPE_LATEST
STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")
_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
MACHINE_AGE = 2.0
"""Seconds for which a look at the machine is used again: each asks the broker and reads the records of builds."""
STORE_AGE = 60.0
"""The same for the store's size, for which every file is looked at."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Machine:
    """What runs here now, of this service and of others. Memory in bytes."""

    running_units: int
    waiting_units: int
    memory: int
    memory_budget: int


class Metrics:
    """All of it. The three functions are called in the thread that renders, the others wherever something happens."""

    def __init__(
        self,
        *,
        queue: Callable[[], Mapping[str, int]],
        machine: Callable[[], Machine],
        store_size: Callable[[], int],
        followers: Callable[[], int] = lambda: 0,
    ) -> None:
        self.registry = CollectorRegistry()
        self._builds = Counter(
            "cudabuild_builds", "Builds that have ended, by how.", ("status",), registry=self.registry
        )
        self._seconds = Histogram(
            "cudabuild_build_seconds", "From the start of a build that was no hit to its end.", ("status",),
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._lookups = Counter(
            "cudabuild_store_lookups", "Builds by whether the store had the wheel.", ("outcome",),
            registry=self.registry,
        )  # fmt: skip
        self._requests = Histogram(
            "cudabuild_request_seconds", "From a request to the beginning of its answer.",
            ("method", "route", "status"), buckets=_REQUEST_SECONDS, registry=self.registry,
        )  # fmt: skip
        for status in ("succeeded", "failed", "cancelled"):
            self._builds.labels(status)  # so that a rate has a zero to begin at
        for outcome in ("hit", "miss"):
            self._lookups.labels(outcome)
        self.registry.register(_Now(queue, machine, store_size, followers))

    def ended(self, status: str, seconds: float, *, hit: bool | None) -> None:
        """A build has ended. ``hit``: whether the store had it; None where it ended before that was known."""
        known = status if status in STATUSES else "failed"
        self._builds.labels(known).inc()
        if hit is not None:
            self._lookups.labels("hit" if hit else "miss").inc()
        if not hit:
            self._seconds.labels(known).observe(max(0.0, seconds))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered. ``route`` is the route's own pattern, never the path that was asked for."""
        shown = method if method in _METHODS else "other"
        self._requests.labels(shown, route, f"{status // 100}xx").observe(seconds)

    def render(self) -> bytes:
        """The text of ``/metrics``; looks at database and disk."""
        return generate_latest(self.registry)


class _Now(Collector):
    """What is asked when somebody asks; what cannot be had now is left out, and the rest told."""

    def __init__(
        self,
        queue: Callable[[], Mapping[str, int]],
        machine: Callable[[], Machine],
        store_size: Callable[[], int],
        followers: Callable[[], int],
    ) -> None:
        self._queue = queue
        self._machine = _Remembered(machine, MACHINE_AGE)
        self._store = _Remembered(store_size, STORE_AGE)
        self._followers = followers

    def describe(self) -> list[Metric]:
        """Nothing is looked at when it is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One gauge after the other."""
        for part in (self._of_queue, self._of_machine, self._of_store):
            yield from _or_nothing(part)
        yield _gauge("cudabuild_followers", "Connections that follow a build.", self._followers())

    def _of_queue(self) -> list[Metric]:
        counts = self._queue()
        queue = GaugeMetricFamily("cudabuild_queue", "Builds in the database, by status.", labels=["status"])
        for status in STATUSES:
            queue.add_metric([status], counts.get(status, 0))
        return [queue]

    def _of_machine(self) -> list[Metric]:
        now = self._machine.value()
        units = GaugeMetricFamily("cudabuild_units", "Compilations, by what they do.", labels=["state"])
        units.add_metric(["running"], now.running_units)
        units.add_metric(["waiting"], now.waiting_units)
        memory = _gauge("cudabuild_memory_bytes", "Memory that the processes of builds hold.", now.memory)
        budget = _gauge("cudabuild_memory_budget_bytes", "Memory that they may hold in all.", now.memory_budget)
        return [units, memory, budget]

    def _of_store(self) -> list[Metric]:
        return [_gauge("cudabuild_store_bytes", "Disk that the store takes.", self._store.value())]


class _Remembered(Generic[Value]):
    """What a function said, for some seconds."""

    def __init__(self, ask: Callable[[], Value], age: float) -> None:
        self._ask = ask
        self._age = age
        self._last: tuple[float, Value] | None = None

    def value(self) -> Value:
        """As it was said last, or is said now. Two threads that ask at the same time may both ask."""
        last = self._last
        if last is None or time.monotonic() - last[0] > self._age:
            self._last = last = (time.monotonic(), self._ask())
        return last[1]


class Measured:
    """ASGI middleware: how long each answer took to begin. Goes around the router, which says which route it was."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, and look at the clock when the answer begins."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "") or "other"
                self.metrics.answered(scope["method"], route, message["status"], time.perf_counter() - began)
            await send(message)

        await self.app(scope, receive, watched)


def _or_nothing(part: Callable[[], list[Metric]]) -> list[Metric]:
    try:
        return part()
    except (CudabuildError, OSError):
        return []


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
