"""What a source is asked for: by recipe, or by what a person typed. Pure, but for looking whether a path exists."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit, urlunsplit

from buildkit.errors import RecipeError, UsageError
from buildkit.process import redact

if TYPE_CHECKING:
    from buildkit.recipe.model import Version

FULL_COMMIT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
GIT_SCHEMES = frozenset({"https", "ssh"})
ARCHIVE_ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
_SCP_LIKE = re.compile(r"(?P<host>[^/@:\s]+@[^/:\s]+):(?P<path>[^/].*)\Z")


@dataclass(frozen=True)
class SdistSpec:
    """A source distribution on the package index. Without ``version`` the newest, without ``sha256`` any bytes."""

    name: str
    version: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class GitSpec:
    """A commit. ``url`` is https or ssh; a file URL only where the person named a local path (``local``)."""

    url: str
    rev: str
    submodules: bool = False
    subdirectory: str = "."
    local: bool = False


@dataclass(frozen=True)
class FolderSpec:
    """A folder on this machine, copied before it is built."""

    path: Path
    subdirectory: str = "."


@dataclass(frozen=True)
class ArchiveSpec:
    """An sdist file on this machine."""

    path: Path


SourceSpec = SdistSpec | GitSpec | FolderSpec | ArchiveSpec


def spec_of(version: Version, folder: Path) -> SourceSpec:
    """The source that a recipe's version names; a folder is relative to the recipe's."""
    subdirectory = checked_subdirectory(version.subdirectory or ".", RecipeError)
    if version.git is not None:
        if version.rev is None:
            raise RecipeError(f"version {version.version} has git without rev")
        url = checked_url(version.git, RecipeError)
        return GitSpec(url, version.rev, bool(version.submodules), subdirectory)
    if version.sdist is not None:
        if subdirectory != ".":
            raise RecipeError(f"version {version.version}: subdirectory has no meaning for an sdist")
        return SdistSpec(version.sdist, version.version, version.sha256)
    if version.folder is not None:
        return FolderSpec(folder / version.folder, subdirectory)
    raise RecipeError(f"version {version.version} names no source: one of git, sdist, folder")


def parse_source(text: str, *, cwd: Path | None = None) -> SourceSpec:
    """What ``--source`` (or the place of a recipe's name) holds.

    ``pypi:NAME[==VERSION]``, ``URL@REV`` (``git+`` before it and ``#subdirectory=`` behind it as pip writes
    them), ``PATH@REV`` for a local repository, or ``PATH``. Raises :class:`UsageError`.
    """
    base = cwd or Path.cwd()
    if text.startswith("pypi:"):
        return _parse_index_name(text)
    path = base / Path(text).expanduser()
    if path.is_dir():
        return FolderSpec(path)
    if path.is_file():
        if path.name.endswith(ARCHIVE_ENDINGS):
            return ArchiveSpec(path)
        raise UsageError(f"{text} is a file, but not a source archive", hint=f"give a folder or {ARCHIVE_ENDINGS}")
    return _parse_git(text, base)


def _parse_index_name(text: str) -> SdistSpec:
    name, equals, version = text.removeprefix("pypi:").partition("==")
    if not _NAME.match(name.strip()) or (equals and not re.fullmatch(r"[A-Za-z0-9.!+_-]+", version.strip())):
        raise UsageError(f"{text!r} does not name a package", hint="write pypi:NAME or pypi:NAME==VERSION")
    return SdistSpec(name.strip(), version.strip() or None)


def _parse_git(text: str, base: Path) -> GitSpec:
    plain, _, fragment = text.removeprefix("git+").partition("#")
    where, at, rev = plain.rpartition("@")
    local = base / Path(where).expanduser() if at and where else None
    if local is not None and local.is_dir():
        url = local.resolve().as_uri()
    elif at and ("://" in where or _SCP_LIKE.match(where)):
        url = checked_url(where, UsageError, file_allowed=True)
    elif "://" in plain or _SCP_LIKE.match(plain):
        raise UsageError(f"{redact(text)!r} names no commit", hint=f"write {redact(plain)}@FULL_COMMIT_ID")
    else:
        raise UsageError(f"there is no folder or file {text!r}", hint="give PATH, URL@COMMIT or pypi:NAME")
    if not FULL_COMMIT.match(rev.lower()):
        raise UsageError(
            f"{rev!r} is not a full commit id (40 or 64 hexadecimal digits)",
            hint=f"look it up: git ls-remote {redact(url)} {rev if rev and not rev.startswith('-') else 'HEAD'}",
        )
    subdirectory = checked_subdirectory(parse_qs(fragment).get("subdirectory", ["."])[0], UsageError)
    return GitSpec(url, rev.lower(), True, subdirectory, local=url.startswith("file:"))


def checked_url(url: str, error: type[RecipeError | UsageError], *, file_allowed: bool = False) -> str:
    """The URL in its long form (``git@host:path`` becomes ssh://) if its protocol is one we fetch from."""
    if short := _SCP_LIKE.match(url):
        url = f"ssh://{short['host']}/{short['path']}"
    parts = urlsplit(url)
    allowed = GIT_SCHEMES | ({"file"} if file_allowed else frozenset())
    # Without a host (or with one that looks like an option) ssh would take it for something else.
    host_is_sound = parts.scheme == "file" or (parts.hostname and not parts.netloc.startswith("-"))
    if parts.scheme not in allowed or not host_is_sound or (parts.hostname or "").startswith("-"):
        raise error(
            f"cannot fetch from {redact(url)!r}: git sources are {' or '.join(sorted(GIT_SCHEMES))} URLs",
            hint="for a local repository use --source PATH@COMMIT",
        )
    return urlunsplit(parts)


def checked_subdirectory(text: str, error: type[RecipeError | UsageError]) -> str:
    """A relative folder that stays inside, in its short form (``.`` for the whole)."""
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if text.startswith("/") or ".." in parts or "\0" in text:
        raise error(f"subdirectory {text!r} leaves the source", hint="name a folder inside it, like bindings/torch")
    return "/".join(parts) or "."
