"""Locks between processes: flock on a file, so that they end with the process that holds them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from buildkit.errors import StoreError
from buildkit.store.disk import disk_causes, make_folder, write_all

POLL = 0.1
"""Seconds between two tries."""
TELL_EVERY = 1.0
"""Seconds between two calls of a waiting callback."""

OnWait = Callable[[], None]
"""Called while another process has the lock; :func:`holder_of` says which."""

_TAKEN = {errno.EWOULDBLOCK, errno.EACCES}
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class LockBusy(StoreError):
    """Somebody else still holds the lock after the time allowed."""

    kind = "lock-busy"


def tell_nobody() -> None:
    """Tell nobody about the waiting."""


def once(say: OnWait) -> OnWait:
    """Say something at the first of many occasions."""
    said: list[bool] = []

    def first() -> None:
        if not said:
            said.append(True)
            say()

    return first


@contextlib.contextmanager
def file_lock(
    path: Path, *, shared: bool = False, on_wait: OnWait = tell_nobody, patience: float | None = None
) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs.

    ``on_wait`` is called when the wait begins and every second after it. ``patience`` is the longest wait
    in seconds (None: as long as it takes), after which LockBusy is raised. The file stays: removing it
    would let two processes hold locks on two files of one name.
    """
    with disk_causes(path.parent):
        make_folder(path.parent)
        # Not inheritable (PEP 446): a child that outlives us must not keep the lock.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _acquire(descriptor, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, on_wait, patience)
        if not shared:
            _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, kind: int, on_wait: OnWait, patience: float | None) -> None:
    started = time.monotonic()
    told = -TELL_EVERY
    while not _try(descriptor, path, kind):
        waited = time.monotonic() - started
        if patience is not None and waited >= patience:
            raise LockBusy(f"{path} is held by {holder_of(path) or 'another process'}", hint="try again in a while")
        if waited - told >= TELL_EVERY:
            told = waited
            on_wait()
        time.sleep(POLL)


def _try(descriptor: int, path: Path, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno in _NO_LOCKS:
            raise StoreError(
                f"the file system of {path.parent} has no locks",
                evidence=str(error),
                hint="set CUDABUILD_CACHE to a folder on a local disk (or mount the share with locks)",
            ) from error
        raise StoreError(f"{path} cannot be locked", evidence=str(error)) from error
    return True


def _sign(descriptor: int) -> None:
    """Say in the file who holds it; only for messages, so a full disk is no reason to fail."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        write_all(descriptor, f"process {os.getpid()} on {os.uname().nodename}".encode())


def holder_of(path: Path) -> str:
    """Who signed the lock file last."""
    try:
        return path.read_bytes()[:200].decode("utf-8", "replace")
    except OSError:
        return ""
