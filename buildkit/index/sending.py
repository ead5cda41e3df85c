"""Sending a checked file: whole, in part (206), or not at all because the client has it (304)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import anyio.lowlevel
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from buildkit.index.answers import FILE_AGE, SAFE
from buildkit.index.catalogue import identity_of_open
from buildkit.index.ranges import Unsatisfiable, etag_matches, wanted_ranges

CHUNK = 128 << 10
"""Bytes in memory for each client."""
SLICE = 4 << 20
"""Bytes that the kernel sends at a time, where the server lets it: what changed meanwhile is noticed between two."""
WHEEL = "application/octet-stream"
ZERO_COPY = "http.response.zerocopysend"
"""ASGI's name of it: https://asgi.readthedocs.io/en/latest/extensions.html#zero-copy-send"""
_BOUNDARY = "cudabuild-part-of-a-wheel"

Part = tuple[bytes, int, int]
"""Bytes to send first, then the file from here to there."""


def file_answer(request: Request, descriptor: int, sha256: str) -> Response:
    """The answer for an open, checked file; it owns the descriptor."""
    size = os.fstat(descriptor).st_size
    etag = f'"{sha256}"'
    headers = {"ETag": etag, "Cache-Control": FILE_AGE, "Accept-Ranges": "bytes", **SAFE}
    if etag_matches(request.headers.get("if-none-match", ""), etag):
        os.close(descriptor)
        return Response(status_code=304, headers=headers)
    try:
        ranges = _ranges(request, etag, size)
    except Unsatisfiable:
        os.close(descriptor)
        headers["Content-Range"] = f"bytes */{size}"
        return Response(status_code=416, headers={**headers, "Cache-Control": "no-cache"})
    if ranges is None:
        return FileParts(descriptor, 200, {**headers, "Content-Type": WHEEL}, [(b"", 0, size)])
    if len(ranges) == 1:
        start, end = ranges[0]
        headers |= {"Content-Type": WHEEL, "Content-Range": _content_range(start, end, size)}
        return FileParts(descriptor, 206, headers, [(b"", start, end)])
    headers["Content-Type"] = f"multipart/byteranges; boundary={_BOUNDARY}"
    return FileParts(descriptor, 206, headers, _multipart(ranges, size))


def _ranges(request: Request, etag: str, size: int) -> list[tuple[int, int]] | None:
    asked = request.headers.get("range")
    only_if = request.headers.get("if-range")
    if asked is None or (only_if is not None and not etag_matches(only_if, etag, strong=True)):
        return None
    return wanted_ranges(asked, size)


def _content_range(start: int, end: int, size: int) -> str:
    return f"bytes {start}-{end - 1}/{size}"


def _multipart(ranges: Sequence[tuple[int, int]], size: int) -> list[Part]:
    parts: list[Part] = []
    for number, (start, end) in enumerate(ranges):
        before = "" if number == 0 else "\r\n"
        said = f"Content-Type: {WHEEL}\r\nContent-Range: {_content_range(start, end, size)}"
        parts.append((f"{before}--{_BOUNDARY}\r\n{said}\r\n\r\n".encode(), start, end))
    return [*parts, (f"\r\n--{_BOUNDARY}--\r\n".encode(), 0, 0)]


class FileParts(Response):
    """Reads a piece, sends it, and reads the next when the client has taken it; ends when the client goes away."""

    def __init__(self, descriptor: int, status: int, headers: dict[str, str], parts: Sequence[Part]) -> None:
        length = sum(len(text) + end - start for text, start, end in parts)
        super().__init__(status_code=status, headers={**headers, "Content-Length": str(length)})
        self.descriptor = descriptor
        self._parts = parts
        self._identity = identity_of_open(descriptor)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; a HEAD gets the head."""
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await self._send_parts(scope, send, gone)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            os.close(self.descriptor)

    async def _send_parts(self, scope: Scope, send: Send, gone: asyncio.Future[None]) -> None:
        send_piece = self._kernel_piece if ZERO_COPY in scope.get("extensions", {}) else self._read_piece
        for text, start, end in self._parts:
            if text:
                await send({"type": "http.response.body", "body": text, "more_body": True})
            at = start
            while at < end:
                if gone.done():
                    return
                at += await send_piece(send, at, end)

    async def _read_piece(self, send: Send, at: int, end: int) -> int:
        piece = await _read(self.descriptor, min(CHUNK, end - at), at)
        self._check(len(piece))
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        return len(piece)

    async def _kernel_piece(self, send: Send, at: int, end: int) -> int:
        count = min(SLICE, end - at)
        await _in_memory(self.descriptor, count, at)
        self._check(count)
        part = {"file": self.descriptor, "offset": at, "count": count, "more_body": True}
        await send({"type": ZERO_COPY, **part})
        return count

    def _check(self, count: int) -> None:
        if not count or identity_of_open(self.descriptor) != self._identity:
            # What follows was not checked. The client sees an answer that breaks off.
            raise RuntimeError("a wheel changed while it was sent")


async def _read(descriptor: int, size: int, at: int) -> bytes:
    """Bytes of a file: at once where the system has them in memory, else by a thread, which may wait for the disk."""
    await anyio.lowlevel.checkpoint()  # one fast client does not keep the others waiting
    buffer = bytearray(size)
    try:
        count = os.preadv(descriptor, [buffer], at, os.RWF_NOWAIT)
    except OSError:  # not in memory, or a file system that cannot say
        return await anyio.to_thread.run_sync(os.pread, descriptor, size, at)
    return bytes(memoryview(buffer)[:count])


async def _in_memory(descriptor: int, size: int, at: int) -> None:
    """See that the system has a part of a file in memory: sendfile would wait for the disk, and all clients with it."""
    await anyio.lowlevel.checkpoint()
    probe = [bytearray(1)]
    try:
        for place in (*range(at, at + size, CHUNK), at + size - 1):
            os.preadv(descriptor, probe, place, os.RWF_NOWAIT)
    except OSError:
        await anyio.to_thread.run_sync(_read_through, descriptor, size, at)


def _read_through(descriptor: int, size: int, at: int) -> None:
    for place in range(at, at + size, CHUNK):
        os.pread(descriptor, min(CHUNK, at + size - place), place)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
