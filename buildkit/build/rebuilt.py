"""One file name means one content for ever: what is built again with other bytes gets the next build tag.

Build tags (the binary distribution format of packaging.python.org) tell builds of one version apart, and of two that
fit an installer takes the higher one. What came before is yanked: it stays for those who have pinned its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from buildkit.build.final import with_build_tag
from buildkit.store.blobs import file_sha256
from buildkit.store.locks import OnWait, tell_nobody
from buildkit.store.rebuilds import build_number, builds_of, tagged_filename
from buildkit.store.store import Store


@contextmanager
def named(wheel: Path, store: Store, on_wait: OnWait = tell_nobody) -> Iterator[Path]:
    """The wheel under a name that no other content of the store has: its own, or one with a build tag.

    While the block runs nobody else is given a name of the same version and tags; the wheel is to be put in it.
    """
    stem = hashlib.sha256(tagged_filename(wheel.name, "").encode()).hexdigest()
    with store.lock(f"name-{stem}", on_wait):
        yield _renamed(wheel, store)


def _renamed(wheel: Path, store: Store) -> Path:
    builds, sha256 = builds_of(wheel.name, store), file_sha256(wheel)
    bearer = store.bearer(wheel.name)
    if bearer == sha256 or not (builds or bearer):
        return wheel
    for known in reversed(builds):
        if _same_contents(wheel, store.blobs.path(known.sha256)):
            again = with_build_tag(wheel, _tag(known.filename))
            if file_sha256(again) == known.sha256:  # not so where another zlib packed it
                return again
    number = max(0, *(build_number(name)[0] for name in (wheel.name, *(each.filename for each in builds))))
    while True:
        number += 1
        again = with_build_tag(wheel, str(number))
        if store.bearer(again.name) in {"", file_sha256(again)}:
            return again


def _tag(filename: str) -> str:
    number, rest = build_number(filename)
    return f"{number}{rest}" if number >= 0 else ""


def _same_contents(wheel: Path, other: Path) -> bool:
    """Whether two wheels differ in the build tag at most, by what their RECORDs say."""
    try:
        return _contents(wheel) == _contents(other)
    except (OSError, BadZipFile, StopIteration):
        return False


def _contents(wheel: Path) -> tuple[set[str], dict[str, str]]:
    """The rows of RECORD but its own and WHEEL's, and WHEEL's headers but the build tag."""
    with ZipFile(wheel) as archive:
        folder = next(name for name in archive.namelist() if name.endswith(".dist-info/RECORD")).rpartition("/")[0]
        rows = archive.read(f"{folder}/RECORD").decode("utf-8").splitlines()
        headers = message_from_bytes(archive.read(f"{folder}/WHEEL"))
    changing = (f"{folder}/RECORD,", f"{folder}/WHEEL,")
    return {row for row in rows if not row.startswith(changing)}, {
        f"{name} {place}": value for place, (name, value) in enumerate(headers.items()) if name != "Build"
    }
