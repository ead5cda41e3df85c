"""The application: API, health, then whatever pages there are, and the index behind them, all inside one gate."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio.to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from buildkit import __version__
from buildkit.errors import CudabuildError
from buildkit.index.app import create_app as create_index
from buildkit.index.settings import IndexSettings
from buildkit.progress import Reporter
from buildkit.service import api_builds, api_looks, api_plan, problems
from buildkit.service.access import Gate, Policy, is_upload, route_path
from buildkit.service.following import events_of
from buildkit.service.measuring import metrics_of
from buildkit.service.metrics import CONTENT_TYPE, Measured, Metrics
from buildkit.service.openapi import describe
from buildkit.service.service import Service

LOG = logging.getLogger("cudabuild.service")
TITLE = "cudabuild"


def create_service_app(
    service: Service,
    index: IndexSettings,
    policy: Policy,
    *,
    reporter: Reporter | None = None,
    pages: Sequence[BaseRoute] = (),
) -> Gate:
    """The whole of it. ``pages`` are routes that come before the index's; ``app.state.service`` is the service."""
    app = create_api(service)
    app.state.events = events_of(service)
    app.state.metrics = metrics_of(service, app.state.events)
    wheels = create_index(service.catalogue.store, index, reporter)
    own = [Route("/metrics", _metrics), Route("/api/{rest:path}", _Otherwise(app, wheels))]
    app.router.routes.extend([*pages, *own])
    app.mount("/", wheels)
    return Gate(Measured(app, app.state.metrics), policy)


def create_api(service: Service) -> FastAPI:
    """The API alone, without gate and index."""
    app = FastAPI(title=TITLE, version=__version__, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.state.service = service
    app.include_router(api_builds.router)
    app.include_router(api_plan.router)
    app.include_router(api_looks.router)
    app.include_router(api_looks.health)
    app.add_exception_handler(CudabuildError, _failed)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _broken)
    app.openapi = describe(app)  # type: ignore[method-assign]
    return app


class _Otherwise:
    """What no route of the API takes: the index's own path below it, and refusals in the API's form."""

    def __init__(self, app: FastAPI, index: ASGIApp) -> None:
        self._app, self._index = app, index

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it."""
        path, method = route_path(scope), scope["method"]
        if is_upload(path):
            await self._index(scope, receive, send)
            return
        other = {name: scope[name] for name in ("type", "headers", "app")} | {"root_path": "", "path": path}
        is_there = any(
            route.matches({**other, "method": one})[0] is Match.FULL
            for one in {"GET", "POST"} - {method}
            for route in self._app.router.routes
            if not isinstance(route, (Mount, Route)) or isinstance(route, APIRoute)
        )
        status, said = (405, f"cannot be asked with {method}") if is_there else (404, "is nothing of this API")
        answer = problems.problem(status, f"{path} {said}", hint="see /openapi.json")
        await answer(scope, receive, send)


async def _metrics(request: Request) -> Response:
    """For Prometheus; needs the scope read wherever that is needed."""
    metrics: Metrics = request.app.state.metrics
    text = await anyio.to_thread.run_sync(metrics.render)
    return Response(text, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, CudabuildError)  # noqa: S101 - what the handler is for
    answer = problems.of_error(error)
    if answer.status_code >= 500:
        LOG.error("%s %r: %s (%s)", request.method, request.url.path, error.message, error.evidence)
    return answer


async def _not_understood(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    hint = "what is understood stands in /openapi.json"
    if first["loc"] == ("body",) and "json" not in request.headers.get("content-type", ""):
        hint = "send it with the header Content-Type: application/json"
    return problems.problem(422, f"{where}: {first['msg']}".replace("\n", " "), hint=hint)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return problems.problem(error.status_code, detail, headers=error.headers, hint="see /openapi.json")


async def _broken(request: Request, error: Exception) -> Response:
    LOG.error("%s %r broke", request.method, request.url.path, exc_info=error)
    return problems.problem(500, "the service itself failed; its log says how")
