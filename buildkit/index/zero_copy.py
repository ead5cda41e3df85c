"""Files that the kernel sends (sendfile(2)) under uvicorn: ASGI's extension ``http.response.zerocopysend``.

A piece that Python reads is copied four times before it is on its way. This offers the application the extension that
ASGI has for that (https://asgi.readthedocs.io/en/latest/extensions.html#zero-copy-send), which uvicorn lacks. h11 is
told of the length alone, as its documentation of sendfile says. Not for TLS, whose bytes the kernel does not have.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from buildkit.index.sending import ZERO_COPY

_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]


class _Length:
    """Stands for bytes that h11 counts and never sees."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


class FileProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with the extension, on connections without TLS."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Offer the extension to what is asked on this connection."""
        super().connection_made(transport)
        self._ended = self.loop.create_future()
        if self.scheme == "http":
            self.app = cast("Any", _Offering(self.app, self))

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, by us or by the client."""
        super().connection_lost(exc)
        self._ended.set_result(None)

    async def send_file(self, descriptor: int, offset: int, count: int) -> None:
        """Send a part of a file as a part of the body. A client that went away is not an error; a file's end is."""
        await self.flow.drain()
        if self.transport.is_closing():
            return
        self.conn.send_with_data_passthrough(h11.Data(data=cast("Any", _Length(count))))
        with io.FileIO(descriptor, closefd=False) as file:
            file.seek(offset)  # where the kernel cannot send this file, asyncio reads it from here
            try:
                sent = await self.loop.sendfile(self.transport, cast("Any", file), offset, count)
            except OSError:
                self.transport.abort()  # uvicorn does not read while a file is sent, and has not seen that it went
                await self._ended
                return
        if sent != count:
            raise RuntimeError("a file ended while it was sent")


class _Offering:
    """An application with the extension in its scope."""

    def __init__(self, app: Any, protocol: FileProtocol) -> None:
        self._app = app
        self._protocol = protocol

    async def __call__(self, scope: _Message, receive: Callable[[], Awaitable[_Message]], send: _Send) -> None:
        async def send_or_file(message: _Message) -> None:
            if message["type"] == ZERO_COPY:
                await self._protocol.send_file(message["file"], message["offset"], message["count"])
            else:
                await send(message)

        if scope["type"] == "http":
            scope["extensions"] = {**scope.get("extensions", {}), ZERO_COPY: {}}
        await self._app(scope, receive, send_or_file)
