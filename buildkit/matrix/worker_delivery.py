"""Wheels from a worker's store to where others take them, and from there to one's own.

A shared folder is written without locks and without sockets: network file systems have them or not. Every file is
written beside its place, synced and renamed, the wheel before its entry, so that readers see the whole or nothing.
What must not happen meanwhile is that somebody clears that folder (`cudabuild cache gc` takes its locks there).
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit import process
from buildkit.build.foreign import as_brought, check_inputs, check_wheel
from buildkit.build.places import Places
from buildkit.errors import CudabuildError, NoSuchBuild, StoreError
from buildkit.store.blobs import Blobs
from buildkit.store.disk import disk_causes
from buildkit.store.entries import Entries
from buildkit.store.model import Entry, parse_entry
from buildkit.store.releases import NameTaken, Releases
from buildkit.store.shared import SharedFolder, SharedStoreFailed
from buildkit.store.store import Store


@dataclass(frozen=True)
class Delivery:
    """Where a worker puts its wheels: a folder that others see, an index, or neither (they stay with it)."""

    share: str = ""
    index: str = ""

    def prepare(self) -> None:
        """Make the shared folder a store, which may be asked from now on. Raises StoreError's family."""
        if self.share:
            with disk_causes(Path(self.share), hint="check that the shared folder is mounted and yours"):
                for name in ("entries", "blobs/sha256"):
                    (Path(self.share) / name).mkdir(parents=True, exist_ok=True)

    def deliver(self, answer: Mapping[str, Any], cache: Path, environ: Mapping[str, str]) -> None:
        """Bring a build's wheel there. Raises CudabuildError: a wheel that nobody gets is no success."""
        if not self.share and not self.index:
            return
        store = Store(Places(cache).store)
        entry = made_by(answer, store)
        if self.share:
            give(entry, store, Path(self.share))
        if self.index:
            publish(entry.key, self.index, environ)


def publish(key: str, index: str, environ: Mapping[str, str]) -> None:
    """Send a wheel and its verdict to an index, by `cudabuild publish`; tokens are where that looks for them."""
    words = ["publish", key, "--index", index, "--with-verdict", "--json"]
    done = process.run([sys.executable, "-m", "buildkit", *words], env=environ, timeout=3600.0, check=False)
    if done.returncode:
        raise NotDelivered(
            f"the wheel was built, and the index {process.redact(index)} did not take it",
            evidence=process.last_line(process.redact(done.stderr)),
            hint="mend that, and run the matrix again: the build is a hit then",
        )


class NotDelivered(StoreError):
    """A wheel stays with the worker that built it."""

    kind = "not-delivered"


def failure(error: CudabuildError | OSError, answer: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """The exit code and the object of `cudabuild build --json` for what came after a build that went well."""
    told = error if isinstance(error, CudabuildError) else CudabuildError(str(error))
    said = {
        "kind": told.kind, "exit_code": told.exit_code, "message": told.message, "evidence": told.evidence,
        "hint": told.hint, "log": None,
    }  # fmt: skip
    return told.exit_code, {**answer, "error": said}


def made_by(answer: Mapping[str, Any], store: Store) -> Entry:
    """The entry of what a build has answered: of its key, or one with more targets that served it."""
    wheel = answer.get("wheel") or {}
    key, sha256 = str(answer.get("key") or ""), wheel.get("sha256")
    found = store.get(key).entry if key else None
    if found is None or found.sha256 != sha256:
        found = next((entry for entry in store.entries() if entry.sha256 == sha256), None)
    if found is None:
        raise NoSuchBuild("the wheel of this build is not in the store any more", hint="run the matrix again")
    return found


def give(entry: Entry, store: Store, share: Path) -> None:
    """Put a wheel, its entry and its release into a shared folder, which any store can be asked for (`--store`).

    Raises StoreError's family.
    """
    blobs = Blobs(share, share / "tmp")
    with disk_causes(share, needed=entry.size, hint="check that the shared folder is mounted and yours"):
        blobs.add(store.wheel(entry), entry.sha256, entry.size)
        release = store.release(entry.filename)
        if release is not None and release.sha256 == entry.sha256:
            with contextlib.suppress(NameTaken):  # somebody's other wheel has the name; it is found by its key
                Releases(share, share / "tmp").write(release)
        Entries(share, share / "tmp", blobs).write(entry)


def take(key: str, share: Path, store: Store, *, trusted: bool) -> Entry | None:
    """Bring an entry from a shared folder to a store; None where it is not there. The wheel is looked at.

    ``trusted``: the folder is a job's own, and the verdict is believed; else it is proven again when it is used.
    Raises StoreError's family, UnsafeWheel.
    """
    folder = _opened(share)
    document = folder.entry(key) if folder is not None else None
    if folder is None or document is None:
        return None
    folder.check()
    entry = parse_entry(document.data)
    here = store.get(entry.key).entry
    if here is not None:
        return here
    check_inputs(entry)
    with tempfile.TemporaryDirectory(prefix="cudabuild-shared-") as scratch:
        wheel = Path(scratch) / entry.filename
        folder.wheel(entry.sha256, entry.size, wheel, signed=False)
        check_wheel(wheel, entry, None)
        return store.put(wheel, as_brought(entry, folder.name, trusted=trusted), _release(share, entry, trusted))


def _opened(share: Path) -> SharedFolder | None:
    try:
        return SharedFolder(share)
    except SharedStoreFailed:  # nobody has put anything there yet
        return None


def _release(share: Path, entry: Entry, trusted: bool) -> Any:
    release = Releases(share, share / "tmp").get(entry.filename) if trusted else None
    return release if release is not None and release.sha256 == entry.sha256 else None
