"""What a queue must hold, on whatever database: run on SQLite by the unit tests, on PostgreSQL by the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from services import change, claims_of

from buildkit.errors import CannotCancel
from buildkit.service.answers import BuildRequest
from buildkit.service.database import Database
from buildkit.service.queue import Conflict, Queue, QueueFull, again


def ask(queue: Queue, name: str = "some-kernels", *, who: str = "a", **more: Any) -> tuple[str, bool]:
    idempotency = more.pop("idempotency", None)
    fingerprint = more.pop("fingerprint", name)
    row, is_new = queue.submit(BuildRequest(recipe=name, **more), fingerprint, who=who, idempotency=idempotency)
    return str(row["id"]), is_new


def two_people_share_a_build(database: Database) -> None:
    queue = Queue(database)
    first, is_new = ask(queue, who="a")
    assert is_new
    assert ask(queue, who="b", priority=7) == (first, False)
    row = queue.get(first)
    assert row is not None
    assert (row["priority"], row["requested_by"]) == (7, "a")
    assert ask(queue, "other")[0] != first
    change(database, first, status="failed")
    assert ask(queue)[1], "one that has ended is not shared"


def an_idempotency_key_is_answered_with_its_build(database: Database) -> None:
    queue = Queue(database)
    first, _ = ask(queue, idempotency="k1")
    change(database, first, status="succeeded")
    assert ask(queue, idempotency="k1") == (first, False)
    assert ask(queue, idempotency="k1", who="b")[0] != first, "a key is its sender's own"
    with pytest.raises(Conflict, match="another request"):
        ask(queue, "other", idempotency="k1")


def many_at_once_make_one_build(database: Database) -> None:
    queue, ready = Queue(database), threading.Barrier(8)

    def one(number: int) -> tuple[str, bool]:
        ready.wait(20)
        return ask(queue, who=str(number), idempotency=str(number % 3))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(8)))
    assert len({name for name, _ in answers}) == 1
    assert sum(is_new for _, is_new in answers) == 1


def each_build_is_taken_once(database: Database) -> None:
    queue = Queue(database)
    names = {ask(queue, f"p{number}")[0] for number in range(12)}
    workers = [claims_of(database, f"w{number}") for number in range(4)]
    ready = threading.Barrier(4)

    def take_all(number: int) -> list[str]:
        ready.wait(20)
        found = []
        while (row := workers[number].take()) is not None:
            found.append(row["id"])
        return found

    with ThreadPoolExecutor(4) as pool:
        taken = [name for found in pool.map(take_all, range(4)) for name in found]
    assert len(taken) == len(set(taken))
    assert set(taken) == names


def the_order_is_priority_then_age(database: Database) -> None:
    queue, claims = Queue(database), claims_of(database)
    low, _ = ask(queue, "low", priority=-1)
    first, _ = ask(queue, "first")
    second, _ = ask(queue, "second")
    high, _ = ask(queue, "high", priority=9)
    rows = queue.newest_first()
    assert queue.positions(rows) == {high: 1, first: 2, second: 3, low: 4}
    order = []
    while (row := claims.take()) is not None:
        order.append(row["id"])
    assert order == [high, first, second, low]


def one_wheel_is_made_once_at_a_time(database: Database) -> None:
    queue, one, two = Queue(database), claims_of(database, "one"), claims_of(database, "two")
    first, second = ask(queue, "native")[0], ask(queue, "by-number")[0]
    mine, theirs = one.take(), two.take()
    assert mine is not None
    assert theirs is not None
    assert one.begin(mine, "b1", key="k", plan={})
    assert not two.begin(theirs, "b2", key="k", plan={}), "the same key runs already"
    row = queue.get(second)
    assert row is not None
    assert (row["status"], row["key"], row["worker"]) == ("queued", "k", None)
    assert "same wheel" in row["note"]
    assert two.take() is None
    assert one.write(mine, {"status": "succeeded"})
    assert queue.get(first)["status"] == "succeeded"  # type: ignore[index]
    assert (two.take() or {})["id"] == second


def a_lease_that_ran_out_is_taken_over(database: Database) -> None:
    queue = Queue(database)
    one, two, far = claims_of(database, "one"), claims_of(database, "two"), claims_of(database, "far", place="there")
    name, _ = ask(queue)
    row = one.take()
    assert row is not None
    assert one.begin(row, "b1", key="k", plan={})
    assert two.adopt([], 900.0) == [], "it is held"
    one.beat()
    change(database, name, lease=1.0)
    assert far.adopt([], 1e12) == [], "another cache cannot see what became of it"
    assert [row["id"] for row in two.adopt([], 900.0)] == [name]
    assert not one.write(row, {"status": "succeeded"}), "it is not its own any more"
    assert [row["id"] for row in two.mine()] == [name]
    assert [row["id"] for row in one.adopt(["two"], 900.0)] == [name], "known to be gone, whatever its lease says"
    change(database, name, lease=1.0)
    assert [row["id"] for row in far.adopt([], 900.0)] == [name], "silent for so long that it is given up"


def what_a_worker_that_is_gone_had_taken_waits_again(database: Database) -> None:
    queue, one, two = Queue(database), claims_of(database, "one"), claims_of(database, "two")
    name, _ = ask(queue)
    assert one.take() is not None
    assert two.take() is None
    two.adopt(["one"], 900.0)
    assert (two.take() or {})["id"] == name
    two.sign_off()
    assert (one.take() or {})["id"] == name


def a_cancel_ends_what_waits_and_asks_the_worker_of_what_runs(database: Database) -> None:
    queue, claims = Queue(database), claims_of(database)
    waits, _ = ask(queue, "waits")
    row = queue.cancel(waits)
    assert (row["status"], row["error"]["kind"], row["exit_code"]) == ("cancelled", "cancelled", 143)
    with pytest.raises(CannotCancel, match="cancelled before"):
        queue.cancel(waits)
    runs, _ = ask(queue, "runs")
    taken = claims.take()
    assert taken is not None
    assert claims.begin(taken, "b", key=None, plan={})
    row = queue.cancel(runs)
    assert (row["status"], row["cancelling"]) == ("running", True)
    assert claims.is_cancelled(taken)
    again_asked, is_new = ask(queue, "runs")
    assert is_new, "nobody is given a build that is being ended"
    assert again_asked != runs


def a_retry_keeps_the_id_and_what_was_tried(database: Database) -> None:
    queue = Queue(database)
    name, _ = ask(queue)
    with pytest.raises(Conflict, match="waits already"):
        queue.retry(name)
    change(database, name, status="failed", build="b1", error={"kind": "build-failed"}, exit_code=6)
    row = queue.retry(name)
    assert (row["status"], row["attempt"], row["error"], row["build"]) == ("queued", 2, None, None)
    assert row["tries"] == [{"build": "b1", "cause": "retry"}]
    change(database, name, status="failed")
    other, _ = ask(queue)
    with pytest.raises(Conflict, match=other):
        queue.retry(name)


def a_retry_waits_for_its_time(database: Database) -> None:
    queue, claims = Queue(database), claims_of(database)
    name, _ = ask(queue)
    row = claims.take()
    assert row is not None
    assert claims.write(row, again(row, "network", not_before=4e9, note="later"))
    assert claims.take() is None
    change(database, name, not_before=1.0)
    assert claims.take() is not None


def a_full_queue_takes_no_more(database: Database) -> None:
    queue = Queue(database, limit=1)
    name, _ = ask(queue)
    assert ask(queue)[0] == name, "the same is no more"
    with pytest.raises(QueueFull):
        ask(queue, "other")


def lists_are_filtered_and_go_on(database: Database) -> None:
    queue = Queue(database)
    names = [ask(queue, f"p{number}")[0] for number in range(5)]
    rows = queue.newest_first(limit=2)
    assert [row["id"] for row in rows] == [names[4], names[3]]
    assert [row["id"] for row in queue.newest_first(limit=9, after=rows[-1]["seq"])] == names[2::-1]
    assert [row["id"] for row in queue.newest_first(recipe="p1", status="queued")] == [names[1]]
    assert queue.newest_first(status="failed") == []
    assert queue.counts() == {"queued": 5}
    change(database, names[0], key="abcdef", build="20261121-aa")
    for text, meant in (("last", 4), ("p2", 2), ("abcd", 0), ("20261121-aa", 0), (names[3], 3)):
        assert queue.find(text)["id"] == names[meant]  # type: ignore[index]
    for text in ("abc", "%", "ab%%", "____", "no-such"):
        assert queue.find(text) is None, text


CHECKS: tuple[Callable[[Database], None], ...] = (
    two_people_share_a_build,
    an_idempotency_key_is_answered_with_its_build,
    many_at_once_make_one_build,
    each_build_is_taken_once,
    the_order_is_priority_then_age,
    one_wheel_is_made_once_at_a_time,
    a_lease_that_ran_out_is_taken_over,
    what_a_worker_that_is_gone_had_taken_waits_again,
    a_cancel_ends_what_waits_and_asks_the_worker_of_what_runs,
    a_retry_keeps_the_id_and_what_was_tried,
    a_retry_waits_for_its_time,
    a_full_queue_takes_no_more,
    lists_are_filtered_and_go_on,
)
