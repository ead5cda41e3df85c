"""What shims, builds and the broker say to each other: one message a line, words separated by tabs.

The first word is the verb; the others are ``key=value``, each byte of the value outside of ``A-Z a-z 0-9 . _ / + -``
written as ``%XX``. Version 1. ``docs/explanation/memory-admission.md`` lists the verbs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

VERSION = 1
LONGEST = 64 * 1024
"""Bytes of one message; who sends more is not one of us."""

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/+-")
_WORD = re.compile(r"[a-z]+")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


class BadMessage(ValueError):
    """A line that is none of the protocol's."""


@dataclass(frozen=True)
class Message:
    """A verb and its values."""

    verb: str
    values: Mapping[str, str] = field(default_factory=dict)

    def text(self, key: str, default: str = "") -> str:
        """A value; the default where the key is missing."""
        return self.values.get(key, default)

    def number(self, key: str, default: int = 0) -> int:
        """A whole number of at least 0; the default where the key is missing. Raises BadMessage."""
        value = self.values.get(key)
        if value is None:
            return default
        if not re.fullmatch(r"\d{1,18}", value, re.ASCII):
            raise BadMessage(f"{key} is no number: {value[:40]!r}")
        return int(value)

    def seconds(self, key: str) -> float:
        """A number with a fraction; 0 where the key is missing. Raises BadMessage."""
        value = self.values.get(key, "0")
        if not re.fullmatch(r"\d{1,12}(\.\d{1,12})?", value, re.ASCII):
            raise BadMessage(f"{key} is no number of seconds: {value[:40]!r}")
        return float(value)


def encode(verb: str, **values: object) -> bytes:
    """One line. Floats are written with milliseconds."""
    words = [verb, *(f"{key}={_escape(value)}" for key, value in values.items())]
    return ("\t".join(words) + "\n").encode("ascii")


def decode(line: bytes) -> Message:
    """The message of one line (without its line feed). Raises BadMessage."""
    try:
        verb, *words = line.decode("ascii").split("\t")
    except UnicodeDecodeError as error:
        raise BadMessage("bytes outside of ASCII") from error
    if not _WORD.fullmatch(verb):
        raise BadMessage(f"not a verb: {verb[:40]!r}")
    values: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not _WORD.fullmatch(key):
            raise BadMessage(f"not key=value: {word[:40]!r}")
        values[key] = _unescape(value)
    return Message(verb, values)


def _escape(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    raw = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)


def _unescape(text: str) -> str:
    raw = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), text.encode("ascii"))
    return raw.decode("utf-8", "surrogateescape")


class Lines:
    """Bytes as they come, as messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that this chunk completes. Raises BadMessage."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LONGEST:
            raise BadMessage("a line without an end")
        return [decode(line) for line in lines]
