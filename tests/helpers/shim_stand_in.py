"""A shim in Python, for tests of the broker: ``SOCKET TOKEN KIND NAME KEY THREADS -- COMMAND``.

Stands for ``csrc/shim`` with its protocol and nothing else: it connects again when the broker is lost, but does not
start one. With STUBBORN set it does not obey. Its standard output says what it was told.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from buildkit.guard.unit_sampling import kill_tree
from buildkit.guard.wire import Lines, Message, encode


class Shim:
    """One unit."""

    def __init__(self, words: list[str]) -> None:
        self.path, self.token, self.kind, self.name, self.key, self.threads, _, *self.command = words
        self.child = 0
        self.status: int | None = None
        self.obeying = False
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.wakeup = reading
        self.endpoint = self.register()

    def register(self) -> socket.socket:
        self.lines = Lines()
        endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        while endpoint.connect_ex(self.path):
            time.sleep(0.02)
        running = {"running": self.child} if self.child else {}
        said = {"kind": self.kind, "name": self.name, "key": self.key, "threads": self.threads, **running}
        endpoint.sendall(encode("unit", v=1, token=self.token, cwd="/", pid=os.getpid(), **said))
        return endpoint

    def run(self) -> int:
        with selectors.DefaultSelector() as selector:
            selector.register(self.endpoint, selectors.EVENT_READ)
            selector.register(self.wakeup, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd == self.wakeup:
                        os.read(self.wakeup, 100)
                        self.reap()
                        continue
                    code = self.listen(selector)
                    if code is not None:
                        return code

    def listen(self, selector: selectors.BaseSelector) -> int | None:
        try:
            chunk = self.endpoint.recv(4096)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            selector.unregister(self.endpoint)
            self.endpoint.close()
            self.endpoint = self.register()
            selector.register(self.endpoint, selectors.EVENT_READ)
        for message in self.lines.feed(chunk):
            code = self.hear(message)
            if code is not None:
                return code
        return None

    def hear(self, message: Message) -> int | None:
        sys.stdout.write(f"{message.verb}{message.text('threads')}\n")
        sys.stdout.flush()
        if message.verb == "go":
            self.child = os.posix_spawn(self.command[0], self.command, os.environ)
            self.endpoint.sendall(encode("started", pid=self.child))
        elif message.verb == "kill" and self.child and "STUBBORN" not in os.environ:
            self.obeying = True
            kill_tree(os.getpid())
        elif message.verb == "done":
            return 0 if self.status is None else os.waitstatus_to_exitcode(self.status)
        elif message.verb == "fail":
            sys.stderr.write(message.text("text"))
            return 137
        return None

    def reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid != self.child:
                return
            self.child, self.status = 0, status
            code = os.waitstatus_to_exitcode(status)
            if self.obeying:
                self.obeying = False
                self.endpoint.sendall(encode("killed"))
                return
            answer = encode(
                "ended",
                code=max(code, 0),
                signal=max(-code, 0),
                maxrss=usage.ru_maxrss * 1024,
                cpu=usage.ru_utime + usage.ru_stime,
            )
            self.endpoint.sendall(answer)


if __name__ == "__main__":
    sys.exit(Shim(sys.argv[1:]).run())
