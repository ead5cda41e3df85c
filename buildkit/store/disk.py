"""Writing so that it lasts: a temporary file beside its place, fsync, rename, fsync of the folder.

Every OSError that a disk can answer with becomes one of our causes here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from buildkit.errors import DiskFull, ReadOnlyCache, StoreError

Step = Callable[[str], None]
"""Called at each step boundary of a write; tests end the process there."""

_OTHER_FOLDER = "set CUDABUILD_CACHE to a folder on another disk"
_FULL = {
    errno.ENOSPC: f"free some space, or {_OTHER_FOLDER}",
    errno.EDQUOT: f"free some space, or {_OTHER_FOLDER}",
    errno.EFBIG: "raise the limit on the size of files: `ulimit -f unlimited`",
}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF}


def no_step(_name: str) -> None:
    """Do nothing at a step boundary."""


@contextlib.contextmanager
def disk_causes(folder: Path, *, needed: int = 0, hint: str = "") -> Iterator[None]:
    """Turn what the operating system says about ``folder`` into DiskFull, ReadOnlyCache or StoreError.

    ``needed`` is how many bytes were to be written, for the message. ``hint`` is given for a folder that
    is not the cache's: what to do instead.
    """
    try:
        yield
    except OSError as error:
        raise cause_of(error, folder, needed, hint) from error


def cause_of(error: OSError, folder: Path, needed: int = 0, hint: str = "") -> StoreError:
    """The cause that a person can act on; arguments as in :func:`disk_causes`."""
    evidence = str(error)
    if error.errno in _FULL:
        return DiskFull(_full(error, folder, needed), evidence=evidence, hint=hint or _FULL[error.errno])
    if error.errno in _REFUSED and hint:
        return StoreError(f"{folder} cannot be written to", evidence=evidence, hint=hint)
    if error.errno in _REFUSED:
        own = "set CUDABUILD_CACHE to a folder of your own"
        why = "is on a read-only file system" if error.errno == errno.EROFS else "is not this user's to write"
        return ReadOnlyCache(f"the cache {folder} {why}", evidence=evidence, hint=own)
    if error.errno == errno.ENOTDIR:
        own = "set CUDABUILD_CACHE to a folder, or move away the file that is in its place"
        return StoreError(f"{folder} cannot be a folder", evidence=evidence, hint=hint or own)
    other = f"see the end of `dmesg` for the disk's state, or {_OTHER_FOLDER}"
    return StoreError(f"{folder} cannot be used", evidence=evidence, hint=hint or other)


def plain_cause(error: OSError) -> StoreError:
    """The same for an error that nobody who knew the folder has named."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in _FULL:
        return DiskFull(f"no space left on the device{where}", hint="free some space, or set CUDABUILD_CACHE")
    if error.errno == errno.EROFS:
        return ReadOnlyCache(f"read-only file system{where}", hint="set CUDABUILD_CACHE to a writable folder")
    return StoreError(f"{error.strerror or error}{where}", hint="check the folder and its permissions")


def _full(error: OSError, folder: Path, needed: int) -> str:
    wanted = f", {readable_size(needed)} needed" if needed else ""
    if error.errno == errno.EFBIG:
        return f"a file under {folder} may not grow as far as it must{wanted}"
    if error.errno == errno.EDQUOT:
        return f"the disk quota for {folder} is used up{wanted}"
    return f"no space left for {folder}: {readable_size(free_bytes(folder))} free{wanted}"


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write where ``folder`` is (or would be)."""
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            answer = os.statvfs(place)
            return answer.f_bavail * answer.f_frsize
    return 0


def readable_size(size: int) -> str:
    """A size as people read it: ``12.3 MiB``."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def check_folder(folder: Path) -> None:
    """Raise NotADirectoryError where a file is in its place, or in that of a folder above it; to list such a folder
    gives nothing, as if it were not there yet."""
    for place in (folder, *folder.parents):
        if place.is_dir():
            return
        if place.exists():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last (file systems that cannot do this for folders are let be)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, each lasting in the folder above it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


@contextlib.contextmanager
def new_file(
    final: Path, temporary: Path, *, read_only: bool = False, label: str = "", step: Step = no_step
) -> Iterator[int]:
    """Yield a descriptor to write to; ``final`` appears, whole and lasting, when the block ends well.

    ``temporary`` is a folder on the same file system. Raises OSError. Steps: ``LABEL-created``,
    ``-written``, ``-synced``, ``-renamed``, ``-durable``.
    """
    draft = temporary / f".{os.getpid()}-{os.urandom(6).hex()}.tmp"
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    try:
        step(f"{label}-created")
        yield descriptor
        step(f"{label}-written")
        if read_only:
            # Within the person's umask: a private cache stays private.
            os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o444)
        os.fsync(descriptor)
        step(f"{label}-synced")
        draft.replace(final)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    step(f"{label}-renamed")
    sync_folder(final.parent)
    step(f"{label}-durable")


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte, however few the system takes at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


PUT_STEPS = (
    "locked",
    *(f"blob-{step}" for step in ("created", "written", "synced", "renamed", "durable")),
    "family-marked",
    *(f"entry-{step}" for step in ("created", "written", "synced", "renamed", "durable")),
)
"""The boundaries that a put passes, in order; what was put lasts from the last one on."""
