"""Fetching a wheel from a server: whole, with the hash that was promised, or not at all."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildkit.cli.client_http import Lost, Server, not_ours
from buildkit.errors import HashMismatch, IndexRefused
from buildkit.progress import Reporter

TRIES = 4
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*\.whl")
_CHUNK = 1 << 20


def fetch_wheel(server: Server, wheel: Mapping[str, Any], folder: Path, reporter: Reporter) -> Path:
    """The wheel in ``folder`` under its own name; one with the same bytes that is there already is taken.

    Raises HashMismatch, IndexRefused where the server does not hand it out, ServerUnreachable, and OSError.
    """
    name, sha256, size = str(wheel.get("filename")), str(wheel.get("sha256")), int(wheel.get("size") or 0)
    if not _NAME.fullmatch(name) or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise not_ours(server.url, f"{name} {sha256}")
    place = folder.absolute() / name
    if place.is_file() and _sha256(place) == sha256:
        return place
    url = wheel.get("url")
    if not isinstance(url, str) or not url:
        raise IndexRefused(
            f"{name} is built and proven, and {server.url} does not hand it out",
            hint="its licence or the index's settings say so: `cudabuild serve` on the server tells why",
        )
    folder.mkdir(parents=True, exist_ok=True)
    reporter.phase("download", name)
    partial = place.with_name(f".{name}.part")
    try:
        _patiently(server, url, partial, size, reporter)
        if (found := _sha256(partial)) != sha256:
            raise HashMismatch(
                f"{name} came with other bytes than the server promised",
                evidence=f"sha256 {found} instead of {sha256}",
                hint="the same command again; if it stays so, something between here and the server changes files",
            )
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)
    return place


def _patiently(server: Server, url: str, partial: Path, size: int, reporter: Reporter) -> None:
    """All of it, from where a broken connection left it."""
    partial.unlink(missing_ok=True)
    tries = 1
    while not _came(server, url, partial, size, reporter, last=tries >= TRIES):
        time.sleep(0.5 * tries)
        tries += 1


def _came(server: Server, url: str, partial: Path, size: int, reporter: Reporter, *, last: bool) -> bool:
    try:
        _download(server, url, partial, size, reporter)
    except Lost:
        if last:
            raise
        return False
    return True


def _download(server: Server, url: str, partial: Path, size: int, reporter: Reporter) -> None:
    done = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with server.open(url, headers) as response, partial.open("ab") as file:
        if response.status_code != 206:
            done = 0
            file.truncate(0)
        for piece in response.iter_bytes(_CHUNK):
            file.write(piece)
            done += len(piece)
            if size and done > size:
                return  # the hash will say the rest
            reporter.transfer(done, size)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
