"""What a command uses of a cache: a shared lock on each thing, held until its process ends, however it ends.

Whoever clears the cache takes the same lock for himself, and keeps what he does not get. The time of the lock file is
that of the last use. A cache that cannot be written to, or whose file system has no locks, is not cleared either, so
there nothing needs to be held.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

_HELD: dict[Path, int] = {}
"""What this process holds: lock files and stored files, with their descriptors."""
_FLOCK = re.compile(r"FLOCK\s+\S+\s+\S+\s+(?P<pid>\d+)\s+[0-9a-f]+:[0-9a-f]+:(?P<inode>\d+)\s", re.IGNORECASE)


class InUse(Exception):
    """Somebody uses it; the text says who."""


def lock_file(folder: Path, thing: Path) -> Path:
    """The lock of one thing (``torch/cp311-torch-2.13.0``) in the cache's folder of such locks."""
    return folder / f"{thing.parent.name}-{thing.name}.lock"


def hold(folder: Path, thing: Path) -> None:
    """Keep a thing, there already or still to be made, from being cleared until this process ends."""
    path = lock_file(folder, thing)
    if path in _HELD:
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # at most as long as a folder's renaming takes
            _HELD[path] = descriptor
            os.utime(path)
        finally:
            if path not in _HELD:
                os.close(descriptor)


def hold_file(path: Path) -> bool:
    """The same for a stored file, on the file itself, so that reading writes nothing. False where it is not there."""
    held = _HELD.pop(path, None)
    if held is not None:
        if _is(held, path):
            _HELD[path] = held
            return True
        os.close(held)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    if not _is(descriptor, path):
        os.close(descriptor)
        return False
    _HELD[path] = descriptor
    return True


def let_go() -> None:
    """Give up all that this process holds; for one that does several commands' work after another."""
    while _HELD:
        os.close(_HELD.popitem()[1])


def used(folder: Path, thing: Path) -> float:
    """When a thing was last held, in seconds since the epoch; when it was made, where that is not known."""
    for path in (lock_file(folder, thing), thing):
        with contextlib.suppress(OSError):
            return path.lstat().st_mtime
    return 0.0


@contextlib.contextmanager
def claimed(folder: Path, thing: Path) -> Iterator[None]:
    """Have a thing for oneself while the block runs. Raises InUse, and OSError where nothing can be locked."""
    folder.mkdir(parents=True, exist_ok=True)
    path = lock_file(folder, thing)
    with _exclusive(path, os.O_RDWR | os.O_CREAT):
        yield


@contextlib.contextmanager
def claimed_file(path: Path) -> Iterator[None]:
    """The same for a stored file."""
    with _exclusive(path, os.O_RDONLY):
        yield


@contextlib.contextmanager
def _exclusive(path: Path, flags: int) -> Iterator[None]:
    descriptor = os.open(path, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InUse(f"in use by {_holders(descriptor)}") from None
    finally:
        os.close(descriptor)


def _holders(descriptor: int) -> str:
    """Who has a lock on a file, as far as the kernel tells it here (another machine's processes it does not)."""
    inode = str(os.fstat(descriptor).st_ino)
    with contextlib.suppress(OSError):
        lines = Path("/proc/locks").read_text("ascii").splitlines()
        found = [match["pid"] for line in lines if (match := _FLOCK.search(line)) and match["inode"] == inode]
        if found:
            return f"process {', '.join(sorted(set(found)))}"
    return "a running command"


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return os.open(path, os.O_RDONLY)


def _is(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False
