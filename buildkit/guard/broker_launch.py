"""Becoming the broker: in the background, the only one, listening before the rest of it is even loaded.

Whoever starts a broker waits until it listens, so this module loads little.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import socket
import time
from pathlib import Path

SOCKET = "broker.sock"
GRACE = 5.0
"""Seconds after the broker's start in which units may come before their build: all register anew after a restart."""


def take_over(folder: Path) -> tuple[socket.socket, int] | None:
    """The listening socket and the lock, if no other broker serves there."""
    lock = os.open(folder / "broker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + 3.0
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if _answers(folder) or time.monotonic() > deadline:
                os.close(lock)
                return None
            time.sleep(0.01)  # the one that is ending, or another that is about to serve
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    draft = folder / f".{os.getpid()}.sock"
    draft.unlink(missing_ok=True)
    listener.bind(str(draft))
    listener.listen(512)
    listener.setblocking(False)
    draft.replace(folder / SOCKET)  # there is never a socket without a listener
    return listener, lock


def _answers(folder: Path) -> bool:
    """Whether somebody listens at the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as endpoint:
        try:
            endpoint.connect(str(folder / SOCKET))
        except OSError:
            return False
    return True


def main(arguments: list[str]) -> int:
    """Be the broker, in the background; the caller goes on when it serves. 1 where none could be started.

    Arguments: the folder, and the seconds in which units may come before their build.
    """
    os.umask(0o077)
    if arguments:
        folder = Path(arguments[0])
    else:
        from buildkit.guard.broker_place import broker_folder

        folder = broker_folder(os.environ)
    grace = float(arguments[1]) if len(arguments) > 1 else GRACE
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        os.wait()
        return 0 if os.read(reading, 1) else 1
    os.close(reading)
    os.setsid()
    if os.fork():
        os._exit(0)
    _leave_everything(writing, folder)
    taken = take_over(folder)
    os.write(writing, b"1")
    os.close(writing)
    if taken is not None:
        from buildkit.guard.broker import serve

        listener, _lock = taken
        serve(listener, grace)
        # Clients that come from here on find nothing, and start another: it waits for the lock, which ends with us.
        (folder / SOCKET).unlink(missing_ok=True)
    os._exit(0)


def _leave_everything(kept: int, folder: Path) -> None:
    """No folder, terminal or file of whoever started this; what goes wrong is written beside the socket."""
    os.chdir("/")
    log = os.open(folder / "broker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDWR)
    for number, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, number)
    for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if number > 2 and number != kept:
            with contextlib.suppress(OSError):
                os.close(number)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each unit is a connection
