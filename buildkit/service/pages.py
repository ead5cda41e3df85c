"""The service's pages: recipes by variants, builds, one build, the machine, a form. They work without script, too."""

from __future__ import annotations

import logging
import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio.to_thread
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from buildkit.diagnose.shown import hint_of
from buildkit.errors import CudabuildError, UsageError
from buildkit.report.html import STATIC as REPORT_STATIC
from buildkit.report.html import environment
from buildkit.service.access import Who
from buildkit.service.answers import ENDED, BuildRequest
from buildkit.service.pages_data import KNOWN_GRADES, STATUSES, Filter
from buildkit.service.pages_desk import Desk
from buildkit.service.problems import status_of

TEMPLATES = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"
ROOT = "/ui"
"""Where the pages begin."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_FILES = {
    path.name: path
    for folder in (REPORT_STATIC, STATIC)
    for path in sorted(folder.iterdir())
    if path.suffix in {".js", ".css"}
}
_LONGEST_FIELD = 2000
"""Characters of a form's field."""
LOG = logging.getLogger("cudabuild.service")


def routes(desk: Desk) -> list[BaseRoute]:
    """The pages' routes, below :data:`ROOT`."""
    pages = Pages(desk)
    return [
        Route(f"{ROOT}/", pages.matrix, name="ui"),
        Route(ROOT, lambda request: RedirectResponse(_url(request, "/"), 308)),
        Route(f"{ROOT}/builds", pages.builds, methods=["GET"]),
        Route(f"{ROOT}/builds", pages.submit, methods=["POST"]),
        Route(f"{ROOT}/builds/{{id}}", pages.build),
        Route(f"{ROOT}/builds/{{id}}/state", pages.state),
        Route(f"{ROOT}/builds/{{id}}/curves", pages.curves),
        Route(f"{ROOT}/builds/{{id}}/report.html", pages.report),
        Route(f"{ROOT}/builds/{{id}}/cancel", pages.cancel, methods=["POST"]),
        Route(f"{ROOT}/builds/{{id}}/retry", pages.retry, methods=["POST"]),
        Route(f"{ROOT}/submit", pages.form),
        Route(f"{ROOT}/machine", pages.machine),
        Route(f"{ROOT}/static/{{name}}", pages.static),
    ]


def _url(request: Request, path: str) -> str:
    return f"{request.scope.get('root_path', '')}{ROOT}{path}"


class Pages:
    """The endpoints."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def matrix(self, request: Request) -> Response:
        """Recipes by variants."""
        asked = {name: _field(request.query_params.get(name)) for name in ("recipe", "variant", "grade", "status")}
        template = "matrix_table.html" if _is_part(request) else "matrix.html"
        return await self._page(request, template, lambda: self.desk.matrix(Filter(**asked)))

    async def builds(self, request: Request) -> Response:
        """The newest builds."""
        asked = {name: _field(request.query_params.get(name)) for name in ("recipe", "status", "after")}
        if asked["status"] not in STATUSES:
            asked["status"] = ""
        template = "builds_table.html" if _is_part(request) else "builds.html"
        return await self._page(request, template, lambda: self.desk.listed(**asked))

    async def form(self, request: Request) -> Response:
        """The form that asks for a build."""
        given = {
            name: _field(value) for name, value in request.query_params.items() if name in BuildRequest.model_fields
        }
        return await self._page(request, "submit.html", lambda: {**self.desk.form(), "given": given, "wrong": ""})

    async def submit(self, request: Request) -> Response:
        """A form that was sent: to the build's page, or back to the form with what is wrong."""
        async with request.form(max_files=0, max_fields=20) as sent:
            given = {name: _field(value) for name, value in sent.items() if isinstance(value, str)}
        who: Who = request.state.who
        try:
            wanted = request_of(given)
            answer, _ = await anyio.to_thread.run_sync(lambda: self.desk.service.submit(wanted, who=who.name))
        except CudabuildError as error:
            wrong = f"{error.message}. {hint_of(error)}"
            return await self._page(
                request,
                "submit.html",
                lambda: {**self.desk.form(), "given": given, "wrong": wrong},
                status=status_of(error),
            )
        return RedirectResponse(_url(request, f"/builds/{answer.id}"), 303)

    async def build(self, request: Request) -> Response:
        """One build."""
        return await self._page(request, "build.html", lambda: self.desk.build(_id(request)))

    async def state(self, request: Request) -> Response:
        """How a running build stands; the whole page anew once it has ended."""
        return await self._part(request, "build_state.html", self.desk.state)

    async def curves(self, request: Request) -> Response:
        """A running build's memory and timeline."""
        return await self._part(request, "build_curves.html", self.desk.curves)

    async def _part(self, request: Request, template: str, get: Callable[[str], dict[str, Any]]) -> Response:
        shown: dict[str, Any] = {}

        def facts() -> dict[str, Any]:
            shown.update(get(_id(request)))
            return shown

        response = await self._page(request, template, facts)
        answer = shown.get("answer")
        if answer is not None and answer.status in ENDED:
            response.headers["HX-Refresh"] = "true"
        return response

    async def report(self, request: Request) -> Response:
        """The single file, to keep."""
        try:
            text, name = await anyio.to_thread.run_sync(lambda: self.desk.report(_id(request)))
        except CudabuildError as error:
            return self._failed(request, error)
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}
        return Response(text.encode("utf-8", "backslashreplace"), headers=headers, media_type="text/html")

    async def cancel(self, request: Request) -> Response:
        """End it, and back to its page."""
        return await self._done(request, self.desk.service.cancel)

    async def retry(self, request: Request) -> Response:
        """Queue it again, and back to its page."""
        return await self._done(request, self.desk.service.retry)

    async def _done(self, request: Request, act: Callable[[str], Any]) -> Response:
        try:
            answer = await anyio.to_thread.run_sync(lambda: act(_id(request)))
        except CudabuildError as error:
            return self._failed(request, error)
        return RedirectResponse(_url(request, f"/builds/{answer.id}"), 303)

    async def machine(self, request: Request) -> Response:
        """What runs now."""
        template = "machine_now.html" if _is_part(request) else "machine.html"
        return await self._page(request, template, self.desk.machine)

    async def static(self, request: Request) -> Response:
        """A script or a style of this package."""
        path = _FILES.get(request.path_params["name"])
        if path is None:
            raise HTTPException(404)
        kind = mimetypes.types_map.get(path.suffix, "text/plain")
        headers = {"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"}
        return FileResponse(path, media_type=kind, headers=headers)

    async def _page(
        self, request: Request, template: str, get: Callable[[], dict[str, Any]], *, status: int = 200
    ) -> Response:
        def drawn() -> bytes:
            return _draw(request, template, get())

        try:
            text = await anyio.to_thread.run_sync(drawn)
        except CudabuildError as error:
            return self._failed(request, error)
        return Response(text, status_code=status, headers=_HEADERS, media_type="text/html")

    @staticmethod
    def _failed(request: Request, error: CudabuildError) -> Response:
        status = status_of(error)
        if status >= 500:
            LOG.error("%s %r: %s (%s)", request.method, request.url.path, error.message, error.evidence)
            error = CudabuildError("the service's database or store cannot be used just now; its log says why")
        text = _draw(request, "problem.html", {"error": error, "hint": hint_of(error)})
        return Response(text, status_code=status, headers=_HEADERS, media_type="text/html")


def _draw(request: Request, template: str, facts: dict[str, Any]) -> bytes:
    about = {
        "root": _url(request, ""), "path": request.url.path, "grades": KNOWN_GRADES, "statuses": STATUSES,
        "api": request.scope.get("root_path", ""),
    }  # fmt: skip
    text = environment(TEMPLATES).get_template(template).render(**about, **facts)
    return text.encode("utf-8", "backslashreplace")


def _is_part(request: Request) -> bool:
    """Whether the script asks for the part that changes; not for a page that the history needs whole."""
    return "HX-Request" in request.headers and "HX-History-Restore-Request" not in request.headers


def _id(request: Request) -> str:
    return _field(str(request.path_params["id"]))[:200]


def _field(value: str | None) -> str:
    """PostgreSQL takes no NUL in a text, and nothing here has one in its name."""
    return (value or "").replace("\0", "\ufffd").strip()[:_LONGEST_FIELD]


def request_of(given: dict[str, str]) -> BuildRequest:
    """What a form asks for. Raises UsageError with the first field that cannot be."""
    told: dict[str, Any] = {name: value for name, value in given.items() if value}
    if "targets" in told:
        told["targets"] = told["targets"].replace(",", " ").replace(";", " ").split()
    try:
        return BuildRequest.model_validate(told)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "the form"
        raise UsageError(f"{name}: {first['msg']}", hint="mend it and send it again") from None
