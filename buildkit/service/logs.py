"""The service's own log: one JSON object a line, secrets taken out; and builds' logs over all their attempts."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from buildkit.process import redact
from buildkit.store.model import utc_now

_SECRETS = (
    (re.compile(r"\bcudabuild_[A-Za-z0-9_-]{16,}"), "cudabuild_***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}"), r"\1 ***"),
    (re.compile(r"(?i)\b(password|passwd|secret|token|api_?key)(\s*[=:]\s*)[^\s,;&\"']+"), r"\1\2***"),
)
NAMES = ("cudabuild", "uvicorn.error")


def without_secrets(text: str) -> str:
    """The text with tokens, passwords and users of URLs hidden."""
    text = redact(text)
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


class JsonLines(logging.Formatter):
    """A record as one line of JSON: control characters are escaped, so that nothing in it begins a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Time (UTC), level, logger, message, and what was passed as ``extra={"facts": {...}}``."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        facts = {name: _plain(value) for name, value in getattr(record, "facts", {}).items()}
        said = {"time": utc_now(), "level": record.levelname.lower(), "logger": record.name}
        return json.dumps({**said, "message": without_secrets(text), **facts})


class PlainLines(logging.Formatter):
    """For a terminal: the message, control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or a traceback's lines."""
        text = without_secrets(record.getMessage())
        facts = " ".join(f"{name}={_plain(value)}" for name, value in getattr(record, "facts", {}).items())
        line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in f"{text} {facts}".rstrip())
        trace = f"\n{without_secrets(self.formatException(record.exc_info))}" if record.exc_info else ""
        return line + trace


def log_to(stream: IO[str] | None = None, *, as_json: bool, level: int = logging.INFO) -> logging.Handler:
    """Write the service's log to a stream (standard error) from now on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if as_json else PlainLines())
    for name in NAMES:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(level if name == "cudabuild" else logging.WARNING)
    return handler


def _plain(value: object) -> object:
    return without_secrets(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class BuildLog:
    """A build's log: the files of its attempts, in order, as if they were one."""

    files: Sequence[Path]

    def size(self) -> int:
        """Bytes that are there now."""
        return sum(_size(file) for file in self.files)

    def read(self, at: int, count: int) -> bytes:
        """At most ``count`` bytes from a byte on; nothing behind the end."""
        for file in self.files:
            size = _size(file)
            if at < size:
                with suppress(FileNotFoundError), file.open("rb") as stream:  # taken away meanwhile
                    return os.pread(stream.fileno(), min(count, size - at), at)
                return b""
            at -= size
        return b""


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def text_of(data: bytes) -> str:
    """Bytes of a log as text from which the very bytes can be had again (PEP 383)."""
    return data.decode("utf-8", "surrogateescape")


def whole_characters(data: bytes) -> bytes:
    """The data without a character that is not all there yet."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        wanted = 2 if byte >> 5 == 6 else 3 if byte >> 4 == 14 else 4 if byte >> 3 == 30 else 1
        return data[:-back] if wanted > back else data
    return data
