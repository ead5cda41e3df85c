"""A build as server-sent events: its log from a byte on, and its status whenever that changes.

``log``: the id is the byte of the log that comes next, the data a JSON string of the text in ASCII, so that no CR, LF
or U+2028 of a log can begin a line of the protocol; bytes that are no UTF-8 are lone surrogates (Python's
``surrogateescape``), so that the text can be turned back into the very bytes. ``status``: the build's object.
``restart``: the log begins anew. ``end``: the object once more, and nothing follows.
The format is that of https://html.spec.whatwg.org/multipage/server-sent-events.html.

Each follower reads the log at its own place, a piece when the one before was taken: a slow one holds a piece, and
nobody up. What the database says is asked once a build, however many follow.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import anyio
import anyio.to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from buildkit.errors import CudabuildError
from buildkit.service.logs import text_of, whole_characters

PIECE = 32 << 10
"""Bytes of the log in one event."""
PAUSE = 0.25
"""Seconds between two looks."""
HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection, and a dead one is noticed."""
PATIENCE = 120.0
"""Seconds for which a follower may take nothing before it is let go: it can come back at the byte where it was."""
MOST_LOOKING = 4
"""Threads that look at builds at a time: others go on answering."""


class Log(Protocol):
    """A log that grows; read in threads."""

    def read(self, at: int, count: int) -> bytes:
        """At most ``count`` bytes from a byte on; nothing behind the end."""


@dataclass(frozen=True)
class Look:
    """A build at a moment: its object as JSON on one line, whether it has ended, its log, and how long that was then.

    The object is to be taken before the log is measured: of one that has ended, ``size`` is then all of it.
    """

    status: str
    ended: bool
    log: Log
    size: int

    @cached_property
    def mark(self) -> str:
        """What must change for a status to be told: all of it but the time that passes."""
        value = json.loads(self.status)
        value.pop("seconds", None)
        return json.dumps(value)


class TooManyFollowers(CudabuildError):
    """As many as may follow do."""

    kind = "server-unreachable"
    exit_code = 4


class _Watch:
    """One build that somebody follows: looked at by one task for all of them."""

    def __init__(self, first: Look) -> None:
        self.look = first
        self.error: Exception | None = None
        self.followers = 0
        self.turn = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Let everybody who waits go on."""
        turn, self.turn = self.turn, asyncio.Event()
        turn.set()


class Events:
    """All followers of a server. ``look`` is called in a thread; what it raises ends the stream.

    ``most``: followers at a time; each holds a connection. ``closing``: whether the server is about to end; then all
    are let go, and come back to the next one by themselves.
    """

    def __init__(
        self,
        look: Callable[[str], Look],
        *,
        most: int = 500,
        closing: Callable[[], bool] = lambda: False,
        pause: float = PAUSE,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self._look = look
        self._most = most
        self._closing = closing
        self._pause = pause
        self._heartbeat = heartbeat
        self._watches: dict[str, _Watch] = {}
        self._limit: anyio.CapacityLimiter | None = None

    @property
    def followers(self) -> int:
        """How many follow now."""
        return sum(watch.followers for watch in self._watches.values())

    async def response(self, build: str, after: int = 0) -> FollowResponse:
        """The answer to somebody who follows, from this byte of the log on.

        Raises TooManyFollowers, and what ``look`` raises, before anything is sent.
        """
        if self.followers >= self._most:
            raise TooManyFollowers("too many live logs are followed", hint="the same command again, later")
        return FollowResponse(self.follow(build, await self._once(build), after))

    async def follow(self, build: str, first: Look, after: int = 0) -> AsyncGenerator[bytes, None]:
        """The events as bytes; ``first`` is how the build is now."""
        with self._watched(build, first) as watch:
            reader = _Reader(after)
            async for each in self._events(watch, reader):
                yield each

    async def _events(self, watch: _Watch, reader: _Reader) -> AsyncIterator[bytes]:
        told, last = "", time.monotonic()
        while not self._closing():
            turn, look = watch.turn, watch.look  # before the log is read: what has come by its end is then all there
            if watch.error is not None:
                raise watch.error
            if look.mark != told and not look.ended:
                told, last = look.mark, time.monotonic()
                yield event("status", look.status)
            while (piece := await reader.read(look)) is not None:
                last = time.monotonic()
                yield piece
            if look.ended:
                if look.mark != told:
                    yield event("status", look.status)
                yield event("end", look.status)
                return
            if time.monotonic() - last >= self._heartbeat:
                last = time.monotonic()
                yield b": still here\n\n"
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(turn.wait(), self._heartbeat)

    @contextmanager
    def _watched(self, build: str, first: Look) -> Iterator[_Watch]:
        watch = self._watches.setdefault(build, _Watch(first))
        watch.followers += 1
        if watch.task is None or watch.task.done():  # done: it had ended, and runs again
            watch.look, watch.error = first, None
            watch.task = asyncio.ensure_future(self._keep_looking(build, watch))
        try:
            yield watch
        finally:
            watch.followers -= 1
            if not watch.followers:
                watch.task.cancel()
                del self._watches[build]

    async def _keep_looking(self, build: str, watch: _Watch) -> None:
        while watch.error is None and not watch.look.ended:
            await asyncio.sleep(self._pause)
            try:
                watch.look = await self._once(build)
            except Exception as error:  # noqa: BLE001  (raised to each follower, who is another task)
                watch.error = error
            watch.wake()

    async def _once(self, build: str) -> Look:
        self._limit = self._limit or anyio.CapacityLimiter(MOST_LOOKING)  # belongs to the loop it was made in
        return await anyio.to_thread.run_sync(self._look, build, limiter=self._limit)


class _Reader:
    """A follower's place in the log."""

    def __init__(self, at: int) -> None:
        self._at = at

    async def read(self, look: Look) -> bytes | None:
        """The next event; None where nothing has come since."""
        if self._at > look.size:  # what was named is beyond the end, or the log was taken away and begun anew
            self._at = 0
            return event("restart", "{}", number=0)
        await asyncio.sleep(0)  # one follower who is far behind does not keep the others waiting
        count = min(PIECE, look.size - self._at)
        if not count:
            return None
        data = await anyio.to_thread.run_sync(look.log.read, self._at, count)
        if len(data) == PIECE or not look.ended:  # more can come: of a character that is cut, nothing yet
            data = whole_characters(data)
        if not data:
            return None
        self._at += len(data)
        return log_event(data, self._at)


class FollowResponse(Response):
    """The answer that goes on; the follower who takes nothing, or goes away, is let go."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], *, patience: float = PATIENCE) -> None:
        super().__init__(headers={"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until they end, or until nobody takes them."""
        sending = asyncio.ensure_future(self._send(scope, send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            sending.cancel()
            with suppress(asyncio.CancelledError, asyncio.TimeoutError):
                await sending

    async def _send(self, scope: Scope, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        try:
            if scope["method"] != "HEAD":
                async for data in self._events:
                    body = {"type": "http.response.body", "body": data, "more_body": True}
                    await asyncio.wait_for(send(body), self._patience)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._events.aclose()  # counts one follower less now


def event(name: str, data: str, *, number: int | None = None) -> bytes:
    """One event. ``data`` is JSON; its line ends, if it has any, stay inside of the event."""
    lines = "".join(f"data: {line}\n" for line in re.split(r"\r\n|\r|\n", data))
    identity = "" if number is None else f"id: {number}\n"
    return f"{identity}event: {name}\n{lines}\n".encode()


def log_event(data: bytes, after: int) -> bytes:
    """A piece of the log, which ends before byte ``after``."""
    return event("log", json.dumps(text_of(data)), number=after)


def resumed_at(last_event_id: str | None) -> int:
    """The byte to go on at, of a Last-Event-ID header or what stands for it; 0 for anything else than a number."""
    return int(last_event_id) if last_event_id and re.fullmatch(r"[0-9]{1,18}", last_event_id) else 0


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
