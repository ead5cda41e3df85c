"""Who may do what on an index: tokens with scopes, of which only hashes are kept.

A token has 256 random bits, so its plain SHA-256 says nothing of it, and checking one costs next to nothing.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from buildkit.errors import ConfigError, UsageError
from buildkit.file_identity import FileIdentity, identity_if_any
from buildkit.index.refused import Refused
from buildkit.store.disk import disk_causes, make_folder, new_file, write_all
from buildkit.store.locks import file_lock
from buildkit.store.model import Moment, Sha256, first_line, utc_now

Scope = Literal["read", "build", "upload", "verify", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "build", "upload", "verify", "admin")
TokenName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

_PREFIX = "cudabuild_"
"""So that a token that leaked is known for what it is."""
_LONGEST = 4096
"""Characters of an Authorization header."""
_OTHER_FILE = "name another file: --file PATH"
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="cudabuild", charset="UTF-8"'}


class Token(BaseModel):
    """A token's name, what it may do, and the SHA-256 of what its bearer sends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: TokenName
    sha256: Sha256
    scopes: tuple[Scope, ...] = Field(min_length=1)
    created: Moment

    def may(self, scope: Scope) -> bool:
        """Whether it has this scope; every token may read, and ``admin`` may do all."""
        return scope == "read" or scope in self.scopes or "admin" in self.scopes


class TokenFile(BaseModel):
    """The file of all tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal[1] = Field(1, alias="schema")
    tokens: tuple[Token, ...] = ()


class Tokens:
    """The tokens of a file, read again when it changes: a revoked one ends with the next request."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._known: tuple[Token, ...] = ()
        self._identity: FileIdentity | None = None

    def allowed(self, authorization: str | None, scope: Scope) -> Token:
        """The token that a request bears. Raises Refused: 401 without a known one, 403 where it lacks the scope."""
        secret = secret_of(authorization)
        if secret is None:
            raise Refused(401, f"this needs a token with the scope {scope}", _CHALLENGE)
        token = self._find(secret)
        if token is None:
            raise Refused(401, "this token is not known here: it was revoked, or is another index's", _CHALLENGE)
        if not token.may(scope):
            raise Refused(403, f"the token {token.name} has no scope {scope} (it has {', '.join(token.scopes)})")
        return token

    def _find(self, secret: str) -> Token | None:
        """Every hash is compared, whichever fits, and each in the same time."""
        digest = _digest(secret)
        found = None
        for token in self._current():
            if hmac.compare_digest(token.sha256, digest):
                found = token
        return found

    def _current(self) -> tuple[Token, ...]:
        if self._file is None:
            return ()
        identity = identity_if_any(self._file)
        if identity != self._identity:
            self._known, self._identity = read_tokens(self._file), identity
        return self._known


def secret_of(authorization: str | None) -> str | None:
    """The token in an Authorization header: a bearer's, or the password of whatever user (twine, uv, pip)."""
    kind, _, value = (authorization or "")[:_LONGEST].partition(" ")
    value = value.strip()
    if kind.lower() == "bearer":
        return value or None
    if kind.lower() != "basic":
        return None
    try:
        pair = base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    return pair.partition(":")[2] or None


def read_tokens(file: Path) -> tuple[Token, ...]:
    """The tokens in a file; none where there is no file.

    Raises ConfigError for one that does not parse, or that others than its owner may write.
    """
    try:
        with file.open("rb") as stream:
            mode, data = os.fstat(stream.fileno()), stream.read()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read", evidence=str(error), hint=f"check `ls -l {file}`") from error
    if mode.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or mode.st_uid not in (0, os.geteuid()):
        raise ConfigError(f"{file}: others may write it, and so make tokens", hint=f"chmod 600 {file}")
    try:
        return TokenFile.model_validate_json(data).tokens
    except ValidationError as error:
        # Without the input: a person may have written a token itself where its hash belongs.
        hint = f"move {file} away and make new tokens: cudabuild token new NAME --scope upload"
        raise ConfigError(f"{file}: is not a file of tokens: {first_line(error)}", hint=hint) from None


def new_token(file: Path, name: str, scopes: Sequence[Scope]) -> str:
    """Make a token, keep its hash in ``file``, and return it, for the only time. Raises UsageError, ConfigError."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    try:
        token = Token(name=name, sha256=_digest(secret), scopes=tuple(dict.fromkeys(scopes)), created=utc_now())
    except ValidationError as error:
        hint = "begin with a letter or digit; then letters, digits, dots, dashes and underscores, 64 in all at most"
        raise UsageError(f"{name!r} cannot be a token's name: {first_line(error)}", hint=hint) from None
    with _changing(file) as tokens:
        if any(other.name == name for other in tokens):
            raise UsageError(f"there is a token {name} already", hint=f"cudabuild token revoke {name}, or another name")
        _write(file, (*tokens, token))
    return secret


def revoke_token(file: Path, name: str) -> Token:
    """Take a token out; a running index refuses it from the next request on. Raises UsageError, ConfigError."""
    with _changing(file) as tokens:
        found = next((token for token in tokens if token.name == name), None)
        if found is None:
            known = ", ".join(token.name for token in tokens) or "none"
            raise UsageError(f"there is no token {name} in {file}", evidence=f"known: {known}",
                             hint="cudabuild token list")  # fmt: skip
        _write(file, tuple(token for token in tokens if token is not found))
    return found


@contextlib.contextmanager
def _changing(file: Path) -> Iterator[tuple[Token, ...]]:
    if not file.name or file.is_dir():
        raise ConfigError(f"{file}: is a folder, and tokens are kept in a file", hint="name a file: --file PATH")
    with disk_causes(file.parent, hint=_OTHER_FILE):
        make_folder(file.parent)
    with file_lock(file.with_name(f".{file.name}.lock")):
        yield read_tokens(file)


def _write(file: Path, tokens: tuple[Token, ...]) -> None:
    text = TokenFile(tokens=tokens).model_dump_json(by_alias=True, indent=1)
    with disk_causes(file.parent, hint=_OTHER_FILE), new_file(file, file.parent) as descriptor:
        os.fchmod(descriptor, 0o600)
        write_all(descriptor, text.encode() + b"\n")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
