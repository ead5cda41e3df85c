"""A server of builds that builds nothing: the API's answers from values, over real HTTP, with the real events."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from buildkit.index.serve import Place, listen
from buildkit.service.events import Events, Look, resumed_at

WHEEL = b"the bytes of a wheel"
FILENAME = "some_kernels-1.0+pt2.13.cu130-cp311-cp311-manylinux_2_28_x86_64.whl"
VERDICT = {
    "grade": "imported", "torch": "2.13.0+cu130",
    "stages": [{"name": "audit", "outcome": "passed", "detail": "sm_120", "evidence": {}}],
    "rows": [{"target": "12.0", "summary": "code in every unit"}],
}  # fmt: skip


@dataclass
class Stub:
    """What it answers, and what it was asked. ``refusals``: answers that come first, whatever is asked."""

    url: str = ""
    status: str = "running"
    text: bytes = b"source       some-kernels 1.0\nbuild        2 at a time\n[1/2] cc\n"
    error: dict[str, Any] | None = None
    wheel_bytes: bytes = WHEEL
    wheel_url: str | None = "/files/wheel"
    token: str = ""
    schema: int = 1
    cut_after: int = 0
    """Bytes of the events after which a connection is cut; 0: none."""
    refusals: list[Response] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    on_events: Callable[[], None] = lambda: None

    def paths(self, method: str = "GET") -> list[str]:
        return [path for verb, path, _, _ in self.asked if verb == method]

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for verb, path, _, body in self.asked if verb == "POST" and path.endswith("/builds")]

    def end(self, status: str = "succeeded", error: dict[str, Any] | None = None) -> None:
        self.error = error
        self.status = status

    def answer(self) -> dict[str, Any]:
        own = "/api/v1/builds/b1"
        made = self.status == "succeeded"
        wheel = {"filename": FILENAME, "sha256": hashlib.sha256(WHEEL).hexdigest(), "size": len(WHEEL),
                 "url": self.wheel_url, "install": "pip install it"}  # fmt: skip
        return {
            "schema": self.schema, "id": "b1", "status": self.status, "recipe": "some-kernels", "version": "1.0",
            "targets": ["12.0"], "torch": "2.13.0+cu130", "device": "cuda", "require": None, "priority": 0,
            "key": "k" * 40, "build": "20261122-abcd", "created": "2026-11-22T00:00:00Z", "started": None,
            "ended": None, "seconds": 1.5, "position": None, "grade": "imported" if made else None, "cache": "miss",
            "wheel": wheel if made else None, "error": self.error,
            "links": {"self": own, **{n: f"{own}/{n}" for n in ("log", "events", "plan", "verdict", "trace")}},
            "worker": "w1", "note": "",
        }  # fmt: skip

    def look(self, _build: str) -> Look:
        value = self.answer()
        return Look(json.dumps(value), self.status in {"succeeded", "failed", "cancelled"}, self, len(self.text))

    def read(self, at: int, count: int) -> bytes:
        return self.text[at : at + count]


class Cutting(Response):
    """Lets a part of the events through, then drops the connection in the middle of a line."""

    def __init__(self, inner: Response, after: int) -> None:
        super().__init__()
        self._inner, self._after = inner, after

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        left = self._after

        async def some(message: Any) -> None:
            nonlocal left
            if message["type"] == "http.response.body":
                body = message["body"]
                await send({**message, "body": body[:left]})
                left -= len(body)
                if left < 0:
                    raise ConnectionResetError("cut")
            else:
                await send(message)

        with contextlib.suppress(ConnectionResetError):
            await self._inner(scope, receive, some)


def problem(status: int, kind: str, exit_code: int, **more: Any) -> JSONResponse:
    """A refusal as the API tells it."""
    value = {"type": "about:blank", "title": "refused", "status": status, "detail": "it says why", "kind": kind,
             "exit_code": exit_code, "hint": "do this", **more}  # fmt: skip
    return JSONResponse(value, status, media_type="application/problem+json")


def app_of(stub: Stub) -> Starlette:
    """The routes."""
    events = Events(stub.look, pause=0.005)

    async def seen(request: Request) -> Response | None:
        stub.asked.append((request.method, request.url.path, dict(request.headers), await request.body()))
        if stub.refusals:
            return stub.refusals.pop(0)
        if stub.token and request.headers.get("authorization") != f"Bearer {stub.token}":
            return problem(401, "index-denied", 10, detail="this token is not known here")
        return None

    def route(path: str, answer: Callable[[Request], Any], method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            refused = await seen(request)
            if refused is not None:
                return refused
            found = answer(request)
            return found if isinstance(found, Response) else JSONResponse(found)

        return Route(path, endpoint, methods=[method])

    async def follow(request: Request) -> Response:
        refused = await seen(request)
        stub.on_events()
        if refused is not None:
            return refused
        inner = await events.response("b1", resumed_at(request.headers.get("last-event-id")))
        return Cutting(inner, stub.cut_after) if stub.cut_after else inner

    own = "/api/v1/builds"

    def missing(_request: Request) -> Response:
        return problem(404, "no-such-build", 10)

    def build(request: Request) -> Any:
        return stub.answer() if request.path_params["build"] == "b1" else missing(request)

    def cancelled(_request: Request) -> Any:
        stub.end("cancelled", {"kind": "cancelled", "exit_code": 143, "message": "cancelled"})
        return {**stub.answer(), "status": "running"}

    return Starlette(routes=[
        route(own, lambda _r: stub.answer(), "POST"),
        route(own, lambda _r: {"schema": stub.schema, "builds": [stub.answer()], "next": None}),
        route(f"{own}/b1/answer", lambda _r: {"schema": 1, "build": "20261122-abcd", "recipe": "some-kernels",
              "verdict": VERDICT, "plan": {"targets": ["12.0"]}, "guard": {"units": 2}, "notes": []}),
        route(f"{own}/b1/log", lambda _r: PlainTextResponse(stub.text)),
        Route(f"{own}/b1/events", follow),
        route(f"{own}/b1/cancel", cancelled, "POST"),
        route(f"{own}/{{build}}/trace", missing),
        route(f"{own}/{{build}}", build),
        route("/api/v1/plan", lambda _r: {"schema": 1, "build": None, "error": stub.error}, "POST"),
        route("/api/v1/recipes", lambda _r: {"schema": 1, "recipes": [
            {"name": "some-kernels", "summary": "Kernels", "versions": ["1.0"], "license": "MIT",
             "redistributable": True, "status": "confirmed", "grade": None}]}),
        route("/files/wheel", lambda _r: Response(stub.wheel_bytes, media_type="application/octet-stream")),
    ])  # fmt: skip


@contextlib.contextmanager
def served(stub: Stub) -> Iterator[Stub]:
    """The stub on a free port, in a thread."""
    with listen(Place(host="127.0.0.1", port=0)) as listener:
        stub.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(app_of(stub), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield stub
        finally:
            server.should_exit = True
            thread.join()
