"""The broker: one process per machine and user that lets compilations start as memory allows.

``python -m buildkit.guard.broker FOLDER`` returns once a broker serves at FOLDER/broker.sock (this one, or another
that was there). It belongs to no build: own session, no parent, no environment. It ends when its last client has gone.
"""

from __future__ import annotations

import errno
import resource
import selectors
import socket
import sys
import time

from buildkit.guard.broker_desk import Desk
from buildkit.guard.broker_launch import main
from buildkit.guard.broker_links import BadMessage, Connection, Message, Refused
from buildkit.guard.broker_saver import Saver

LINGER = 0.5
"""Seconds without a client after which the broker ends."""
_TELL_EVERY = 0.25  # seconds between two reports on memory to the builds
_SILENT = 5.0  # seconds in which a connection must say who it is
_SPARE = 64  # descriptors that are left for everything but connections
_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Broker:
    """The loop around the desk."""

    def __init__(self, listener: socket.socket, grace: float) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._listening = True
        self._room = max(_SPARE // 4, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE)
        self._links: dict[Connection, float] = {}
        self._saver = Saver()
        now = time.monotonic()
        self._desk = Desk(self._saver.changed, now, grace)
        self._alone_since = now
        self._over = False
        self._linger = 3 * LINGER  # whoever started this needs a moment
        self._next_look = self._told = now

    def serve(self) -> None:
        """Until the last client has gone."""
        while not self._done():
            events = self._selector.select(self._patience())
            for key, mask in events:
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._serve(key.data, mask)
            self._turn(bool(events))
        self._saver.finish()

    def _done(self) -> bool:
        served = not all(link.closing for link in self._links)  # whoever only asked how things are is not waited for
        return self._over or (not served and time.monotonic() - self._alone_since >= self._linger)

    def _busy(self) -> bool:
        return bool(self._desk.core.units)

    def _patience(self) -> float | None:
        now = time.monotonic()
        if self._busy():
            return max(0.0, self._next_look - now)
        if not self._links:
            return max(0.0, self._alone_since + self._linger - now)
        return 0.5

    def _turn(self, heard: bool) -> None:
        """Look when it is time; decide then and whenever somebody has said something."""
        now = time.monotonic()
        core = self._desk.core
        if now >= self._next_look:
            core.look(now)
            core.ease(now)
            self._desk.refresh(now)
            self._next_look = now + core.pause(now, time.monotonic() - now)
            core.schedule(now)
        elif heard and self._busy():
            core.read_pools(now)
            core.schedule(now)
        if self._busy() and now - self._told >= _TELL_EVERY:
            self._told = now
            core.report(now)
        self._saver.turn(now)
        for link, since in list(self._links.items()):
            if link.failed or (now - since > _SILENT and not self._desk.knows(link)):
                self._drop(link)

    def _accept(self) -> None:
        """Take what stands at the door. Where there is no room it stays there, until somebody has left."""
        try:
            endpoint, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in _FULL or not self._links:
                raise
            self._listen(False)
            return
        try:
            link = Connection(endpoint, self._wants)
        except Refused:
            endpoint.close()
            return
        self._links[link] = time.monotonic()
        self._selector.register(endpoint, selectors.EVENT_READ, link)
        self._listen(len(self._links) < self._room)

    def _listen(self, wanted: bool) -> None:
        if wanted != self._listening:
            self._listening = wanted
            if wanted:
                self._selector.register(self._listener, selectors.EVENT_READ)
            else:
                self._selector.unregister(self._listener)

    def _wants(self, link: Connection, writing: bool) -> None:
        if not link.closed and link in self._links:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
            self._selector.modify(link.endpoint, events, link)

    def _serve(self, link: Connection, mask: int) -> None:
        if link.closed:
            return
        if mask & selectors.EVENT_WRITE:
            link.flush()
        if not mask & selectors.EVENT_READ:
            return
        try:
            messages = link.read()
            for message in messages or []:
                if message.verb == "bye":
                    messages = self._farewell(link)
                    break
                self._desk.hear(link, message, time.monotonic())
                self._linger = LINGER
        except BadMessage as error:
            link.send("fail", text=f"not the broker's protocol: {error}")
            messages = None
        if messages is None:
            self._drop(link)

    def _farewell(self, link: Connection) -> list[Message] | None:
        """What its units have said before is heard first. The last one's connection stays open: when it sees the end
        of it, this process has ended."""
        for other in [other for other in self._links if other is not link]:
            self._serve(other, selectors.EVENT_READ)
            self._serve(other, selectors.EVENT_READ)  # the end, after the last words
        if any(self._desk.knows(other) for other in self._links if other is not link):
            return None
        self._over = True
        self._desk.lost(link, time.monotonic())
        return []

    def _drop(self, link: Connection) -> None:
        """A connection that never said who it was does not lengthen the broker's life."""
        if not link.closed:
            link.closed = True
            self._selector.unregister(link.endpoint)
            link.endpoint.close()
            self._links.pop(link, None)
            self._listen(True)
            now = time.monotonic()
            if self._desk.knows(link):
                self._alone_since = now
            self._desk.lost(link, now)


def serve(listener: socket.socket, grace: float) -> None:
    """Be the broker until the last client has gone."""
    Broker(listener, grace).serve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
