"""The store as an index sees it: read again when its releases changed, and no byte handed out that was not checked."""

from __future__ import annotations

import os
import threading
import time
import zipfile
import zlib
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO

from buildkit.file_identity import SETTLED_NS, FileIdentity, identity_if_any
from buildkit.index.settings import IndexSettings
from buildkit.index.shelf import Shelf, make_shelf
from buildkit.progress import Reporter, Silent
from buildkit.store.blobs import hash_to_end
from buildkit.store.release import Release
from buildkit.store.store import Store

MOST_METADATA = 10 << 20
"""Bytes of METADATA that are read; the largest known is below 1 MiB."""
_UNREADABLE = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    KeyError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
)
"""What zipfile raises for archives that are none, or no longer."""


class Damaged(Exception):
    """The bytes that a release names are not there, or are others; the text says which."""


@dataclass(frozen=True)
class _Witness:
    folder: FileIdentity | None
    settled: bool
    """Whether the folder was at rest when it was read: else a change may have left the identity as it was."""


class Catalogue:
    """The shelf of a store, and its files. All methods may block on the disk, and be called by several threads."""

    def __init__(self, store: Store, settings: IndexSettings, reporter: Reporter | None = None) -> None:
        self.store = store
        self.settings = settings
        self._reporter = reporter or Silent()
        self._releases = store.root / "releases"
        self._shelf: Shelf | None = None
        self._witness = _Witness(None, settled=False)
        self._began = 0
        self._damaged: dict[str, tuple[FileIdentity | None, str]] = {}
        self._sound: dict[str, FileIdentity] = {}
        self._metadata: dict[str, bytes] = {}
        self._reading = threading.Lock()
        self._checking: dict[str, threading.Lock] = {}

    def current(self) -> Shelf | None:
        """The shelf, if it is as the store is now; one ``stat`` of a folder. Else :meth:`read` is to be called."""
        if self._shelf is None or not self._witness.settled:
            return None
        same = identity_if_any(self._releases) == self._witness.folder
        return self._shelf if same and not self._mended() else None

    def read(self) -> Shelf:
        """Read the releases again. Raises StoreError."""
        asked = time.monotonic_ns()
        with self._reading:
            if self._shelf is not None and (self._began > asked or self.current() is not None):
                return self._shelf  # another thread read it while this one waited
            self._began, witness = time.monotonic_ns(), self._look()
            shelf = make_shelf(self.store.releases(), self.settings, self._flaw)
            self._witness, self._shelf = witness, shelf
            return shelf

    def open(self, release: Release) -> int:
        """A descriptor of a release's wheel, every byte of it checked once for each file that it ever was.

        Raises Damaged, after which the release is on no page any more.
        """
        try:
            return self._open_checked(release)
        except Damaged as damage:
            self._note(release, str(damage))
            raise

    def metadata(self, release: Release) -> bytes:
        """The METADATA inside a release's wheel, as its hash says. Raises Damaged."""
        known = self._metadata.get(release.sha256)
        if known is not None:
            return known
        try:
            data = self._read_metadata(release)
        except Damaged as damage:
            self._note(release, str(damage))
            raise
        if len(self._metadata) > 4096:
            self._metadata.clear()
        self._metadata[release.sha256] = data
        return data

    def _look(self) -> _Witness:
        identity = identity_if_any(self._releases)
        newest = max(identity[1], identity[2]) if identity is not None else 0
        return _Witness(identity, settled=time.time_ns() - newest > SETTLED_NS)

    def _mended(self) -> bool:
        """Whether a file that was found damaged is another one now."""
        known = list(self._damaged.items())
        return any(identity_if_any(self.store.blobs.path(sha256)) != found for sha256, (found, _) in known)

    def _flaw(self, release: Release) -> str:
        """What is known to be wrong with a release's bytes, without reading them."""
        identity = identity_if_any(self.store.blobs.path(release.sha256))
        if identity is None:
            return "its wheel is not in the store any more"
        if identity[0] != release.size:
            return f"its wheel is damaged: it has {identity[0]} bytes instead of {release.size}"
        known, why = self._damaged.get(release.sha256, (None, ""))
        if known == identity:
            return f"its wheel is damaged: {why}"
        self._damaged.pop(release.sha256, None)
        return ""

    def _note(self, release: Release, why: str) -> None:
        with self._reading:  # a reading that has begun does not know of it yet
            self._damaged[release.sha256] = (identity_if_any(self.store.blobs.path(release.sha256)), why)
            self._sound.pop(release.sha256, None)
            self._shelf = None
        self._reporter.warn(f"{release.filename} is not served any more: {why}")

    def _open_checked(self, release: Release) -> int:
        path = self.store.blobs.path(release.sha256)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise Damaged(error.strerror or str(error)) from error
        try:
            with self._checking.setdefault(release.sha256, threading.Lock()):
                self._check(descriptor, release)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _check(self, descriptor: int, release: Release) -> None:
        identity = identity_of_open(descriptor)
        if self._sound.get(release.sha256) == identity:
            return
        if identity[0] != release.size:
            raise Damaged(f"it has {identity[0]} bytes instead of {release.size}")
        if hash_to_end(descriptor) != release.sha256:
            raise Damaged("its bytes are not the ones that were stored")
        if identity_of_open(descriptor) != identity:
            raise Damaged("it changed while it was read")
        if time.time_ns() - max(identity[1], identity[2]) > SETTLED_NS:
            self._sound[release.sha256] = identity

    def _read_metadata(self, release: Release) -> bytes:
        try:
            with self.store.blobs.path(release.sha256).open("rb") as stream:
                data = _member(stream, release)
        except _UNREADABLE as error:
            raise Damaged(f"its METADATA cannot be read: {error}") from error
        if sha256(data).hexdigest() != release.metadata_sha256:
            raise Damaged("its METADATA is not the one that was stored")
        return data


def identity_of_open(descriptor: int) -> FileIdentity:
    """:func:`buildkit.file_identity.identity_of` for an open file."""
    status = os.fstat(descriptor)
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def _member(stream: BinaryIO, release: Release) -> bytes:
    """The METADATA of the one dist-info folder at the top."""
    with zipfile.ZipFile(stream) as archive:
        names = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1]
        if len(names) != 1:
            raise KeyError(f"{len(names)} files of this name in {release.filename}")
        if archive.getinfo(names[0]).file_size > MOST_METADATA:
            raise ValueError("it is too large")
        with archive.open(names[0]) as member:
            return member.read(MOST_METADATA + 1)
