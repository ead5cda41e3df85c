"""What a build that was ended leaves to its next try: the objects of finished compilations, and nothing else.

The source is unpacked anew each time. What was being written when a build was killed can be cut in half and newer than
what it was made from, and would be taken for finished by whatever compares times: setuptools for its files and
extensions, make for its objects. Objects that the shim keeps (``csrc/shim/kept.c``) are whole, by their hashes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

OBJECTS = "objects"
"""The folder in the build's own; removed with it after success."""
VARIABLE = "CUDABUILD_OBJECTS"
_GIVEN = "given"
_NAME = 64  # digits of a kept object's name


def objects_folder(build: Path) -> Path:
    """Where the shims of a build keep objects."""
    return build / OBJECTS


def begin(build: Path, *, resume: bool) -> int:
    """Make the folder, empty unless ``resume``; how many finished objects are in it."""
    folder = objects_folder(build)
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _GIVEN).unlink(missing_ok=True)
    kept = 0
    for entry in _entries(folder):
        if len(entry.name) == _NAME:
            kept += 1
        else:  # one that was being written
            Path(entry.path).unlink(missing_ok=True)
    return kept


def given(build: Path) -> int:
    """How many compilations of this run were answered with a kept object."""
    try:
        return (objects_folder(build) / _GIVEN).read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries
