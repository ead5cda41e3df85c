"""The index as an ASGI application (simple repository API 1.4: PEP 503, 592, 658, 691, 700, 714, 792)."""

from __future__ import annotations

import json
import re

import anyio
import anyio.to_thread
from packaging.utils import canonicalize_name
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from buildkit.errors import CudabuildError
from buildkit.index import answers, uploads
from buildkit.index.catalogue import Catalogue, Damaged
from buildkit.index.missing import Missing, missing_file, missing_project, missing_variant
from buildkit.index.ranges import etag_matches
from buildkit.index.readers import ReadersOnly
from buildkit.index.sending import file_answer
from buildkit.index.settings import IndexSettings
from buildkit.index.shelf import Shelf, body_of
from buildkit.index.store_routes import store_routes
from buildkit.index.variants import read_variant
from buildkit.progress import Reporter
from buildkit.store.release import Release
from buildkit.store.store import Store

MOST_OPENING = 4
"""Files that are opened, and hashed where that is due, at a time: other threads go on sending what is open."""
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def create_app(store: Store, settings: IndexSettings, reporter: Reporter | None = None) -> Starlette:
    """The application; everything it serves lies in ``store``. ``reporter`` hears of damaged files."""
    index = Index(Catalogue(store, settings, reporter))
    routes = [
        Route("/", index.front),
        Route("/{variant}/", index.to_variant),
        Route("/{variant}/simple/", index.variant),
        Route("/{variant}/simple", index.to_folder),
        Route("/{variant}/simple/{name}/", index.project),
        Route("/{variant}/simple/{name}", index.project_without_slash),
        Route("/{variant}/files/{filename}", index.file),
        *(uploads.routes(store, settings.uploads) if settings.uploads else ()),
        *(store_routes(store, settings.signing_key) if settings.share_store else ()),
    ]
    layers = [Middleware(ReadersOnly, tokens=settings.readers)] if settings.readers else []
    app = Starlette(
        routes=routes,
        middleware=layers,
        exception_handlers={404: _nothing_here, 405: _wrong_method, CudabuildError: _failed},
    )
    app.router.redirect_slashes = False
    return app


class Index:
    """The endpoints."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.settings = catalogue.settings
        self._opening = anyio.CapacityLimiter(MOST_OPENING)

    async def shelf(self) -> Shelf:
        """What is served now."""
        shelf = self.catalogue.current()
        return shelf if shelf is not None else await anyio.to_thread.run_sync(self.catalogue.read)

    async def front(self, request: Request) -> Response:
        """The page for people."""
        from buildkit.index.people import front_page, policy

        text = front_page(await self.shelf(), self.settings, str(request.base_url))
        headers = {"Content-Security-Policy": policy(), "Cache-Control": "no-cache", **answers.SAFE}
        return Response(text, headers=headers, media_type="text/html")

    async def to_variant(self, request: Request) -> Response:
        """``/VARIANT/`` to the variant's list of projects."""
        return answers.moved("simple/", request)

    async def to_folder(self, request: Request) -> Response:
        """``.../simple`` to ``.../simple/``."""
        return answers.moved("simple/", request)

    async def variant(self, request: Request) -> Response:
        """The projects of a variant."""
        form = answers.wanted_form(request)
        if form is None:
            return answers.not_acceptable(request)
        shelf = await self.shelf()
        variant = request.path_params["variant"]
        body = shelf.variant_body(variant, form)
        return answers.page(request, body) if body else _missing(request, missing_variant(shelf, variant))

    async def project_without_slash(self, request: Request) -> Response:
        """To the page of the normalised name."""
        name = request.path_params["name"]
        if not _NAME.fullmatch(name):
            return _missing(request, Missing("no-such-project", f"{name!r} cannot be the name of a project"))
        return answers.moved(f"{canonicalize_name(name)}/", request)

    async def project(self, request: Request) -> Response:
        """The files of a project in a variant."""
        name, variant = request.path_params["name"], request.path_params["variant"]
        if not _NAME.fullmatch(name):
            return _missing(request, Missing("no-such-project", f"{name!r} cannot be the name of a project"))
        if canonicalize_name(name) != name:
            return answers.moved(f"../{canonicalize_name(name)}/", request)
        form = answers.wanted_form(request)
        if form is None:
            return answers.not_acceptable(request)
        shelf = await self.shelf()
        body = shelf.project_body(variant, name, form)
        return answers.page(request, body) if body else self._project_elsewhere(request, shelf, variant, name)

    def _project_elsewhere(self, request: Request, shelf: Shelf, variant: str, name: str) -> Response:
        """A project that is not here. A name that is owned here never comes from another index."""
        is_owned, is_path = name in shelf.owned, read_variant(variant) is not None
        if self.settings.upstream and is_path and not is_owned:
            return answers.sent_elsewhere(f"{self.settings.upstream.rstrip('/')}/{name}/")
        if variant not in shelf.variants and not (is_owned and is_path):
            return _missing(request, missing_variant(shelf, variant))
        return _missing(request, missing_project(shelf, variant, name, self.settings.upstream))

    async def file(self, request: Request) -> Response:
        """A wheel, its METADATA, or its verdict."""
        filename, variant = request.path_params["filename"], request.path_params["variant"]
        wheel, _, beside = _beside(filename)
        shelf = await self.shelf()
        release = shelf.file(variant, wheel)
        if release is None:
            return _missing(request, missing_file(shelf, variant, wheel))
        try:
            if beside == "verdict.json":
                return _verdict(request, release)
            if beside == "metadata":
                data = await anyio.to_thread.run_sync(self.catalogue.metadata, release, limiter=self._opening)
                return _metadata(request, release, data)
            descriptor = await anyio.to_thread.run_sync(self.catalogue.open, release, limiter=self._opening)
        except Damaged as damage:
            hint = "build it again, or take another version"
            return _missing(request, Missing("damaged-wheel", f"{wheel} is not served: {damage}", hint))
        return file_answer(request, descriptor, release.sha256)


def _beside(filename: str) -> tuple[str, str, str]:
    """A wheel's name and what of it is meant: nothing (the wheel), ``metadata`` or ``verdict.json``."""
    for ending in ("metadata", "verdict.json"):
        if filename.endswith(f".whl.{ending}"):
            return filename.removesuffix(f".{ending}"), ".", ending
    return filename, "", ""


def _metadata(request: Request, release: Release, data: bytes) -> Response:
    etag = f'"{release.metadata_sha256}"'
    headers = {"ETag": etag, "Cache-Control": answers.FILE_AGE, **answers.SAFE}
    if etag_matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type="application/octet-stream")


def _verdict(request: Request, release: Release) -> Response:
    said = {
        "schema": 1,
        "filename": release.filename,
        "sha256": release.sha256,
        "grade": release.grade,
        "targets": list(release.targets),
        "torch": release.torch,
        "verdict": release.verdict,
    }
    return answers.page(request, body_of(json.dumps(said, indent=1).encode() + b"\n", "application/json"))


def _missing(request: Request, missing: Missing) -> Response:
    more = {"variants": missing.variants, "command": missing.command, "names": missing.names}
    return answers.error(request, 404, missing.kind, missing.message, hint=missing.hint, more=more)


async def _nothing_here(request: Request, _error: Exception) -> Response:
    hint = "wheels stand under /VARIANT/simple/, for example /pt2.13-cu130/simple/; / lists what is here"
    return answers.error(request, 404, "not-found", f"{request.url.path} is nothing of this index", hint=hint)


async def _wrong_method(request: Request, error: Exception) -> Response:
    told = (getattr(error, "headers", None) or {}).get("Allow", "GET, HEAD")
    allowed = ", ".join(sorted(told.split(", ")))  # the routes keep a set
    said = f"{request.method} is nothing that {request.url.path} takes"
    hint = f"it takes {allowed}; wheels are uploaded to /legacy/"
    answer = answers.error(request, 405, "wrong-method", said, hint=hint)
    answer.headers["Allow"] = allowed
    return answer


async def _failed(request: Request, error: Exception) -> Response:
    kind, hint = (error.kind, error.hint) if isinstance(error, CudabuildError) else ("error", "")
    return answers.error(request, 500, kind, str(error), hint=hint)
