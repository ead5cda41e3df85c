"""What Prometheus reads: the promised series, and no more of them however the service is used."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from buildkit.errors import StoreError
from buildkit.service import metrics as module
from buildkit.service.metrics import Machine, Measured, Metrics

MACHINE = Machine(running_units=2, waiting_units=5, memory=3 << 30, memory_budget=20 << 30)


def no_store() -> int:
    raise StoreError("the cache cannot be read")


def made(queue: Mapping[str, int] | None = None) -> Metrics:
    return Metrics(
        queue=lambda: queue or {"queued": 3, "running": 1},
        machine=lambda: MACHINE,
        store_size=lambda: 7 << 20,
        followers=lambda: 4,
    )


def values(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def test_everything_that_was_promised() -> None:
    metrics = made()
    metrics.ended("succeeded", 61.5, hit=False)
    metrics.ended("succeeded", 0.2, hit=True)
    metrics.ended("failed", 9.0, hit=None)
    found = values(metrics)
    assert found["cudabuild_queue", ("queued",)] == 3
    assert found["cudabuild_queue", ("cancelled",)] == 0
    assert found["cudabuild_units", ("running",)] == 2
    assert found["cudabuild_units", ("waiting",)] == 5
    assert found["cudabuild_memory_bytes", ()] == 3 << 30
    assert found["cudabuild_memory_budget_bytes", ()] == 20 << 30
    assert found["cudabuild_store_bytes", ()] == 7 << 20
    assert found["cudabuild_followers", ()] == 4
    assert found["cudabuild_builds_total", ("succeeded",)] == 2
    assert found["cudabuild_store_lookups_total", ("hit",)] == 1
    assert found["cudabuild_store_lookups_total", ("miss",)] == 1
    assert found["cudabuild_build_seconds_sum", ("succeeded",)] == 61.5
    assert found["cudabuild_build_seconds_count", ("failed",)] == 1


def test_what_cannot_be_had_hides_nothing_else() -> None:
    metrics = Metrics(queue=dict, machine=lambda: MACHINE, store_size=no_store)
    found = values(metrics)
    assert ("cudabuild_store_bytes", ()) not in found
    assert found["cudabuild_units", ("running",)] == 2


def test_the_store_is_not_measured_anew_for_everybody_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = count(1)
    metrics = Metrics(queue=dict, machine=lambda: MACHINE, store_size=lambda: next(sizes))
    assert [values(metrics)["cudabuild_store_bytes", ()] for _ in range(3)] == [1, 1, 1]
    monkeypatch.setattr(module, "STORE_AGE", -1.0)
    again = Metrics(queue=dict, machine=lambda: MACHINE, store_size=lambda: next(sizes))
    assert [values(again)["cudabuild_store_bytes", ()] for _ in range(2)] == [2, 3]


def test_series_do_not_grow_with_what_is_asked_for() -> None:
    metrics = made()

    async def show(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.path_params["build"])

    app = Starlette(routes=[Route("/builds/{build}", show)])
    client = TestClient(Measured(app, metrics))
    client.get("/builds/first")
    client.get("/nothing/first")
    before = len(values(metrics))
    for number in range(20):
        client.get(f"/builds/{number}")
        client.get(f"/nothing/{number}")
        metrics.ended(f"status {number}", 1.0, hit=False)
        metrics.answered(f"METHOD{number}", "/builds/{build}", 200, 0.1)
    grown = values(metrics)
    assert grown["cudabuild_request_seconds_count", ("GET", "/builds/{build}", "2xx")] == 21
    assert grown["cudabuild_request_seconds_count", ("GET", "other", "4xx")] == 21
    assert len(grown) <= before + 4  # one unknown method's, and one status'
