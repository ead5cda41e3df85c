"""A broker of a few lines that says what a test tells it to: the protocol, without any schedule."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from pathlib import Path

from buildkit.guard.wire import Lines, Message, encode


class Peer:
    """One connection of a shim."""

    def __init__(self, endpoint: socket.socket) -> None:
        self.endpoint = endpoint
        self._lines = Lines()
        self._heard: list[Message] = []

    def hear(self, verb: str | None = None, timeout: float = 10.0) -> Message:
        """The next message; of this verb, if one is given."""
        self.endpoint.settimeout(timeout)
        while not self._heard:
            chunk = self.endpoint.recv(1 << 16)
            assert chunk, f"the shim hung up, {verb} was expected"
            self._heard += self._lines.feed(chunk)
        message = self._heard.pop(0)
        assert verb in {None, message.verb}, message
        return message

    def say(self, verb: str, **values: object) -> None:
        """Send one message."""
        self.endpoint.sendall(encode(verb, **values))

    def hung_up(self, timeout: float = 10.0) -> bool:
        """Whether the shim has closed its end."""
        self.endpoint.settimeout(timeout)
        return self.endpoint.recv(1 << 16) == b""


class StubBroker:
    """Listens at a socket; each shim that comes is in ``peers``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._peers: queue.Queue[Peer] = queue.Queue()
        self._all: list[Peer] = []
        self.open_door = False
        """Whether everybody is told to go, and nobody is given to the test."""
        self.units: list[Message] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                endpoint, _ = self._listener.accept()
            except OSError:
                return
            peer = Peer(endpoint)
            self._all.append(peer)
            if self.open_door:
                threading.Thread(target=self._let_through, args=(peer,), daemon=True).start()
            else:
                self._peers.put(peer)

    def _let_through(self, peer: Peer) -> None:
        try:
            self.units.append(peer.hear("unit", timeout=60.0))
            peer.say("queued")
            peer.say("go")
            while True:
                if peer.hear(timeout=600.0).verb == "ended":
                    peer.say("done")
        except (OSError, AssertionError):
            return

    def next(self, timeout: float = 10.0) -> Peer:
        """The next shim that has come."""
        return self._peers.get(timeout=timeout)

    def close(self) -> None:
        """Die as a killed broker does: its connections end, its socket stays."""
        with contextlib.suppress(OSError):  # a test has closed it already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self._all:
            peer.endpoint.close()


def short_folder(base: str = "/tmp") -> Path:
    """A private folder whose path is short enough for a socket."""
    import tempfile

    return Path(tempfile.mkdtemp(prefix=f"shim-{os.getpid()}-", dir=base))
