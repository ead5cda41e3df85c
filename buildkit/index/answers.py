"""Answers over HTTP: a page in the form that was asked for, 304 where the client has it, errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from buildkit.index.negotiation import LEGACY_HTML, OFFERED, asked_by_format, choose, error_form
from buildkit.index.ranges import etag_matches
from buildkit.index.shelf import Body

PAGE_AGE = "max-age=600"
"""Pages change; installers send max-age=0 and get 304."""
FILE_AGE = "public, max-age=31536000, immutable"
"""A file name means one content for ever."""
HTML_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def wanted_form(request: Request) -> str | None:
    """The media type of a page for this request; None: there is none that the client takes."""
    named = request.query_params.get("format")
    if named is not None:
        return asked_by_format(named)
    return choose(request.headers.get("accept", ""))


def not_acceptable(request: Request) -> Response:
    """406, with the types that there are."""
    said = f"this page is there as {', '.join(OFFERED)}"
    return error(request, 406, "not-acceptable", said, hint=f"ask with the header `Accept: {OFFERED[1]}`")


def page(request: Request, body: Body) -> Response:
    """A page, or 304 where the client has this very form of it."""
    headers = {"ETag": body.etag, "Cache-Control": PAGE_AGE, "Vary": "Accept", **SAFE}
    if etag_matches(request.headers.get("if-none-match", ""), body.etag):
        return Response(status_code=304, headers=headers)
    if body.media_type.endswith("html"):
        headers["Content-Security-Policy"] = HTML_POLICY
    return Response(body.content, headers=headers, media_type=_with_charset(body.media_type))


def moved(location: str, request: Request) -> Response:
    """301 to a place relative to this one; the query goes along."""
    query = f"?{request.url.query}" if request.url.query else ""
    return Response(status_code=301, headers={"Location": f"{location}{query}", "Cache-Control": PAGE_AGE, **SAFE})


def sent_elsewhere(url: str) -> Response:
    """302 to another index; not to be remembered, since tomorrow the name may be owned here."""
    return Response(status_code=302, headers={"Location": url, "Cache-Control": "no-store", **SAFE})


def error(
    request: Request, status: int, kind: str, message: str, *, hint: str = "", more: Mapping[str, Any] | None = None
) -> Response:
    """What failed, and what to do, as JSON, HTML or text. ``more`` are further facts: lists or texts by name."""
    form = error_form(request.headers.get("accept", ""))
    headers = {"Cache-Control": "no-cache", "Vary": "Accept", **SAFE}
    facts = {name: value for name, value in (more or {}).items() if value}
    if form == "application/json":
        said = {"schema": 1, "error": {"kind": kind, "message": message, "hint": hint, **facts}}
        return Response(json.dumps(said, ensure_ascii=False), status, headers, media_type=form)
    lines = [message, *(f"{name}: {_spelled(value)}" for name, value in facts.items()), *([hint] if hint else [])]
    if form == LEGACY_HTML:
        headers["Content-Security-Policy"] = HTML_POLICY
        text = "".join(f"<p>{escape(line)}</p>\n" for line in lines)
        title = f"{status} {escape(kind)}"
        html = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body>\n'
        return Response(f"{html}<h1>{title}</h1>\n{text}</body></html>\n", status, headers, media_type=LEGACY_HTML)
    return Response("\n".join(lines) + "\n", status, headers, media_type="text/plain")


def _spelled(value: Any) -> str:
    return ", ".join(str(part) for part in value) if isinstance(value, (list, tuple)) else str(value)


def _with_charset(media_type: str) -> str:
    """HTML without a charset would be read in the reader's own; JSON is UTF-8 by its standard."""
    return f"{media_type}; charset=utf-8" if media_type.endswith("html") else media_type
