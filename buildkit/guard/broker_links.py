"""The broker's connections: who is at the other end, what they say, what waits to be sent to them."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable

from buildkit.guard.wire import BadMessage, Lines, Message, encode

_CREDENTIALS = struct.Struct("3i")
_MOST_UNSENT = 8 << 20
"""Bytes that wait for a client that does not read; then it is taken for dead."""


class Refused(Exception):
    """A peer that is not this user."""


class Connection:
    """One accepted socket. ``wants`` is told when something waits to be sent (True) or nothing does any more."""

    def __init__(self, endpoint: socket.socket, wants: Callable[[Connection, bool], None]) -> None:
        raw = endpoint.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.pid, uid, _ = _CREDENTIALS.unpack(raw)
        if uid != os.getuid():
            raise Refused(f"a process of user {uid}")
        endpoint.setblocking(False)
        self.endpoint = endpoint
        self.closed = False
        self.closing = False
        self.failed = False
        self._wants = wants
        self._lines = Lines()
        self._unsent = b""

    def send(self, verb: str, **values: object) -> None:
        """Queue one message, and send what can be sent at once."""
        if self.closed or self.closing or self.failed:
            return
        waiting = bool(self._unsent)
        self._unsent += encode(verb, **values)
        if not waiting:
            self.flush()
        self.failed = self.failed or len(self._unsent) > _MOST_UNSENT

    def flush(self) -> None:
        """Send what waits."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self.endpoint.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.failed = True
            self._unsent = b""
        self._wants(self, bool(self._unsent))
        if self.closing and not self._unsent:
            self.shut()

    def read(self) -> list[Message] | None:
        """What has come; None at the end. Raises BadMessage."""
        try:
            chunk = self.endpoint.recv(1 << 16)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not chunk:
            return None
        return self._lines.feed(chunk)

    def close(self) -> None:
        """Close once everything queued is sent."""
        self.closing = True
        if not self._unsent:
            self.shut()

    def shut(self) -> None:
        """Let the other end see the end now; the loop takes this one out when it sees its own."""
        with contextlib.suppress(OSError):
            self.endpoint.shutdown(socket.SHUT_RDWR)


__all__ = ["BadMessage", "Connection", "Message", "Refused"]
