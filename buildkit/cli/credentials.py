"""Tokens of servers: one file each, which nobody but its owner can read."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buildkit.cli.settings import config_file
from buildkit.errors import ConfigError, UsageError
from buildkit.process import redact

TOKEN_VARIABLE = "CUDABUILD_TOKEN"  # noqa: S105 - a variable's name
_LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")


class Kept(BaseModel):
    """What is known of a server."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal[1] = Field(1, alias="schema")
    server: str
    token: str = Field(repr=False)
    allow_http: bool = False


@dataclass(frozen=True)
class Address:
    """A server's address, without credentials and final slash."""

    url: str
    host: str
    https: bool

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine."""
        return _LOOPBACK.fullmatch(self.host) is not None


@dataclass(frozen=True)
class Access:
    """A server and the token for it; empty: none."""

    address: Address
    token: str = field(default="", repr=False)


def address_of(url: str) -> Address:
    """The address that was typed or set. Raises UsageError for what is none, and for one that holds credentials."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in {"http", "https"} or not host or not url.isprintable():
        raise UsageError(f"{redact(url)!r} is not a server's address", hint="--server https://HOST")
    if "@" in parts.netloc:
        hint = f"cudabuild login {parts.scheme}://{parts.netloc.rpartition('@')[2]}   keeps a token"
        raise UsageError("a server's address takes no credentials: they would be in the process list", hint=hint)
    if parts.query or parts.fragment:
        raise UsageError(f"{url} is more than a server's address", hint=f"--server {parts.scheme}://{parts.netloc}")
    bare = f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"
    return Address(bare, host.lower(), parts.scheme == "https")


def access_to(url: str, environ: Mapping[str, str]) -> Access:
    """The server with its token: the variable's, else the one that ``cudabuild login`` has kept.

    Raises UsageError where the token would travel in the clear, ConfigError for a file that others can read.
    """
    address = address_of(url)
    kept = read_kept(address, environ)
    token = environ.get(TOKEN_VARIABLE, "").strip() or (kept.token if kept is not None else "")
    check_token(token, address, allow_http=kept is not None and kept.allow_http)
    return Access(address, token)


def check_token(token: str, address: Address, *, allow_http: bool) -> None:
    """Raise UsageError for a token that no header can hold, or that others on the way could read."""
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError("the token holds blanks, control characters or letters beyond ASCII", hint="copy it anew")
    if token and not (address.https or address.loopback or allow_http):
        raise UsageError(
            f"a token would travel to {address.url} over plain HTTP, where others on the way can read it",
            hint=f"use https, or where the network is trusted: cudabuild login {address.url} --allow-http",
        )


def file_of(address: Address, environ: Mapping[str, str]) -> Path:
    """Where a server's token lies: ``servers/HOST-HASH.json`` beside the configuration file."""
    digest = hashlib.sha256(address.url.encode()).hexdigest()[:12]
    name = re.sub(r"[^a-z0-9.-]", "_", address.host)[:64]
    return config_file(environ).parent / "servers" / f"{name}-{digest}.json"


def read_kept(address: Address, environ: Mapping[str, str]) -> Kept | None:
    """What was kept of a server; None where nothing was. Raises ConfigError."""
    file = file_of(address, environ)
    try:
        with file.open("rb") as stream:
            status, data = os.fstat(stream.fileno()), stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read", evidence=str(error), hint=f"check `ls -l {file}`") from error
    if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
        hint = f"chmod 600 {file}   (and make a new token if others can have read it)"
        raise ConfigError(f"{file}: others can read the token in it", hint=hint)
    try:
        return Kept.model_validate_json(data)
    except ValidationError:  # without the input, which holds the token
        hint = f"cudabuild login {address.url}   writes it anew"
        raise ConfigError(f"{file}: is not what `cudabuild login` writes", hint=hint) from None


def keep(address: Address, token: str, environ: Mapping[str, str], *, allow_http: bool) -> Path:
    """Keep a token, in one step; the file. Raises OSError."""
    file = file_of(address, environ)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = Kept(server=address.url, token=token, allow_http=allow_http)
    descriptor, name = tempfile.mkstemp(prefix=".token-", dir=file.parent)  # 0600 from its first moment on
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(kept.model_dump_json(by_alias=True) + "\n")
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return file


def forget(address: Address, environ: Mapping[str, str]) -> Path | None:
    """Take a server's file away; None where there was none."""
    file = file_of(address, environ)
    try:
        file.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return file
