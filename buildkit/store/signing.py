"""Signatures (Ed25519) on what stores pass on to each other: who signed it is believed, everybody else is checked.

A key and a signature are words, ``ed25519:BASE64``; a signature file or header is the key and the signature, with a
blank between them.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.errors import StoreError
from buildkit.store.disk import disk_causes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HEADER = "Cudabuild-Signature"
_PREFIX = "ed25519:"
_CONTEXT = b"cudabuild store document\0"
"""Signed with everything, so that a signature is of use for nothing else."""


class BadSignature(StoreError):
    """Something says that a trusted key has signed it, and that key has not."""

    kind = "bad-signature"


def new_key(path: Path) -> str:
    """Make a private key in a file of this user's alone; returns the public one. StoreError if one is there."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with disk_causes(path.parent, hint="set CUDABUILD_CONFIG to a file in a folder of your own"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            raise StoreError(f"there is a key already: {path}", hint="cudabuild cache key show") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    return public_key(path)


def public_key(path: Path) -> str:
    """The public key to a private one. StoreError where there is none, or none that can be read."""
    return _word(_private(path).public_key().public_bytes_raw())


def sign(path: Path, document: bytes) -> str:
    """The signature of a document by the private key in ``path``, with the public key before it."""
    key = _private(path)
    return f"{_word(key.public_key().public_bytes_raw())} {_word(key.sign(_CONTEXT + document))}"


def signer(document: bytes, signature: str, trusted: Collection[str]) -> str:
    """Which of the trusted keys has signed a document; empty for none of them.

    BadSignature if one of them is named that has not.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    public, _, rest = signature.strip().partition(" ")
    if public not in trusted:
        return ""
    with contextlib.suppress(ValueError, InvalidSignature):
        Ed25519PublicKey.from_public_bytes(_bytes(public)).verify(_bytes(rest), _CONTEXT + document)
        return public
    raise BadSignature(
        f"it says that {public} has signed it, and that is not so",
        hint="somebody has changed it after it was signed: get it anew from where it comes from",
    )


def _private(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise StoreError("there is no key to sign with", evidence=str(path), hint="cudabuild cache key new") from None
    except (OSError, ValueError, TypeError) as error:
        hint = "move it away, then: cudabuild cache key new"
        raise StoreError(f"the key {path} cannot be read", evidence=str(error), hint=hint) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(
            f"the key {path} is of another kind: Ed25519 is needed", hint="move it away, then: cudabuild cache key new"
        )
    return key


def _word(data: bytes) -> str:
    return _PREFIX + base64.b64encode(data).decode("ascii")


def _bytes(word: str) -> bytes:
    if not word.startswith(_PREFIX):
        raise ValueError(word)
    return base64.b64decode(word.removeprefix(_PREFIX), validate=True)
