"""Wheels by the hash of their bytes: ``blobs/sha256/ab/<hash>``, written once, never changed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from buildkit.errors import StoreError
from buildkit.store.disk import Step, make_folder, new_file, no_step, sync_folder, write_all

CHUNK = 1 << 20
_FICLONE = 0x40049409
"""``FICLONE`` of linux/fs.h: share the blocks of another file (btrfs, XFS, bcachefs)."""


class Blobs:
    """The files of one store. Methods raise OSError; the store says what that means."""

    def __init__(self, root: Path, temporary: Path, step: Step = no_step) -> None:
        self.folder = root / "blobs" / "sha256"
        self.temporary = temporary
        self._step = step

    def path(self, sha256: str) -> Path:
        """Where a blob lies, whether it is there or not."""
        return self.folder / sha256[:2] / sha256

    def add(self, source: Path, sha256: str, size: int) -> None:
        """Copy a file in, hashing what is copied; a good copy that is there already is kept.

        Raises StoreError if the bytes are not the ones announced.
        """
        final = self.path(sha256)
        if not self.flaw(sha256, size):
            sync_folder(final.parent)  # its writer may have been killed just before doing so
            os.utime(final)  # in use again
            return
        make_folder(self.temporary)
        make_folder(final.parent)
        with (
            source.open("rb") as stream,
            new_file(final, self.temporary, read_only=True, label="blob", step=self._step) as descriptor,
        ):
            copied = copy_hashing(stream.fileno(), descriptor)
            if copied != (sha256, size):
                raise StoreError(
                    f"{source} changed after it was proven",
                    evidence=f"sha256 {copied[0]}, {copied[1]} bytes, where {sha256}, {size} bytes were announced",
                )

    def flaw(self, sha256: str, size: int) -> str:
        """What is wrong with a blob, every byte read; empty if nothing is."""
        path = self.path(sha256)
        try:
            status = path.lstat()
        except FileNotFoundError:
            return "it is not there"
        if not stat.S_ISREG(status.st_mode):
            return "it is not a regular file"
        if status.st_size != size:
            return f"it has {status.st_size} bytes instead of {size}"
        return "" if file_sha256(path) == sha256 else "its bytes are not the ones that were stored"

    def all(self) -> Iterator[Path]:
        """Every file where blobs lie."""
        yield from sorted(self.folder.glob("*/*"))


def copy_out(source: Path, final: Path, sha256: str) -> bool:
    """Write ``source`` as ``final``, in one piece, sharing blocks where the file system can; never a hard link.

    Returns False, and writes nothing, if what was read does not have this sha256. Raises OSError.
    """
    with contextlib.suppress(_OtherBytes), source.open("rb") as stream:
        with new_file(final, final.parent) as descriptor:
            if reflink(stream.fileno(), descriptor):
                copied = hash_to_end(descriptor)
            else:
                copied, _ = copy_hashing(stream.fileno(), descriptor)
            if copied != sha256:
                raise _OtherBytes
        return True
    return False


class _OtherBytes(Exception):
    """Leaves the block of a new file so that it never appears."""


def reflink(source: int, destination: int) -> bool:
    """Share the source's blocks with the (empty) destination; False where that cannot be done."""
    try:
        fcntl.ioctl(destination, _FICLONE, source)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            raise
        return False
    return True


def copy_hashing(source: int, destination: int) -> tuple[str, int]:
    """Copy to the end and return sha256 and size of what was copied."""
    digest = hashlib.sha256()
    size = 0
    while chunk := os.read(source, CHUNK):
        digest.update(chunk)
        write_all(destination, chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb", buffering=0) as stream:
        return hash_to_end(stream.fileno())


def hash_to_end(descriptor: int) -> str:
    """The sha256 of what is left to read of an open file."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    while count := os.readv(descriptor, [buffer]):
        digest.update(buffer[:count])
    return digest.hexdigest()
