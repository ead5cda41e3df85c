"""Asking the broker how things are. Never starts one, and does not keep one alive."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from buildkit.guard.broker_launch import SOCKET
from buildkit.guard.wire import VERSION, BadMessage, Lines, Message, encode

PATIENCE = 2.0
"""Seconds that an answer may take."""


@dataclass(frozen=True)
class PoolView:
    """Memory that several units share (bytes): ``budget`` is what units may hold there in all."""

    name: str
    source: str
    limit: int
    available: int
    budget: int


@dataclass(frozen=True)
class UnitView:
    """One compilation. ``seconds``: how long it has run, or waited. Sizes in bytes."""

    name: str
    kind: str
    state: Literal["waiting", "running"]
    seconds: float
    usage: int
    peak: int
    bound: int
    strikes: int


@dataclass(frozen=True)
class BuildView:
    """One build that is registered. ``done`` and ``killed`` count compilations, ``pid`` is cudabuild's."""

    id: str
    package: str
    pid: int
    seconds: float
    jobs: int
    usage: int
    budget: int
    done: int
    killed: int
    units: tuple[UnitView, ...] = ()


@dataclass(frozen=True)
class BrokerView:
    """What the broker of this machine and user has now."""

    pid: int
    pools: tuple[PoolView, ...]
    builds: tuple[BuildView, ...]


def view_broker(folder: Path) -> BrokerView | None:
    """The broker that serves in a folder; None where there is none, or where it does not answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as endpoint:
            endpoint.settimeout(PATIENCE)
            endpoint.connect(str(folder / SOCKET))
            endpoint.sendall(encode("status", v=VERSION))
            return _understood(list(_answer(endpoint)))
    except (OSError, BadMessage):
        return None


def _answer(endpoint: socket.socket) -> Iterator[Message]:
    """Its messages, up to the last one. Raises ConnectionError where that does not come."""
    lines = Lines()
    while chunk := endpoint.recv(1 << 16):
        for message in lines.feed(chunk):
            if message.verb == "end":
                return
            yield message
    raise ConnectionError("the broker ended in the middle of its answer")


def _understood(messages: list[Message]) -> BrokerView | None:
    """Raises BadMessage for numbers that are none."""
    pid = 0
    pools: list[PoolView] = []
    builds: dict[int, BuildView] = {}
    for message in messages:
        if message.verb == "broker":
            pid = message.number("pid")
        elif message.verb == "pool":
            sizes = (message.number(key) for key in ("limit", "available", "budget"))
            pools.append(PoolView(message.text("name"), message.text("source"), *sizes))
        elif message.verb == "build":
            builds[message.number("build")] = _build(message)
        elif message.verb == "unit" and (build := builds.get(message.number("build"))):
            builds[message.number("build")] = replace(build, units=(*build.units, _unit(message)))
    return BrokerView(pid, tuple(pools), tuple(builds.values())) if pid else None


def _build(message: Message) -> BuildView:
    return BuildView(
        id=message.text("id"),
        package=message.text("package"),
        pid=message.number("pid"),
        seconds=message.seconds("seconds"),
        jobs=message.number("jobs"),
        usage=message.number("usage"),
        budget=message.number("budget"),
        done=message.number("done"),
        killed=message.number("killed"),
    )


def _unit(message: Message) -> UnitView:
    return UnitView(
        name=message.text("name"),
        kind=message.text("kind"),
        state="waiting" if message.text("state") == "waiting" else "running",
        seconds=message.seconds("seconds"),
        usage=message.number("usage"),
        peak=message.number("peak"),
        bound=message.number("bound"),
        strikes=message.number("strikes"),
    )
