"""Another cudabuild's store, read only: in a folder, or over HTTP. What it says is for others to judge.

Over HTTP: ``GET /store/entries/KEY.json``, ``/store/families/FAMILY.json``, ``/store/blobs/SHA256``.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from buildkit.errors import StoreError
from buildkit.store.blobs import copy_hashing
from buildkit.store.bundle import MANIFEST, SIGNATURE, parse_manifest
from buildkit.store.model import is_name

LARGEST = 16 << 20
"""Bytes of an entry that is read."""


class SharedStoreFailed(StoreError):
    """The shared store cannot be used, or not for this; the build goes on without it."""

    kind = "shared-store"


@dataclass(frozen=True)
class Document:
    """An entry as it came, and what was signed: the same bytes, or the manifest that it stands in."""

    data: bytes
    signed: bytes = b""
    signature: str = ""


class Shared(Protocol):
    """Where entries and wheels are asked for. Methods raise SharedStoreFailed."""

    name: str
    """For people; without credentials."""

    def entry(self, key: str) -> Document | None:
        """The entry of a key; None where there is none."""

    def family(self, family: str) -> list[str]:
        """The keys of a family."""

    def wheel(self, sha256: str, size: int, target: Path, *, signed: bool) -> None:
        """Copy the bytes of a wheel; they are still to be compared. ``signed``: a trusted key vouches for the hash."""

    def check(self) -> None:
        """Raise SharedStoreFailed where what is not signed must not be used."""


class SharedFolder:
    """A store in a folder (a cache's, or its ``store``). Nobody but its owner may be able to write there."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.root = path / "store" if (path / "store" / "entries").is_dir() else path
        if not (self.root / "entries").is_dir():
            raise SharedStoreFailed(
                f"{path} is not a store", hint=f"name the cache of another cudabuild, or an export with its {MANIFEST}"
            )

    def entry(self, key: str) -> Document | None:
        """The entry of a key; None where there is none."""
        data = _read(self.root / "entries" / f"{key}.json") if is_name(key) else None
        return Document(data) if data is not None else None

    def family(self, family: str) -> list[str]:
        """The keys of a family."""
        folder = self.root / "entries" / "by-family" / family
        return sorted(path.name for path in folder.glob("*") if is_name(path.name)) if is_name(family) else []

    def wheel(self, sha256: str, size: int, target: Path, *, signed: bool) -> None:
        """Copy the bytes of a wheel."""
        path = self.root / "blobs" / "sha256" / sha256[:2] / sha256
        if not signed:
            _own(path.parent)
            _own(path)
        _copy(path, size, target)

    def check(self) -> None:
        """Every folder that is read must be its owner's alone: this user's, or root's."""
        for folder in (self.root, self.root / "entries", self.root / "blobs", self.root / "blobs" / "sha256"):
            _own(folder)


class SharedExport:
    """An export in a folder: the same, with one signature for all of it."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.root = path
        self._document = _read(path / MANIFEST) or b""
        self._signature = (_read(path / SIGNATURE) or b"").decode("utf-8", "replace")
        manifest = parse_manifest(self._document)
        self._entries = {entry.key: entry for entry in manifest.entries}

    def entry(self, key: str) -> Document | None:
        """The entry of a key; None where there is none."""
        found = self._entries.get(key)
        return Document(found.as_bytes(), self._document, self._signature) if found is not None else None

    def family(self, family: str) -> list[str]:
        """The keys of a family."""
        return [key for key, entry in self._entries.items() if entry.family == family]

    def wheel(self, sha256: str, size: int, target: Path, *, signed: bool) -> None:
        """Copy the bytes of a wheel."""
        entry = next(each for each in self._entries.values() if each.sha256 == sha256)
        if not signed:
            _own(self.root / entry.filename)
        _copy(self.root / entry.filename, size, target)

    def check(self) -> None:
        """The folder must be its owner's alone."""
        _own(self.root)
        _own(self.root / MANIFEST)


class SharedServer:
    """A store that another cudabuild serves. ``client`` asks; ``address`` is without the ``/store``."""

    def __init__(self, address: str, name: str, client: Any) -> None:
        self.name = name
        self._address = address.rstrip("/")
        self._client = client

    def entry(self, key: str) -> Document | None:
        """The entry of a key; None where there is none."""
        from buildkit.store.signing import HEADER

        with self._answer(f"entries/{key}.json") as answer:
            if answer is None:
                return None
            data = self._whole(answer)
            return Document(data, data, answer.headers.get(HEADER, ""))

    def family(self, family: str) -> list[str]:
        """The keys of a family."""
        with self._answer(f"families/{family}.json") as answer:
            try:
                keys = json.loads(self._whole(answer))["keys"] if answer is not None else []
                return [key for key in keys if isinstance(key, str) and is_name(key)]
            except (ValueError, KeyError, TypeError) as error:
                raise self._failed("answered something else than a store does", str(error)) from error

    def wheel(self, sha256: str, size: int, target: Path, *, signed: bool) -> None:  # noqa: ARG002 - told by its hash
        """Copy the bytes of a wheel."""
        with self._answer(f"blobs/{sha256}") as answer, target.open("wb") as file:
            if answer is None:
                raise self._failed("has an entry and not its wheel", sha256)
            come = 0
            for chunk in answer.iter_raw():
                come += len(chunk)
                if come > size:
                    raise self._failed("sends more than it announced", f"{size} bytes were announced")
                file.write(chunk)

    def check(self) -> None:
        """Whoever answers, what is not signed is proven again."""

    @contextlib.contextmanager
    def _answer(self, path: str) -> Iterator[Any]:
        """The answer to a GET; None for 404. Raises SharedStoreFailed for all else that is no answer."""
        import ssl

        import httpx2

        headers = {"Accept-Encoding": "identity"}
        try:
            with self._client.stream("GET", f"{self._address}/store/{path}", headers=headers) as answer:
                if answer.status_code in {401, 403}:
                    raise SharedStoreFailed(
                        f"the shared store {self.name} wants a token that it knows",
                        evidence=f"HTTP {answer.status_code}",
                        hint="--store https://__token__:TOKEN@HOST, with one of `cudabuild token new NAME --scope "
                        "read` there",
                    )
                if answer.status_code not in {200, 404}:
                    raise self._failed("does not answer as a store does", f"HTTP {answer.status_code}")
                yield answer if answer.status_code == 200 else None
        except (
            httpx2.HTTPError,
            httpx2.InvalidURL,
            ssl.SSLError,
            ConnectionError,
            TimeoutError,
            UnicodeError,
        ) as error:
            # UnicodeError: what cannot be a host's name.
            raise self._failed("cannot be reached", f"{type(error).__name__}: {error}") from error

    def _whole(self, answer: Any) -> bytes:
        data = b""
        for chunk in answer.iter_raw():
            data += chunk
            if len(data) > LARGEST:
                raise self._failed("answered with more than an entry can be", "")
        return data

    def _failed(self, what: str, evidence: str) -> SharedStoreFailed:
        hint = "check the address (--store, CUDABUILD_STORE) and that `cudabuild serve` runs there"
        return SharedStoreFailed(f"the shared store {self.name} {what}", evidence=evidence, hint=hint)


def folder_store(path: Path) -> SharedFolder | SharedExport:
    """What lies in a folder, to which a link may lead: an export or a store. Raises SharedStoreFailed, BadBundle."""
    path = path.resolve()
    return SharedExport(path) if (path / MANIFEST).is_file() else SharedFolder(path)


def _own(path: Path) -> None:
    """Raise SharedStoreFailed where others than this user and root can write."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    other = status.st_uid not in {os.getuid(), 0}
    if not other and not status.st_mode & 0o022 and not stat.S_ISLNK(status.st_mode):
        return
    mode = stat.filemode(status.st_mode)
    what = f"it belongs to user {status.st_uid}" if other else f"others may write there ({mode})"
    hint = f"chmod -R go-w {path}, or have it exported by somebody whose key is among your trusted-keys"
    if stat.S_ISLNK(status.st_mode) and not other:
        what = f"it is a link, which a store does not have inside: to {path.readlink()}"
        hint = f"name the folder itself: --store {path.resolve()}"
    raise SharedStoreFailed(f"{path} is not used: {what}", hint=hint)


def _read(path: Path) -> bytes | None:
    """A small regular file; None where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SharedStoreFailed(f"{path} cannot be read", evidence=str(error), hint="check its permissions") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SharedStoreFailed(f"{path} is not a regular file", hint="it is not a store's: remove it")
        return file.read(64 * LARGEST)


def _copy(path: Path, size: int, target: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise SharedStoreFailed(f"{path} cannot be read", evidence=str(error), hint="check its permissions") from error
    with os.fdopen(descriptor, "rb") as source, target.open("wb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            raise SharedStoreFailed(f"{path} is not the wheel that was announced", hint="cudabuild cache verify, there")
        copy_hashing(source.fileno(), file.fileno())
