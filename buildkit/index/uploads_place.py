"""Folders for uploads that are under way, inside of the store, so that publishing one needs no other disk's space.

Each is locked by the process that fills it: the lock ends with the process, and a folder without one is a leftover.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from buildkit.errors import StoreError
from buildkit.store.disk import disk_causes, make_folder
from buildkit.store.locks import file_lock
from buildkit.store.store import Store

_TRIES = 5


@contextlib.contextmanager
def upload_place(root: Path) -> Iterator[Path]:
    """An empty folder below the store's root, removed when the block ends. Raises StoreError's family."""
    uploads = _uploads(root)
    with disk_causes(root):
        make_folder(uploads)
        place, descriptor = _locked_folder(uploads)
    try:
        with disk_causes(root):
            yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(descriptor)


def changing_releases(store: Store) -> contextlib.AbstractContextManager[None]:
    """One upload at a time is published: of two spellings of one file name, one is second."""
    return file_lock(store.root / "locks" / "uploads.lock")


def sweep_places(root: Path) -> int:
    """Remove the folders of uploads whose process is gone; how many they were."""
    swept = 0
    for folder in _uploads(root).glob("*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
            finally:
                os.close(descriptor)
    return swept


def _uploads(root: Path) -> Path:
    return root / "tmp" / "uploads"


def _locked_folder(uploads: Path) -> tuple[Path, int]:
    """A new folder with its lock; made again where a sweep came between the two."""
    for _ in range(_TRIES):
        place = uploads / os.urandom(8).hex()
        place.mkdir(mode=0o700)
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if place.exists():
                return place, descriptor
        os.close(descriptor)
    raise StoreError(f"no folder for an upload could be had in {uploads}", hint="check who removes folders there")
