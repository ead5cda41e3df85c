"""An index that only those may read who have a token; as a layer around the application."""

from __future__ import annotations

import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from buildkit.errors import ConfigError
from buildkit.index.refused import Refused
from buildkit.index.tokens import Tokens

LOG = logging.getLogger("cudabuild.index")


class ReadersOnly:
    """Lets pass what bears a known token. Uploads say themselves what they need."""

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http" or scope["method"] == "POST":
            await self._app(scope, receive, send)
            return
        try:
            self._tokens.allowed(Headers(scope=scope).get("authorization"), "read")
        except Refused as error:
            headers = {**error.headers, "Cache-Control": "no-store"}
            await PlainTextResponse(error.text + "\n", error.status, headers=headers)(scope, receive, send)
            return
        except ConfigError as error:
            LOG.error("nobody may read: %s; %s", error.message, error.hint)
            text = "the index's file of tokens cannot be used: its log says why\n"
            await PlainTextResponse(text, 503, headers={"Cache-Control": "no-store"})(scope, receive, send)
            return

        async def privately(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                # Proxies on the way must not keep for everybody what was given to one.
                kept = headers.get("cache-control", "").removeprefix("public, ")
                headers["Cache-Control"] = f"private, {kept}" if kept else "private"
            await send(message)

        await self._app(scope, receive, privately)
