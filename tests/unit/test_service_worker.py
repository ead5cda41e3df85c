"""What a worker makes of how builds end, and that a build is begun once; its processes are stood in for."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from processes import wait_until
from services import change, claims_of, new_service

from buildkit.cli.as_build import claim
from buildkit.errors import BuildFailed, IndexUnreachable
from buildkit.service.answers import BuildRequest
from buildkit.service.claims import Claims
from buildkit.service.outcomes import ending_of
from buildkit.service.planning import Planner
from buildkit.service.runs import Outcome, Runs
from buildkit.service.service import Service
from buildkit.service.worker import Worker

GOOD = {"schema": 1, "recipe": "some-kernels", "version": "1.0", "verdict": {"grade": "imported"}}


def failed(kind: str, code: int) -> dict[str, Any]:
    return {**GOOD, "verdict": None, "error": {"kind": kind, "exit_code": code, "message": "m"}}


class StandIn(Runs):
    """Builds that begin when they are started and end when a test says so."""

    def __init__(self, runs: Runs) -> None:
        super().__init__(runs.logs, runs.records)
        self.started: list[str] = []
        self.words: list[Sequence[str]] = []
        self.held: dict[str, int] = {}
        self.begins = True

    def start(self, build: str, words: Sequence[str], environment: Mapping[str, str]) -> None:  # noqa: ARG002
        self.started.append(build)
        self.words.append(words)
        self.logs.mkdir(parents=True, exist_ok=True)
        if self.begins and (descriptor := claim(self._answer(build))) is not None:
            self.held[build] = descriptor

    def finish(self, build: str, answer: Mapping[str, Any] | None) -> None:
        if answer is not None:
            self._answer(build).write_text(json.dumps(answer))
        os.close(self.held.pop(build))

    def end(self, build: str) -> None:
        if build in self.held:
            self.finish(build, failed("cancelled", 143))


class Planned:
    """Plans that are there at once."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | Exception = {"key": "k", "device": "cpu"}

    def plan(self, _row: Any) -> dict[str, Any]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def build_words(self, _request: BuildRequest, build: str, *, jobs: int | None) -> tuple[list[str], dict[str, str]]:
        return [build, f"jobs={jobs}"], {}

    def close(self) -> None:
        pass


class AtOnce:
    """A pool that works in the caller's thread."""

    def submit(self, work: Any, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:  # noqa: BLE001 - it is the future's
            future.set_exception(error)
        return future

    def shutdown(self, **_: Any) -> None:
        pass


class Bench:
    """A worker, its service, and what it started."""

    def __init__(self, service: Service, name: str = "one") -> None:
        self.service, self.runs, self.planner = service, StandIn(service.runs), Planned()
        claims: Claims = claims_of(service.database, name)
        self.worker = Worker(claims, self.runs, self.planner, service.settings, service.tell)  # type: ignore[arg-type]
        self.worker._pool = AtOnce()  # type: ignore[assignment]
        self.name = service.submit(BuildRequest(recipe="some-kernels", device="cpu"))[0].id

    @property
    def row(self) -> Any:
        return self.service.row(self.name)

    def steps(self, count: int = 2) -> Any:
        for _ in range(count):
            self.worker.step()
        return self.row

    def begun(self) -> str:
        """Until the build runs; its cache's id."""
        assert self.steps()["status"] == "running"
        return str(self.row["build"])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    service = new_service(tmp_path, retry_delay=0)
    yield Bench(service)
    service.database.close()


def test_from_the_queue_to_the_end(bench: Bench) -> None:
    build = bench.begun()
    assert bench.steps()["status"] == "running"
    bench.runs.finish(build, GOOD)
    row = bench.steps(1)
    assert (row["status"], row["grade"], row["version"], row["worker"]) == ("succeeded", "imported", "1.0", "one")
    assert bench.runs.started == [build]


RETRIED = [("out-of-memory", 7, 1), ("index-unreachable", 4, 2), ("terminated", 143, 2), ("interrupted", 130, 2)]


@pytest.mark.parametrize(("kind", "code", "times"), RETRIED)
def test_what_may_end_otherwise_is_tried_again(kind: str, code: int, times: int, bench: Bench) -> None:
    for attempt in range(times + 1):
        build = bench.begun()
        assert bench.row["attempt"] == attempt + 1
        bench.runs.finish(build, failed(kind, code))
        bench.worker.step()
    row = bench.steps()
    assert (row["status"], row["error"]["kind"], row["exit_code"]) == ("failed", kind, code)
    assert [done["build"] for done in row["tries"]] == bench.runs.started[:-1]
    assert len(set(bench.runs.started)) == times + 1
    assert [words[1] for words in bench.runs.words][1:] == ["jobs=1" if code == 7 else "jobs=None"] * times


@pytest.mark.parametrize(("kind", "code"), [("build-failed", 6), ("recipe", 3), ("timeout", 8), ("disk-full", 10)])
def test_what_would_only_happen_again_is_not(kind: str, code: int, bench: Bench) -> None:
    bench.runs.finish(bench.begun(), failed(kind, code))
    assert bench.steps(3)["error"]["kind"] == kind
    assert len(bench.runs.started) == 1


def test_a_build_that_was_killed_is_tried_again_and_then_said_to_be_lost(bench: Bench) -> None:
    for _ in range(3):
        bench.runs.finish(bench.begun(), None)
        bench.worker.step()
    row = bench.steps()
    assert (row["status"], row["error"]["kind"]) == ("failed", "build-failed")
    assert "was killed" in row["error"]["message"]


def test_a_plan_that_fails_is_the_builds_failure(bench: Bench) -> None:
    bench.planner.answer = failed("no-target", 5)
    row = bench.steps()
    assert (row["status"], row["error"]["kind"], row["exit_code"], bench.runs.started) == ("failed", "no-target", 5, [])


def test_a_plan_for_want_of_a_network_is_tried_again(bench: Bench) -> None:
    bench.planner.answer = IndexUnreachable("no")
    row = bench.steps(2)
    assert (row["status"], row["attempt"]) == ("queued", 2)
    assert bench.steps(6)["status"] == "failed"


def test_a_server_that_was_killed_before_the_build_began_starts_it_again(bench: Bench) -> None:
    bench.runs.begins = False
    build = bench.begun()
    assert bench.runs.state(build) == "absent"
    other = Bench(bench.service, "two")
    change(bench.service.database, bench.name, lease=1.0)
    other.steps(1)
    assert other.runs.started == [build], "under the same id, which only one process can begin"
    assert other.row["worker"] == "two"
    other.runs.finish(build, GOOD)
    assert other.steps(1)["status"] == "succeeded"


def test_a_command_that_never_begins_is_given_up(bench: Bench) -> None:
    bench.runs.begins = False
    bench.steps(6)
    assert bench.row["status"] == "failed"
    assert len(bench.runs.started) == 3


def test_cancel(bench: Bench) -> None:
    build = bench.begun()
    bench.service.cancel(bench.name)
    row = bench.steps(3)
    assert (row["status"], row["exit_code"], row["error"]["kind"], row["cancelling"]) == (
        "cancelled", 143, "cancelled", False)  # fmt: skip
    assert bench.runs.state(build) == "ended"


def test_cancel_before_it_began_keeps_it_from_ever_beginning(bench: Bench) -> None:
    bench.runs.begins = False
    build = bench.begun()
    bench.service.cancel(bench.name)
    assert bench.steps(3)["status"] == "cancelled"
    bench.runs.begins = True
    bench.runs.start(build, [], {})
    assert bench.runs.held == {}


@pytest.mark.parametrize(("how", "status"), [("keep", "running"), ("requeue", "queued"), ("end", "cancelled")])
def test_what_becomes_of_running_builds_when_it_stops(how: Any, status: str, bench: Bench) -> None:
    build = bench.begun()
    bench.worker.stop(how)
    assert bench.row["status"] == status
    assert (bench.runs.state(build) == "running") is (how == "keep")
    assert bench.service.workers().workers == []
    if how == "keep":
        assert [row["id"] for row in claims_of(bench.service.database, "two").adopt([], 900.0)] == [bench.name]


def test_slots_are_not_exceeded(tmp_path: Path) -> None:
    service = new_service(tmp_path, slots=2)
    bench = Bench(service)
    for version in ("1.0", "0.9"):
        for priority in range(3):
            service.queue.submit(BuildRequest(recipe=f"p{priority}"), f"{version}{priority}", who="x")
    for number in range(4):
        bench.planner.answer = {"key": f"k{number}"}
        bench.worker.step()
    assert service.queue.counts() == {"queued": 5, "running": 2}
    service.database.close()


def test_a_plan_that_is_being_made_ends_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planner = Planner(tmp_path, dict(os.environ), ())
    monkeypatch.setattr("buildkit.service.planning.plan_words", lambda *_, **__: ["sleep", "600"])
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(planner.plan, {"request": {"recipe": "some-kernels"}})
        assert wait_until(lambda: bool(planner._running))
        planner.close()
        with pytest.raises(BuildFailed, match="gave no answer"):
            future.result(60)
    assert planner._running == set()


def test_an_answer_is_claimed_by_one_process(tmp_path: Path) -> None:
    answer = tmp_path / "b.json"
    descriptor = claim(answer)
    assert descriptor is not None
    assert claim(answer) is None
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]
    with answer.open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(descriptor)


@pytest.mark.parametrize(
    ("outcome", "cancelling", "status", "cause"),
    [
        (Outcome(GOOD, "succeeded"), False, "succeeded", None),
        (Outcome(GOOD, None), True, "succeeded", None),
        (Outcome(failed("terminated", 143), "failed"), True, "cancelled", None),
        (Outcome(failed("terminated", 143), "failed"), False, "failed", "lost"),
        (Outcome(failed("cancelled", 143), "cancelled"), False, "cancelled", None),
        (Outcome(None, "cancelled"), False, "cancelled", None),
        (Outcome(None, "running"), False, "failed", "lost"),
        (Outcome({"recipe": "x", "error": {}}, None), False, "failed", None),
    ],
)
def test_what_an_end_means(outcome: Outcome, cancelling: bool, status: str, cause: str | None) -> None:
    ending = ending_of(outcome, cancelling=cancelling)
    assert (ending.status, ending.cause) == (status, cause)
