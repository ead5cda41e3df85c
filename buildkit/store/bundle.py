"""What is exported: a folder or an archive with wheels under their names and one manifest of entries and releases.

    NAME.whl ...   cudabuild-export.json   cudabuild-export.json.sig (where there is a key to sign with)

The folder is a wheelhouse for any installer. Reading believes nothing: every name stands in the manifest, every byte
is hashed, links and folders are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buildkit.errors import StoreError
from buildkit.store.disk import disk_causes, new_file, write_all
from buildkit.store.model import Entry, Moment, first_line
from buildkit.store.release import Release

MANIFEST = "cudabuild-export.json"
SIGNATURE = f"{MANIFEST}.sig"
LARGEST = 64 << 20
"""Bytes of a manifest that is read: thousands of entries."""
ARCHIVES = (".tar", ".tar.gz", ".tgz")


class BadBundle(StoreError):
    """An export that is not whole, or says of itself what is not so."""

    kind = "bad-export"


class Manifest(BaseModel):
    """What an export holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal[1] = Field(1, alias="schema")
    created: Moment
    entries: tuple[Entry, ...]
    releases: tuple[Release, ...] = ()

    @property
    def files(self) -> Mapping[str, tuple[str, int]]:
        """Every wheel: name to sha256 and size. BadBundle if one name stands for two."""
        found: dict[str, tuple[str, int]] = {}
        for each in (*((e.filename, e.sha256, e.size) for e in self.entries),
                     *((r.filename, r.sha256, r.size) for r in self.releases)):  # fmt: skip
            if found.setdefault(each[0], each[1:]) != each[1:]:
                raise BadBundle(f"{MANIFEST} gives two contents for {each[0]}", hint="export it again")
        return found

    def as_bytes(self) -> bytes:
        """The manifest's file."""
        return self.model_dump_json(by_alias=True, indent=1).encode() + b"\n"


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest. Raises BadBundle."""
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise BadBundle(
            f"{MANIFEST} does not say what an export holds",
            evidence=first_line(error),
            hint="export it again with `cudabuild cache export`, of the same version",
        ) from None


def is_archive(path: Path) -> bool:
    """Whether a path is that of an archive, by its name."""
    return path.name.endswith(ARCHIVES)


def write_folder(folder: Path, manifest: bytes, signature: str) -> None:
    """Write the manifest beside the wheels; last, so that it only names what is there."""
    for name, data in ((SIGNATURE, signature.encode() + b"\n" if signature else b""), (MANIFEST, manifest)):
        if not data:
            (folder / name).unlink(missing_ok=True)
            continue
        with new_file(folder / name, folder) as descriptor:
            write_all(descriptor, data)


def write_archive(path: Path, wheels: Mapping[str, Path], manifest: bytes, signature: str) -> None:
    """Write all of it as one archive, in one step; the same content gives the same tar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        new_file(path, path.parent) as descriptor,
        os.fdopen(os.dup(descriptor), "wb") as file,
        _compressed(file, path) as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        documents = {MANIFEST: manifest, SIGNATURE: signature.encode() + b"\n" if signature else b""}
        for name, data in documents.items():
            if data:
                tar.addfile(_member(name, len(data)), io.BytesIO(data))
        for name, wheel in sorted(wheels.items()):
            with wheel.open("rb") as source:
                tar.addfile(_member(name, wheel.stat().st_size), source)


@contextlib.contextmanager
def open_bundle(path: Path) -> Iterator[Folder | Archive]:
    """The export in a folder or an archive. BadBundle where there is none."""
    with disk_causes(path, hint="check the path and its permissions"):
        if path.is_dir():
            yield Folder(path)
            return
        if path.exists() and not path.is_file():  # a pipe or a device would be read for ever
            raise BadBundle(f"{path} is no archive: not a regular file", hint="cudabuild cache export --out FILE.tar")
        try:
            with tarfile.open(path, "r:*") as tar:
                yield Archive(path, tar)
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise BadBundle(f"{path} is not a whole archive", evidence=str(error), hint="copy it again") from error


class Folder:
    """An export in a folder. Other files in it are left alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document = self._read(MANIFEST) or b""
        self.signature = (self._read(SIGNATURE) or b"").decode("utf-8", "replace")
        if not self.document:
            raise BadBundle(f"{path} has no {MANIFEST}", hint="cudabuild cache export --out DIR writes one")

    def copies(self, names: Mapping[str, tuple[str, int]], into: Path) -> Iterator[Path]:
        """Copy one wheel after the other into a folder, each hashed. BadBundle for one that is not as announced."""
        for name, announced in names.items():
            with self._open(name) as source:
                yield _copied(source, into / name, announced)

    def _read(self, name: str) -> bytes | None:
        with contextlib.suppress(FileNotFoundError), self._open(name, missing=False) as file:
            return _bounded(file, name)
        return None

    def _open(self, name: str, *, missing: bool = True) -> IO[bytes]:
        try:
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not missing:
                raise
            raise BadBundle(f"{name} cannot be read", evidence=str(error), hint="export it again") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BadBundle(f"{name} is not a regular file", hint="export it again")
        return os.fdopen(descriptor, "rb")


class Archive:
    """An export in an archive, read once from its beginning: the manifest stands before the wheels."""

    def __init__(self, path: Path, tar: tarfile.TarFile) -> None:
        self.path = path
        self._tar = tar
        self._next = self._member()
        self.document = self._read(MANIFEST)
        self.signature = self._read(SIGNATURE).decode("utf-8", "replace")
        if not self.document:
            raise BadBundle(f"{path} does not begin with {MANIFEST}", hint="cudabuild cache export --out FILE.tar")

    def copies(self, names: Mapping[str, tuple[str, int]], into: Path) -> Iterator[Path]:
        """As :meth:`Folder.copies`, in the archive's order."""
        left = dict(names)
        while self._next is not None:
            name = self._next.name
            if name not in left:
                raise BadBundle(f"{self.path} holds {name!r}, which its manifest does not name", hint="export it again")
            file = self._tar.extractfile(self._next)
            if file is None:
                raise BadBundle(f"{name} is not a regular file", hint="export it again")
            yield _copied(file, into / name, left.pop(name))
            self._next = self._member()
        if left:
            raise BadBundle(f"{self.path} lacks {', '.join(sorted(left)[:3])}", hint="copy it again: it is cut short")

    def _member(self) -> tarfile.TarInfo | None:
        found = self._tar.next()
        if found is not None and not found.isreg():
            raise BadBundle(f"{self.path}: {found.name!r} is not a regular file", hint="export it again")
        return found

    def _read(self, name: str) -> bytes:
        if self._next is None or self._next.name != name:
            return b""
        file = self._tar.extractfile(self._next)
        data = _bounded(file, name) if file is not None else b""
        self._next = self._member()
        return data


def _bounded(file: IO[bytes], name: str) -> bytes:
    data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise BadBundle(f"{name} is larger than any manifest", hint="export it again")
    return data


def _copied(source: IO[bytes], target: Path, announced: tuple[str, int]) -> Path:
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as sink:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
            if size > announced[1]:
                break
            sink.write(chunk)
    if (digest.hexdigest(), size) != announced:
        target.unlink()
        raise BadBundle(
            f"{target.name} is not the wheel that the manifest names",
            evidence=f"sha256 {digest.hexdigest()}, {size} bytes; announced: {announced[0]}, {announced[1]} bytes",
            hint="copy it again",
        )
    return target


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


@contextlib.contextmanager
def _compressed(file: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    """Wheels are compressed already: the least effort does."""
    import gzip

    if path.name.endswith(".tar"):
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=1, mtime=0) as stream:
        yield stream  # type: ignore[misc]
