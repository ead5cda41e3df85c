"""What followers and Prometheus are told of a real service, and plans that are asked for over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from services import change, client_of, gate_of, new_service, run_to_end
from starlette.testclient import TestClient

from buildkit.errors import NoSuchBuild
from buildkit.service import api_plan, following
from buildkit.service.answers import BuildRequest
from buildkit.service.events import Events
from buildkit.service.following import Looks
from buildkit.service.measuring import metrics_of
from buildkit.service.service import Service

ASKED = {"recipe": "some-kernels", "device": "cpu"}
ANSWER = {"schema": 1, "recipe": "some-kernels", "device": "cpu", "version": "1.0", "cache": "hit", "wheel": None,
          "verdict": {"grade": "imported"}}  # fmt: skip
PLAN: dict[str, Any] = {"schema": 1, "build": None, "recipe": "some-kernels", "key": "k", "plan": {"targets": []}}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = new_service(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def client(service: Service, tmp_path: Path) -> Iterator[TestClient]:
    with client_of(gate_of(service, tmp_path / "tokens.json")) as made:
        yield made


class Planned:
    """A worker's planner with one answer."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.planner, self.answer, self.asked = self, answer, []  # type: ignore[var-annotated]

    def plan(self, row: Any) -> dict[str, Any]:
        self.asked.append(row["request"]["recipe"])
        return self.answer

    def wake(self) -> None:
        """There is nothing to do."""


def test_a_change_that_was_heard_of_is_told_at_once_and_another_soon(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = service.submit(BuildRequest(recipe="some-kernels", device="cpu"))[0].id
    looks = Looks(service)
    assert '"status":"queued"' in looks(name).status
    change(service.database, name, note="not heard of")
    assert "not heard of" not in looks(name).status
    service.tell(name)
    assert "not heard of" in looks(name).status
    monkeypatch.setattr(following, "AGE", -1.0)
    change(service.database, name, note="nobody said so")
    assert "nobody said so" in looks(name).status
    run_to_end(service, name, ANSWER, b"its log")
    found = looks(name)
    assert (found.ended, found.size, found.log.read(4, 9)) == (True, 7, b"log")
    with pytest.raises(NoSuchBuild):
        looks("no-such-build")


def test_what_is_known_does_not_grow(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MOST_KNOWN", 2)
    looks = Looks(service)
    for number in range(4):
        looks(service.submit(BuildRequest(recipe="some-kernels", device="cpu", torch=f"2.{number}.0"))[0].id)
    assert len(looks._known) == 2


def test_followers_are_as_many_as_is_set(tmp_path: Path) -> None:
    service = new_service(tmp_path, followers=1)
    name = service.submit(BuildRequest(recipe="some-kernels", device="cpu"))[0].id
    run_to_end(service, name, ANSWER, b"its log")
    gate = gate_of(service, tmp_path / "tokens.json")
    with client_of(gate) as client:
        assert client.get(f"/api/v1/builds/{name}/events").status_code == 200
        service.settings.__dict__["followers"] = 0
    with client_of(gate_of(service, tmp_path / "tokens.json")) as client:
        refused = client.get(f"/api/v1/builds/{name}/events")
    assert (refused.status_code, refused.json()["kind"]) == (429, "server-unreachable")
    service.database.close()


def test_prometheus_is_told_what_happens(client: TestClient, service: Service) -> None:
    client.post("/api/v1/builds", json=ASKED)
    text = client.get("/metrics").text
    assert 'cudabuild_queue{status="queued"} 1.0' in text
    assert 'cudabuild_request_seconds_count{method="POST",route="/api/v1/builds",status="2xx"} 1.0' in text
    assert "some-kernels" not in text


def test_a_build_that_ends_is_counted(service: Service) -> None:
    worker: Any = Planned({})
    service.worker = worker
    metrics = metrics_of(service, Events(Looks(service)))
    moments = (
        {"started": "2026-11-22T08:00:00.000000Z"},
        {"status": "succeeded", "ended": "2026-11-22T08:01:30.000000Z"},
    )
    worker.ended(moments[0], {**moments[1], "answer": {"cache": "miss"}})
    worker.ended(moments[0], {**moments[1], "answer": {"cache": "hit"}})
    worker.ended({"started": None}, {"status": "failed", "ended": None, "answer": None})
    text = metrics.render().decode()
    assert 'cudabuild_build_seconds_sum{status="succeeded"} 90.0' in text
    assert 'cudabuild_store_lookups_total{outcome="hit"} 1.0' in text
    assert 'cudabuild_builds_total{status="failed"} 1.0' in text


def test_a_plan_without_a_build(client: TestClient, service: Service) -> None:
    worker: Any = Planned(PLAN)
    service.worker = worker
    assert client.post("/api/v1/plan", json=ASKED).json() == PLAN
    assert client.post("/api/v1/plan", json={"recipe": "some-kernel"}).status_code == 404
    assert client.post("/api/v1/plan", json={**ASKED, "version": "7"}).status_code == 422
    assert worker.asked == ["some-kernels"]
    assert service.queue.newest_first() == []
    with api_plan._ROOM, api_plan._ROOM:
        busy = client.post("/api/v1/plan", json=ASKED)
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "2")
