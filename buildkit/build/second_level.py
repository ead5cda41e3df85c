"""A shared store as second level: on a miss here it is asked, and what it has is looked at, brought here and proven."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from buildkit.build.context import Context
from buildkit.build.foreign import ForeignLies, as_brought, check_inputs, check_wheel
from buildkit.build.prepare import Prepared
from buildkit.errors import CudabuildError, UnsafeWheel
from buildkit.machine.arch import covers, parse_targets
from buildkit.store.blobs import file_sha256
from buildkit.store.bundle import BadBundle
from buildkit.store.disk import disk_causes
from buildkit.store.model import DamagedEntry, Entry, ForeignEntry, parse_entry
from buildkit.store.shared import Document, Shared, SharedServer, SharedStoreFailed, folder_store
from buildkit.store.signing import BadSignature, signer

CONNECT = 5.0
"""Seconds for a server to answer at all: a build must not wait for one that is away."""
READ = 60.0
"""Seconds between two pieces of an answer."""


@dataclass
class SharedStores:
    """The store in ``place`` (a folder or an address), and whose signatures are believed."""

    place: str
    trusted: Sequence[str]
    cwd: Path
    notes: dict[str, str] = field(default_factory=dict, init=False)
    """Where entries came from, by key."""
    _failed: bool = field(default=False, init=False)

    def bring(self, prepared: Prepared, context: Context, here: Callable[[], Entry | None]) -> Entry | None:
        """The entry of a plan, or one with more targets, now in this store; None where there is none to be used.

        What stands against it is said, and the build goes on without. The stored verdict is kept only if a trusted
        key has signed it. ``here`` asks this store: another command may have brought it meanwhile.
        """
        if self._failed:
            return None
        try:
            # One at a time for a key: the next one finds it here.
            with context.store.lock(f"{prepared.key[:100]}-shared"), self._opened(context) as shared:
                return here() or self._brought(shared, prepared, context)
        except (SharedStoreFailed, BadBundle, BadSignature, ForeignLies, UnsafeWheel) as error:
            self._failed = True
            evidence = f" ({error.evidence})" if error.evidence else ""
            context.reporter.warn(f"{error.message}{evidence}: going on without it; {error.hint}")
        return None

    def _brought(self, shared: Shared, prepared: Prepared, context: Context) -> Entry | None:
        for document in self._offers(shared, prepared):
            entry = _parsed(document, shared)
            by = signer(document.signed, document.signature, self.trusted)
            if not by:
                shared.check()
            if not _fits(entry, prepared):
                continue
            check_inputs(entry)
            kept = self._stored(shared, entry, context, trusted=bool(by))
            signed = f", signed by {by}" if by else "; nobody who is trusted has signed it, so it is proven again here"
            self.notes[entry.key] = f"{entry.filename} comes from the shared store {shared.name}{signed}"
            context.reporter.note(self.notes[entry.key])
            return kept
        return None

    @staticmethod
    def _offers(shared: Shared, prepared: Prepared) -> Iterator[Document]:
        exact = shared.entry(prepared.key)
        if exact is not None:
            yield exact
        for key in shared.family(prepared.family) if exact is None else ():
            if (document := shared.entry(key)) is not None:
                yield document

    def _stored(self, shared: Shared, entry: Entry, context: Context, *, trusted: bool) -> Entry:
        """Copy a wheel, look at it as at a stranger's, and store it under its key."""
        context.reporter.phase("shared", entry.filename)
        work = context.places.work
        with disk_causes(work, needed=entry.size):
            work.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="shared-", dir=work) as scratch:
                wheel = Path(scratch) / entry.filename
                shared.wheel(entry.sha256, entry.size, wheel, signed=trusted)
                if (found := file_sha256(wheel)) != entry.sha256:
                    raise SharedStoreFailed(
                        f"the shared store {shared.name} gave another wheel than it announced",
                        evidence=f"sha256 {found} instead of {entry.sha256}",
                        hint="cudabuild cache verify, where that store is",
                    )
                check_wheel(wheel, entry, None)
                kept = context.store.put(wheel, as_brought(entry, shared.name, trusted=trusted))
        context.store.hold(kept)
        return kept

    @contextlib.contextmanager
    def _opened(self, context: Context) -> Iterator[Shared]:
        try:
            parts = urlsplit(self.place)
        except ValueError as error:
            hint = "write a folder, or an address such as https://cache.example"
            raise SharedStoreFailed("the shared store has no address", evidence=str(error), hint=hint) from None
        if parts.scheme not in {"http", "https"}:
            path = Path(self.place.removeprefix("file://")).expanduser()
            yield _folder(self.cwd / path)
            return
        if context.offline:
            raise SharedStoreFailed("--offline: the shared store is not asked", hint="a folder would be")
        import httpx2

        from buildkit.source.index_client import tls_context

        name = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        patience = httpx2.Timeout(READ, connect=CONNECT)
        settings = context.index
        with httpx2.Client(
            verify=tls_context(settings), timeout=patience, proxy=settings.proxy, follow_redirects=True
        ) as client:
            yield SharedServer(self.place, name, client)


def _folder(path: Path) -> Shared:
    try:
        return folder_store(path)
    except OSError as error:
        hint = "check its permissions, and that it is mounted"
        raise SharedStoreFailed(f"the shared store {path} cannot be read", evidence=str(error), hint=hint) from error


def _parsed(document: Document, shared: Shared) -> Entry:
    try:
        return parse_entry(document.data)
    except (DamagedEntry, ForeignEntry) as error:
        hint = "cudabuild cache verify, where that store is; the same version of cudabuild on both sides"
        raise SharedStoreFailed(
            f"the shared store {shared.name} gave an entry that is none", evidence=str(error), hint=hint
        ) from None


def _fits(entry: Entry, prepared: Prepared) -> bool:
    """Whether it is the plan's, or differs from it by more targets only."""
    if entry.key == prepared.key:
        return True
    try:
        targets = parse_targets(entry.inputs["targets"])
    except (CudabuildError, KeyError, TypeError, ValueError, AttributeError):
        return False
    return entry.family == prepared.family and covers(targets, prepared.survey.targets)
