"""Requests to an ASGI application without a network: an upload's form, sent in pieces, broken off, or as any bytes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOUNDARY = "b0undary"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str


def basic(secret: str, user: str = "__token__") -> dict[str, str]:
    """The header that twine and uv send."""
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()}


def upload_form(wheel: Path, **changes: str | None) -> bytes:
    """The form that twine sends for a wheel, with fields changed, added, or (None) left out."""
    data = wheel.read_bytes()
    name, version = wheel.name.split("-")[:2]
    fields: dict[str, str | None] = {
        ":action": "file_upload",
        "protocol_version": "1",
        "filetype": "bdist_wheel",
        "name": name,
        "version": version,
        "classifiers": "Private :: Do Not Upload",
        "sha256_digest": hashlib.sha256(data).hexdigest(),
        "blake2_256_digest": hashlib.blake2b(data, digest_size=32).hexdigest(),
        "md5_digest": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        **{name.replace("action", ":action"): value for name, value in changes.items()},
    }
    return form([(name, value.encode()) for name, value in fields.items() if value is not None], wheel.name, data)


def form(fields: Sequence[tuple[str, bytes]], filename: str, data: bytes) -> bytes:
    """A multipart form with one file."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
        for name, value in fields
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="content"; filename="{filename}"\r\n'
    parts.append(head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + data + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def post(
    app: Any,
    path: str,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    piece: int = 1 << 16,
    method: str = "POST",
    breaks_off: bool = False,
    content_type: str = f"multipart/form-data; boundary={BOUNDARY}",
) -> Answer:
    """Send a body in pieces; with ``breaks_off`` the client goes away where it ends."""
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)] or [b""]
    messages = [{"type": "http.request", "body": each, "more_body": True} for each in pieces]
    if breaks_off:
        messages.append({"type": "http.disconnect"})
    else:
        messages[-1]["more_body"] = False
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        assert messages, "the application waits for what never comes"
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    given = {"content-type": content_type, **(headers or {})}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "server": ("127.0.0.1", 80),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    answer = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], answer, b"".join(each.get("body", b"") for each in sent[1:]).decode())
