"""Who gets in: one layer around the whole application, in front of API, pages and index.

Host and Origin are checked everywhere, on loopback too: a page of some other site that a person has open may make
their browser ask here, and a name that leads to 127.0.0.1 may make it believe that this is that site's own.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from buildkit.errors import ConfigError
from buildkit.index.refused import Refused
from buildkit.index.tokens import Scope as Right
from buildkit.index.tokens import Tokens
from buildkit.service.problems import problem

LOG = logging.getLogger("cudabuild.service")
POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""For answers that bring none of their own: nothing is loaded, run or framed."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
OPEN = frozenset({"/healthz", "/readyz"})
"""What says nothing but whether it is up."""
_PASSED_ON = ("forwarded", "via", "x-forwarded-for", "x-real-ip")
"""Headers of proxies (RFC 7239, RFC 9110 7.6.3, nginx): who asks is not a person of this machine then."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_BURST = 10.0
"""Seconds of its rate that a client may use at once."""
_WRONG_RATE, _WRONG_BURST = 0.2, 20.0
"""Wrong tokens a second and address, and at once."""
_MOST_CLIENTS = 10_000


@dataclass(frozen=True)
class Who:
    """Who asks: the name of a token, or ``local`` for a person of this machine."""

    name: str
    admin: bool = False


@dataclass(frozen=True)
class Policy:
    """Whom the gate lets in. ``hosts`` are names of this server, in lower case, without ports."""

    tokens: Tokens
    guarded: frozenset[Right]
    """What needs a token; for all else people need none, but to do what an admin may."""
    hosts: frozenset[str]
    any_address: bool = False
    """Whether any IP address will do as a host: where others than this machine reach it, by addresses unknown here."""
    rate: int = 200
    body_limit: int = 1 << 20


class Buckets:
    """Token buckets by client; those that were not used for longest are forgotten first."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> bool:
        """Whether this client may have one more now."""
        now = time.monotonic()
        left, then = self._known.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        self._known[client] = (left - 1 if left >= 1 else left, now)
        if len(self._known) > _MOST_CLIENTS:
            self._known.popitem(last=False)
        return left >= 1


class Gate:
    """The layer."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app, self._policy = app, policy
        self._rates = Buckets(policy.rate, policy.rate * _BURST)
        self._wrong = Buckets(_WRONG_RATE, _WRONG_BURST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on with ``scope["state"]["who"]``."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        sender = _dressed(send)
        try:
            scope.setdefault("state", {})["who"] = self._judge(scope)
            receive = await self._body(scope, receive)
        except Refused as error:
            LOG.info("refused", extra={"facts": _facts(scope, error.status, error.text)})
            await _refusal(scope, error)(scope, receive, sender)
            return
        await self._app(scope, receive, sender)

    def _judge(self, scope: Scope) -> Who:
        """Who asks. Raises Refused."""
        headers = Headers(scope=scope)
        self._check_host(headers)
        _check_origin(headers, scope["method"])
        who = self._who(scope, headers)
        client = who.name if who.name != "local" else _address(scope)
        if route_path(scope) not in OPEN and not self._rates.take(client):
            raise Refused(429, "too many requests: wait a moment", {"Retry-After": "1"})
        return who

    def _check_host(self, headers: Headers) -> None:
        named = headers.getlist("host")
        host = _host(named[0]) if len(named) == 1 else None
        if host is None:
            raise Refused(400, "the request has no Host that can be read")
        if host in self._policy.hosts or (self._policy.any_address and _is_address(host)):
            return
        text = f"this server is not {host[:100]}"
        raise Refused(421, f"{text}: its operator names its hosts with --host-name")

    def _who(self, scope: Scope, headers: Headers) -> Who:
        """By its token; without one a person of this machine, where that will do."""
        right = needed(scope["method"], route_path(scope))
        bears = headers.get("authorization")
        if right is not None and not bears and not self._policy.any_address and _passed_on(headers):
            text = "a proxy brings people of other machines here, for whom this server was not started"
            raise Refused(403, f"{text}: its operator names it with --host-name, and they get tokens")
        if right is None or (not bears and right not in self._policy.guarded):
            return Who("local")
        if len(headers.getlist("authorization")) > 1:
            raise Refused(400, "the request has two Authorization headers")
        try:
            token = self._policy.tokens.allowed(bears, right)
        except Refused as error:
            if error.status == 401 and bears and not self._wrong.take(_address(scope)):
                raise Refused(429, "too many wrong tokens: wait a moment", {"Retry-After": "5"}) from None
            raise
        except ConfigError as error:
            LOG.error("nobody gets in: %s; %s", error.message, error.hint)
            raise Refused(503, "the service's file of tokens cannot be used: its log says why") from None
        return Who(token.name, token.may("admin"))

    async def _body(self, scope: Scope, receive: Receive) -> Receive:
        """The body at once, where it is not an upload. Raises Refused for one that is too large."""
        if scope["method"] in _SAFE or is_upload(route_path(scope)):
            return receive
        limit = self._policy.body_limit
        said = Headers(scope=scope).get("content-length", "0")
        if not said.isdigit() or len(said) > 15 or int(said) > limit:
            raise Refused(413, f"the body may have {limit} bytes")
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return receive
            body += message.get("body", b"")
            if len(body) > limit:
                raise Refused(413, f"the body may have {limit} bytes")
            if not message.get("more_body"):
                return _replayed(body, receive)


def route_path(scope: Scope) -> str:
    """A request's path without the prefix that a proxy in front has taken off, and the server put back."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path


def is_upload(path: str) -> bool:
    """Whether it is a path of the index's, which judges by itself who may send what there."""
    return path.endswith("/legacy/") or path.startswith("/api/v1/verdicts/")


def needed(method: str, path: str) -> Right | None:
    """The scope of a token that a request needs; None where it needs none, or the index asks by itself."""
    if path in OPEN or (method not in _SAFE and is_upload(path)):
        return None
    return "read" if method in _SAFE else "build"


def _check_origin(headers: Headers, method: str) -> None:
    """A browser says which page makes it ask: only this server's own may."""
    for origin in headers.getlist("origin"):
        try:
            own = urlsplit(origin).netloc.lower() == headers["host"].lower() and origin != "null"
        except ValueError:
            own = False
        if not own:
            raise Refused(403, "a page of another site may not ask here")
    if method not in _SAFE and headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Refused(403, "a page of another site may not ask here")


def _passed_on(headers: Headers) -> bool:
    return any(name in headers for name in _PASSED_ON)


def _host(text: str) -> str | None:
    """A Host header's name without its port, in lower case; None where it is none."""
    try:
        parts = urlsplit(f"//{text}")
        if parts.netloc != text or "@" in text or not parts.hostname:
            return None
        _ = parts.port  # raises ValueError
        return parts.hostname.rstrip(".")
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body again, and then what really comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _refusal(scope: Scope, error: Refused) -> Response:
    headers = {**error.headers, "Cache-Control": "no-store"}
    if route_path(scope).startswith("/api/"):
        hint = "cudabuild login URL   (or a token in CUDABUILD_TOKEN)" if error.status == 401 else ""
        return problem(error.status, error.text, hint=hint, headers=headers)
    return PlainTextResponse(error.text + "\n", error.status, headers=headers)


def _dressed(send: Send) -> Send:
    """Adds what every answer has, where it has none of its own."""

    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in {**HEADERS, "Content-Security-Policy": POLICY}.items():
                headers.setdefault(name, value)
        await send(message)

    return dressed


def _facts(scope: Scope, status: int, text: str) -> dict[str, object]:
    return {
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "why": text,
        "client": _address(scope),
    }
