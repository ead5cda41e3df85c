"""Following a build on a server: server-sent events, taken up again at the byte where a connection broke."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from buildkit.cli.client_http import API, Lost, Server, check_schema, not_ours
from buildkit.errors import CudabuildError
from buildkit.input_errors import ServerUnreachable

LONGEST_LINE = 16 << 20
"""Bytes of a line of the protocol, at most: a server sends 32 KiB of the log in one."""
PATIENCE = 300.0
"""Seconds for which a server that does not answer is asked again: it may be started anew."""
_NUMBER = re.compile(r"[0-9]{1,18}")
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
_LASTING = 30.0
"""Seconds after which a connection that still gives signs was a good one: a build may wait in silence for hours."""


@dataclass(frozen=True)
class Event:
    """One event; ``number`` is the byte of the log that comes next."""

    name: str
    data: Any
    number: int | None


@dataclass
class Following:
    """What is done with what comes, and where in the log one is."""

    status: Callable[[dict[str, Any]], None] = lambda _value: None
    log: Callable[[bytes], None] = lambda _data: None
    restart: Callable[[], None] = lambda: None
    at: int = 0
    last: dict[str, Any] = field(default_factory=dict)
    """The build's object as it was told last."""
    heard: float = 0.0
    """When something came last (monotonic seconds)."""


def follow(server: Server, build: str, following: Following) -> dict[str, Any]:
    """Until the build has ended; its object. Raises ServerUnreachable where the server stays away, and causes."""
    silent_since, tries = time.monotonic(), 0
    while True:
        before, began = following.at, time.monotonic()
        try:
            if _connection(server, build, following):
                return following.last
            lost: CudabuildError = ServerUnreachable(f"{server.url} ended the connection")  # it is being ended itself
        except ServerUnreachable as error:
            lost = error
        if following.at > before or following.heard - began > _LASTING:
            silent_since, tries = following.heard, 0
        if time.monotonic() - silent_since > PATIENCE:
            lost.hint = f"the build goes on: cudabuild --server {server.url} log {build} --follow"
            raise lost
        time.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
        tries += 1


def _connection(server: Server, build: str, following: Following) -> bool:
    """One connection, up to its end; whether the build has ended."""
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if following.at:
        headers["Last-Event-ID"] = str(following.at)
    with server.open(f"{API}/builds/{build}/events", headers) as response:
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise not_ours(server.url, response.headers.get("content-type", ""))
        for event in events_of(_heard(response.iter_bytes(), following), server.url):
            if _take(event, following, server.url):
                return True
    return False


def _heard(pieces: Iterable[bytes], following: Following) -> Iterator[bytes]:
    for piece in pieces:
        following.heard = time.monotonic()
        yield piece


def _take(event: Event, following: Following, url: str) -> bool:
    if event.name == "log" and isinstance(event.data, str) and event.number is not None:
        piece = event.data.encode("utf-8", "surrogateescape")
        if event.number - len(piece) != following.at:
            raise Lost(url, ValueError("a piece of the log is missing"))
        following.at = event.number
        following.log(piece)
    elif event.name == "restart":
        following.at = 0
        following.restart()
    elif event.name in {"status", "end"} and isinstance(event.data, dict):
        check_schema(event.data, url)
        following.last = event.data
        following.status(event.data)
        return event.name == "end"
    return False  # what a newer server tells besides


def events_of(pieces: Iterable[bytes], url: str) -> Iterator[Event]:
    """The events in a stream of bytes. What is cut at its end is dropped, as the format says."""
    fields: dict[str, list[str]] = {}
    for line in _lines(pieces, url):
        if line:
            name, _, value = line.decode("utf-8", "replace").partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
            continue
        if "data" in fields:
            yield _event(fields, url)
        fields = {}


def _event(fields: dict[str, list[str]], url: str) -> Event:
    text = "\n".join(fields["data"])
    number = fields.get("id", [""])[-1]
    try:
        data = json.loads(text)
    except ValueError:
        raise not_ours(url, text) from None
    return Event(fields.get("event", ["message"])[-1], data, int(number) if _NUMBER.fullmatch(number) else None)


def _lines(pieces: Iterable[bytes], url: str) -> Iterator[bytes]:
    """Lines that are complete."""
    rest = b""
    for piece in pieces:
        rest += piece
        if len(rest) > LONGEST_LINE:
            raise Lost(url, ValueError("a line of its answer is too long"))
        *lines, rest = rest.split(b"\n")
        yield from (line.removesuffix(b"\r") for line in lines)
