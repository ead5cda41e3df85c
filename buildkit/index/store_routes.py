"""A store for other cudabuilds, read only: the server's half of :mod:`buildkit.store.shared`.

    GET /store/entries/KEY.json      the entry's file; signed in a header where the server has a key
    GET /store/families/FAMILY.json  {"schema": 1, "keys": [...]}: entries that differ in their targets only
    GET /store/blobs/SHA256          the wheel's bytes

Everything is told by a hash or a key, so that nothing can be listed; entries of wheels that are missing or damaged
are found out by whoever reads the bytes.
"""

from __future__ import annotations

import re
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from buildkit.store.model import is_name
from buildkit.store.signing import HEADER, sign
from buildkit.store.store import Store

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}


def store_routes(store: Store, signing_key: Path | None = None) -> list[Route]:
    """The routes. Entries are signed with the key in ``signing_key``, where such a file is there."""
    served = _Served(store, signing_key)
    return [
        Route("/store/entries/{key}.json", served.entry),
        Route("/store/families/{family}.json", served.family),
        Route("/store/blobs/{sha256}", served.blob),
    ]


class _Served:
    def __init__(self, store: Store, signing_key: Path | None) -> None:
        self._store = store
        self._key = signing_key

    async def entry(self, request: Request) -> Response:
        """One entry."""
        return await run_in_threadpool(self._entry, request.path_params["key"])

    async def family(self, request: Request) -> Response:
        """The keys of a family, newest first."""
        family = request.path_params["family"]
        found = await run_in_threadpool(self._store.candidates, family) if is_name(family) else []
        return JSONResponse({"schema": 1, "keys": [entry.key for entry in found]})

    async def blob(self, request: Request) -> Response:
        """The bytes of one wheel."""
        sha256 = request.path_params["sha256"]
        path = self._store.blobs.path(sha256)
        if not _SHA256.fullmatch(sha256) or not path.is_file():
            return _nothing()
        headers = {**_FOREVER, "ETag": f'"{sha256}"'}
        return FileResponse(path, headers=headers, media_type="application/octet-stream")

    def _entry(self, key: str) -> Response:
        data = self._store.entry_bytes(key) if is_name(key) else None
        if data is None:
            return _nothing()
        headers = {"Cache-Control": "no-cache"}
        if self._key is not None and self._key.is_file():
            headers[HEADER] = sign(self._key, data)
        return Response(data, headers=headers, media_type="application/json")


def _nothing() -> Response:
    return JSONResponse({"schema": 1, "error": {"kind": "not-here", "message": "there is no such thing here"}}, 404)
