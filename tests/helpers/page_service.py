"""A service as its pages know it, over lists that a test fills; and the application that shows it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from buildkit.errors import NoSuchBuild
from buildkit.index.tokens import Tokens
from buildkit.service.access import Gate, Policy
from buildkit.service.answers import (
    BuildAnswer,
    BuildList,
    BuildRequest,
    ErrorAnswer,
    Links,
    MatrixAnswer,
    RecipeAnswer,
    RecipeList,
    WorkerList,
)
from buildkit.service.pages import routes
from buildkit.service.pages_desk import Desk
from buildkit.store.store import Store


def build_answer(identifier: str, **changes: Any) -> BuildAnswer:
    """A build as the API tells it."""
    at = f"/api/v1/builds/{identifier}"
    names = ("log", "events", "plan", "verdict", "trace")
    values: dict[str, Any] = {
        "id": identifier, "status": "succeeded", "recipe": "fast", "version": "1.0", "targets": ["12.0"],
        "torch": "2.13.0+cu130", "device": "cuda", "require": None, "priority": 0, "key": None, "build": None,
        "created": "2026-11-21T06:00:00Z", "started": "2026-11-21T06:00:01Z", "ended": "2026-11-21T06:01:00Z",
        "seconds": 59.0, "position": None, "grade": "imported", "wheel": None, "error": None,
        "links": Links(self=at, **{name: f"{at}/{name}" for name in names}),
    }  # fmt: skip
    return BuildAnswer(**{**values, **changes})


def failed(kind: str, message: str, **more: Any) -> dict[str, Any]:
    """What a build that failed has otherwise."""
    return {"status": "failed", "grade": None, "error": ErrorAnswer(kind=kind, exit_code=6, message=message, **more)}


@dataclass
class Lists:
    """The lists, by which the methods of the service answer."""

    every: list[BuildAnswer] = field(default_factory=list)
    table: MatrixAnswer = field(default_factory=lambda: MatrixAnswer(variants=[], rows=[]))
    known: list[RecipeAnswer] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    """Pieces of the live log of any build."""

    def submit(self, request: BuildRequest, *, who: str = "local") -> tuple[BuildAnswer, bool]:
        answer = build_answer(
            f"new-{len(self.every)}", status="queued", recipe=request.recipe, targets=request.targets,
            torch=request.torch, device=request.device, version=request.version, started=None, ended=None, position=1,
            seconds=None, grade=None, by=who,
        )  # fmt: skip
        self.every.insert(0, answer)
        return answer, True

    def builds(
        self, *, recipe: str | None = None, status: str | None = None, limit: int = 50, after: str | None = None
    ) -> BuildList:
        assert after is None, "these lists have one page"
        found = [one for one in self.every if recipe in (None, one.recipe) and status in (None, one.status)]
        return BuildList(builds=found[:limit], next=None)

    def build(self, text: str) -> BuildAnswer:
        for one in self.every:
            if one.id == text:
                return one
        raise NoSuchBuild(f"no build {text} is known here")

    def cancel(self, text: str) -> BuildAnswer:
        return self.replace(text, status="cancelled", position=None)

    def retry(self, text: str) -> BuildAnswer:
        return self.replace(text, status="queued", error=None, position=1)

    def replace(self, text: str, **changes: Any) -> BuildAnswer:
        """Change a build."""
        old = self.build(text)
        new = old.model_copy(update=changes)
        self.every[self.every.index(old)] = new
        return new

    def matrix(self) -> MatrixAnswer:
        return self.table

    def recipes(self) -> RecipeList:
        return RecipeList(recipes=self.known)

    def workers(self) -> WorkerList:
        queued = [one for one in self.every if one.status == "queued"]
        return WorkerList(workers=[], queued=len(queued), running=0)


def application(lists: Lists, root: Path, *, tokens: Path | None = None) -> Gate:
    """The pages, and a log's events as the API sends them; inside the gate of the service, which asks for ``tokens``
    of this file, where there is one."""

    async def events(request: Request) -> Response:
        identifier = request.path_params["id"]

        async def sent() -> AsyncIterator[str]:
            place, told = 0, 0
            while True:
                for piece in lists.log[told:]:
                    place += len(piece.encode())
                    yield f"id: {place}\nevent: log\ndata: {json.dumps(piece)}\n\n"
                told = len(lists.log)
                if lists.build(identifier).ended is not None:
                    yield "event: end\ndata: {}\n\n"
                    return
                await asyncio.sleep(0.02)

        return StreamingResponse(sent(), media_type="text/event-stream")

    async def log(request: Request) -> Response:
        return PlainTextResponse("".join(lists.log))

    desk = Desk(lists, Store(root / "store"), root / "wheels")
    api = [Route("/api/v1/builds/{id}/events", events), Route("/api/v1/builds/{id}/log", log)]
    policy = Policy(
        tokens=Tokens(tokens),
        guarded=frozenset({"read", "build"}) if tokens is not None else frozenset(),
        hosts=frozenset({"127.0.0.1", "testserver"}),
    )
    return Gate(Starlette(routes=[*routes(desk), *api]), policy)


@contextlib.contextmanager
def served(app: Gate) -> Iterator[str]:
    """A real server; gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
