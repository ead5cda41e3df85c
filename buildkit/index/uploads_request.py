"""Between requests and what takes them: bodies piece by piece, refusals as answers, never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from buildkit.errors import ConfigError, DiskFull, StoreError
from buildkit.index.refused import Refused

LOG = logging.getLogger("cudabuild.index")
_PIECE = 1 << 20
"""Bytes that are handled at a time, away from the event loop."""
_READ_ON = 4 * 2**30
"""Bytes that are read of a refused body, so that its sender gets to the answer instead of a broken connection."""

Handler = Callable[[Request], Awaitable[Response]]


class Reader(Protocol):
    """What takes a body."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""


async def fed(request: Request, reader: Reader) -> None:
    """Give the whole body to a reader, in pieces of about a mebibyte, each in a thread."""
    waiting: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        waiting.append(chunk)
        size += len(chunk)
        if size >= _PIECE:
            await run_in_threadpool(reader.feed, b"".join(waiting))
            waiting, size = [], 0
    if waiting:
        await run_in_threadpool(reader.feed, b"".join(waiting))


def answered(handler: Handler) -> Handler:
    """The handler with its refusals, and what the store says, as answers in one line of plain text."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Refused as error:
            refused = error
        except ClientDisconnect:
            LOG.info("%s %r: the sender went away before the end", request.method, request.url.path)
            return Response(status_code=400)  # which nobody reads
        except StoreError as error:
            LOG.error("%s %r: %s (%s)", request.method, request.url.path, error.message, error.evidence)
            refused = _store_trouble(error)
        except ConfigError as error:
            LOG.error("%s", error.message)
            refused = Refused(503, "the index's own configuration is at fault: its log says how")
        LOG.info("%s %r: %d %s", request.method, request.url.path, refused.status, refused.text)
        await _read_on(request)
        headers = {**refused.headers, "Cache-Control": "no-store"}
        return PlainTextResponse(refused.text + "\n", refused.status, headers=headers)

    return answer


def _store_trouble(error: StoreError) -> Refused:
    """What the sender may know of it: paths of the index's machine are for its own log."""
    if isinstance(error, DiskFull):
        return Refused(507, "the index's disk is full")
    return Refused(503, "the index's store cannot be written: its log says why")


async def _read_on(request: Request) -> None:
    """Read what is still coming and forget it."""
    left = _READ_ON
    with suppress(ClientDisconnect, RuntimeError):  # the latter where all has come already
        async for chunk in request.stream():
            left -= len(chunk)
            if left < 0:
                return
