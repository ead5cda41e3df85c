"""Following a build over HTTP: the log's very bytes, whatever they are and wherever a connection was cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from buildkit.errors import NoSuchBuild
from buildkit.service.events import (
    Events,
    FollowResponse,
    Look,
    TooManyFollowers,
    event,
    log_event,
    resumed_at,
)

NASTY = (
    b"a\rb\nevent: end\n\ndata: x\r\n\xe2\x80\xa8\x85 caf\xc3\xa9 \xff\xfe \xed\xa0\x80 "
    b"\x1b[31mred\x1b[0m \x00 \xf0\x9f\x98\x80 end"
)


@dataclass
class Parsed:
    """An event as a client reads it."""

    name: str
    data: Any
    number: int | None


def parse(text: bytes) -> list[Parsed]:
    """Events by the rules of the format: a line ends with CR, LF or both; a blank one ends an event."""
    found: list[Parsed] = []
    fields: dict[str, list[str]] = {}
    for line in text.decode("ascii").replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
            continue
        if "data" in fields:
            number = int(fields["id"][-1]) if "id" in fields else None
            found.append(Parsed(fields["event"][-1], json.loads("\n".join(fields["data"])), number))
        fields = {}
    return found


def bytes_of(found: list[Parsed]) -> bytes:
    return b"".join(each.data.encode("utf-8", "surrogateescape") for each in found if each.name == "log")


@dataclass
class File:
    """A log in one file, which may not be there yet."""

    path: Path

    def read(self, at: int, count: int) -> bytes:
        return self.path.read_bytes()[at : at + count]


@dataclass
class Build:
    """A build that is looked at, in the place of the database."""

    log: Path
    status: str = "running"
    ended: bool = False
    looks: int = 0
    error: Exception | None = None

    def look(self, name: str) -> Look:
        self.looks += 1
        if self.error is not None:
            raise self.error
        status = json.dumps({"id": name, "status": self.status, "seconds": self.looks})
        return Look(status, self.ended, File(self.log), self.log.stat().st_size if self.log.exists() else 0)

    def end(self, status: str = "succeeded") -> None:
        self.status, self.ended = status, True


@dataclass
class Client:
    """An ASGI client; ``taking`` is cleared to take nothing any more."""

    body: bytearray = field(default_factory=bytearray)
    taking: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    complete: bool = False

    async def send(self, message: Any) -> None:
        await self.taking.wait()
        if message["type"] == "http.response.body":
            self.body += message["body"]
            self.complete = not message.get("more_body")
            self.changed.set()

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def has(self, wanted: Callable[[list[Parsed]], bool]) -> None:
        while not wanted(self.events):
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 20)

    @property
    def events(self) -> list[Parsed]:
        return parse(bytes(self.body))


async def follow(
    events: Events, build: str = "b", after: int = 0, *, taking: bool = True, patience: float = 60.0
) -> tuple[Client, asyncio.Task[None]]:
    client = Client()
    if taking:
        client.taking.set()
    response = await events.response(build, after)
    response._patience = patience
    assert response.headers["content-type"].startswith("text/event-stream")
    task = asyncio.ensure_future(response({"type": "http", "method": "GET"}, client.receive, client.send))
    return client, task


def fast(build: Build, heartbeat: float = 5.0) -> Events:
    return Events(build.look, pause=0.005, heartbeat=heartbeat)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "b.log"
    path.write_bytes(NASTY)
    return path


def test_a_piece_can_forge_nothing_and_keeps_every_byte() -> None:
    text = log_event(NASTY, 99)
    assert text.isascii()
    assert text.count(b"\n") == 4
    (only,) = parse(text)
    assert (only.name, only.number, bytes_of([only])) == ("log", 99, NASTY)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_line_ends_in_a_status_stay_inside_of_the_event(end: str) -> None:
    (only,) = parse(event("status", f'{{"a":{end}1}}'))
    assert only.data == {"a": 1}


@pytest.mark.parametrize(
    ("text", "byte"), [(None, 0), ("", 0), ("17", 17), ("-1", 0), ("x", 0), ("1" * 19, 0), ("1\n", 0), ("٣", 0)]
)
def test_where_to_go_on(text: str | None, byte: int) -> None:
    assert resumed_at(text) == byte


def test_all_of_it_in_order_and_then_the_end(log: Path) -> None:
    async def main() -> list[Parsed]:
        build = Build(log)
        client, task = await follow(fast(build))
        await client.has(lambda found: bytes_of(found) == NASTY)
        with log.open("ab") as file:
            file.write(b"\nmore \xc3")
        build.end()
        await asyncio.wait_for(task, 20)
        assert client.complete
        return client.events

    found = asyncio.run(main())
    assert bytes_of(found) == log.read_bytes()
    assert [each.number for each in found if each.name == "log"][-1] == log.stat().st_size
    assert [each.data["status"] for each in found if each.name == "status"] == ["running", "succeeded"]
    assert (found[-1].name, found[-1].data["status"]) == ("end", "succeeded")


def test_whoever_was_cut_at_any_event_gets_the_rest(log: Path) -> None:
    log.write_bytes(NASTY * 2000)

    async def main() -> None:
        build = Build(log)
        build.end()
        whole, task = await follow(fast(build))
        await task
        pieces = [each for each in whole.events if each.name == "log"]
        assert len(pieces) > 3
        had = b""
        for piece in pieces:
            had += bytes_of([piece])
            rest, task = await follow(fast(build), after=piece.number or 0)
            await task
            assert had + bytes_of(rest.events) == log.read_bytes()

    asyncio.run(main())


def test_one_who_takes_nothing_holds_nobody_up_and_is_let_go(log: Path) -> None:
    log.write_bytes(NASTY * 2000)

    async def main() -> None:
        build = Build(log)
        events = fast(build)
        slow, waiting = await follow(events, taking=False, patience=0.05)
        quick, task = await follow(events)
        build.end()
        await asyncio.wait_for(task, 20)
        assert bytes_of(quick.events) == log.read_bytes()
        slow.taking.set()  # too late for the head, which nobody limits; then it takes nothing
        await asyncio.sleep(0)
        slow.taking.clear()
        await asyncio.wait_for(waiting, 20)
        assert not slow.complete
        assert events.followers == 0

    asyncio.run(main())


def test_however_many_follow_the_build_is_looked_at_once(log: Path) -> None:
    async def main() -> None:
        build = Build(log)
        events = Events(build.look, pause=3600)
        every = [await follow(events) for _ in range(20)]
        for client, _ in every:
            await client.has(lambda found: bytes_of(found) == NASTY)
        assert (build.looks, events.followers) == (20, 20)  # the first look of each, and none of the one task
        for client, _ in every:
            client.gone.set()
        await asyncio.gather(*(task for _, task in every))
        assert events.followers == 0

    asyncio.run(main())


def test_a_log_that_begins_later_or_anew(tmp_path: Path, log: Path) -> None:
    async def main() -> list[Parsed]:
        build = Build(tmp_path / "later.log")
        client, task = await follow(fast(build))
        await client.has(lambda found: len(found) == 1)
        build.log.write_bytes(NASTY)
        await client.has(lambda found: bytes_of(found) == NASTY)
        build.log.write_bytes(b"")
        await client.has(lambda found: found[-1].name == "restart")
        build.log.write_bytes(b"again")
        await client.has(lambda found: bytes_of(found) == NASTY + b"again")
        build.end()
        await asyncio.wait_for(task, 20)
        return client.events

    names = [(each.name, each.number) for each in asyncio.run(main())]
    assert names == [("status", None), ("log", len(NASTY)), ("restart", 0), ("log", 5), ("status", None), ("end", None)]


def test_a_place_beyond_the_log_begins_anew(log: Path) -> None:
    async def main() -> list[Parsed]:
        build = Build(log)
        build.end()
        client, task = await follow(fast(build), after=10**6)
        await task
        return client.events

    found = asyncio.run(main())
    assert [each.name for each in found] == ["restart", "log", "status", "end"]
    assert bytes_of(found) == NASTY


def test_a_silent_build_gives_a_sign_of_life(log: Path) -> None:
    async def main() -> None:
        client, task = await follow(fast(Build(log), heartbeat=0.01))
        while b": still here\n\n" not in client.body:
            client.changed.clear()
            await asyncio.wait_for(client.changed.wait(), 20)
        client.gone.set()
        await task

    asyncio.run(main())


def test_a_build_that_runs_again_is_not_told_as_ended(log: Path) -> None:
    async def main() -> None:
        build = Build(log)
        events = fast(build)
        build.end("failed")
        held, waiting = await follow(events, taking=False)
        await asyncio.sleep(0.02)
        build.status, build.ended = "running", False
        client, task = await follow(events)
        await client.has(lambda found: bytes_of(found) == NASTY)
        assert client.events[0].data["status"] == "running"
        build.end()
        await asyncio.wait_for(task, 20)
        held.gone.set()
        await waiting

    asyncio.run(main())


def test_what_cannot_be_followed_is_refused_before_anything_is_sent(log: Path) -> None:
    async def main() -> None:
        build = Build(log, error=NoSuchBuild("no build b is recorded here"))
        with pytest.raises(NoSuchBuild):
            await Events(build.look).response("b")
        with pytest.raises(TooManyFollowers):
            await Events(Build(log).look, most=0).response("b")

    asyncio.run(main())


def test_a_server_that_ends_lets_everybody_go(log: Path) -> None:
    async def main() -> None:
        ends: list[int] = []
        client, task = await follow(Events(Build(log).look, pause=0.005, closing=lambda: bool(ends)))
        await client.has(lambda found: bytes_of(found) == NASTY)
        ends.append(1)
        await asyncio.wait_for(task, 20)
        assert client.complete
        assert client.events[-1].name == "log"  # no end was told: they come back

    asyncio.run(main())


def test_a_look_that_fails_breaks_the_stream_off(log: Path) -> None:
    async def main() -> None:
        build = Build(log)
        client, task = await follow(fast(build))
        await client.has(lambda found: bytes_of(found) == NASTY)
        build.error = OSError("the database is gone")
        with pytest.raises(OSError, match="database"):
            await asyncio.wait_for(task, 20)
        assert not client.complete

    asyncio.run(main())


def test_the_head_alone_has_no_body(log: Path) -> None:
    async def main() -> None:
        build = Build(log)
        client = Client()
        client.taking.set()
        response = await fast(build).response("b")
        assert isinstance(response, FollowResponse)
        await response({"type": "http", "method": "HEAD"}, client.receive, client.send)
        assert (bytes(client.body), client.complete) == (b"", True)

    asyncio.run(main())
