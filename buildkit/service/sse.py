"""Live logs: server-sent events, resumable at a byte.

`log` events hold text as a JSON string, so that no byte of a log can end or begin an event; their id is the byte
offset behind them in the log. `status` holds the build whenever it changed, `end` comes last.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable

import anyio.to_thread

from buildkit.service.answers import ENDED, BuildAnswer
from buildkit.service.logs import BuildLog, text_of, whole_characters

PIECE = 16 << 10
"""Bytes of an event, at most."""
PAUSE = 0.2
"""Seconds between two looks at a log."""
LOOK = 2.0
"""Seconds between two looks at a build of which nothing was heard."""
PING = 15.0
"""Seconds of silence after which a comment is sent: proxies give up on connections that say nothing."""


class Changes:
    """What was heard of builds: a number for each that rises when it changes. Told by other threads."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, identifier: str) -> None:
        """It changed."""
        if len(self._numbers) > 10_000:
            self._numbers.clear()
        self._numbers[identifier] = self._numbers.get(identifier, 0) + 1

    def number(self, identifier: str) -> int:
        """How often it changed."""
        return self._numbers.get(identifier, 0)


class Follower:
    """One client's live log. ``look`` asks for the build and its log, and may block."""

    def __init__(
        self, look: Callable[[], tuple[BuildAnswer, BuildLog]], changes: Changes, closing: Callable[[], bool], at: int
    ) -> None:
        self._look, self._changes, self._closing, self._at = look, changes, closing, at
        self._said: BuildAnswer | None = None

    async def events(self) -> AsyncIterator[str]:
        """Until the build has ended and its whole log is sent, or the server ends."""
        spoke = time.monotonic()
        heard, looked = -1, 0.0
        build, log = await anyio.to_thread.run_sync(self._look)
        self._at = min(self._at, log.size())
        while not self._closing():
            number = self._changes.number(build.id)
            if number != heard or time.monotonic() - looked > LOOK:
                heard, looked = number, time.monotonic()
                build, log = await anyio.to_thread.run_sync(self._look)
            said = self._status(build)
            async for piece in self._pieces(log, ended=build.status in ENDED):
                yield piece
                said = said or " "
            if said.strip():
                yield said
            if build.status in ENDED:
                yield f"event: end\ndata: {build.model_dump_json(by_alias=True)}\n\n"
                return
            if said:
                spoke = time.monotonic()
            elif time.monotonic() - spoke > PING:
                spoke = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(PAUSE)

    def _status(self, build: BuildAnswer) -> str:
        """An event, if the build is another than was said last."""
        unchanging = {"seconds": None}
        known = self._said.model_copy(update=unchanging) if self._said else None
        if known == build.model_copy(update=unchanging):
            return ""
        self._said = build
        return f"event: status\ndata: {build.model_dump_json(by_alias=True)}\n\n"

    async def _pieces(self, log: BuildLog, *, ended: bool) -> AsyncIterator[str]:
        """What has come since; of a running build no half characters."""
        while data := log.read(self._at, PIECE):
            whole = data if ended and len(data) < PIECE else whole_characters(data)
            if not whole:
                return
            self._at += len(whole)
            yield f"event: log\nid: {self._at}\ndata: {json.dumps(text_of(whole))}\n\n"


def offset_of(text: str | None) -> int:
    """The byte at which a client wants to go on, from its Last-Event-ID; 0 where that says nothing."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 15 else 0
