"""Builds over HTTP: submit, list, look, cancel, try again; their parts; their live logs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from buildkit.index.ranges import Unsatisfiable, wanted_ranges
from buildkit.service.access import Who
from buildkit.service.answers import (
    ENDED,
    BuildAnswer,
    BuildList,
    BuildRequest,
    PlanAnswer,
    Status,
    VerdictAnswer,
)
from buildkit.service.events import Events, resumed_at
from buildkit.service.logs import BuildLog
from buildkit.service.problems import problem
from buildkit.service.service import Service

CHUNK = 128 << 10
"""Bytes of a log in memory for each client."""
RECIPE = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
IDEMPOTENCY = r"^[!-~]+$"

router = APIRouter(prefix="/api/v1", tags=["builds"])


def service_of(request: Request) -> Service:
    """The service that this application is of."""
    found: Service = request.app.state.service
    return found


def who_of(request: Request) -> Who:
    """Who asks, as the gate found."""
    found: Who = request.state.who
    return found


Here = Annotated[Service, Depends(service_of)]
Asking = Annotated[Who, Depends(who_of)]
Build = Annotated[
    str,
    Path(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        description="A build's id; also the id of its cache's, the beginning of its key, a recipe's name, or `last`.",
        examples=["last"],
    ),
]
Recipe = Annotated[str | None, Query(min_length=1, max_length=64, pattern=RECIPE)]


@router.post("/builds", status_code=201, summary="Ask for a build", responses={200: {"model": BuildAnswer}})
def submit(
    service: Here,
    who: Asking,
    request: BuildRequest,
    response: Response,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255, pattern=IDEMPOTENCY)] = None,
) -> BuildAnswer:
    """Queue a build (201), or be answered with the one that makes the very same wheel already (200).

    With an `Idempotency-Key` the same request can be sent again: it is answered with the same build, even where that
    has ended.
    """
    answer, is_new = service.submit(request, who=who.name, admin=who.admin, idempotency=idempotency_key)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = answer.links.self
    return answer


@router.get("/builds", summary="Builds, newest first")
def builds(
    service: Here,
    recipe: Recipe = None,
    status: Status | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    after: Annotated[str | None, Query(pattern=r"^[0-9]{1,15}$", description="`next` of the list before.")] = None,
) -> BuildList:
    """Filtered by recipe and status."""
    return service.builds(recipe=recipe, status=status, limit=limit, after=after)


@router.get("/builds/{build}", summary="One build")
def build(service: Here, build: Build) -> BuildAnswer:
    """As it stands."""
    return service.build(build)


@router.get("/builds/{build}/plan", summary="What is built, and why so")
def plan(service: Here, build: Build) -> PlanAnswer:
    """The object of `cudabuild plan --json`."""
    return PlanAnswer.model_validate(service.plan(build))


@router.get("/builds/{build}/verdict", summary="What was proven")
def verdict(service: Here, build: Build) -> VerdictAnswer:
    """The stages with their evidence."""
    row, found = service.verdict(build)
    return VerdictAnswer(id=row["id"], build=row["build"], key=row["key"], verdict=found)


@router.get(
    "/builds/{build}/answer", summary="All that is known of it", responses={200: {"content": {"application/json": {}}}}
)
def answer(service: Here, build: Build) -> dict[str, Any]:
    """The object of `cudabuild build --json`; of a build that has not ended, what `--detach` prints of it."""
    row = service.row(build)
    found = service.answer(row["id"])
    if found is not None:
        return found
    known = {"schema": 1, "build": row["build"], "recipe": row["recipe"], "key": row["key"]}
    return {**known, **({"error": row["error"]} if row["error"] else {"status": row["status"]})}


@router.get(
    "/builds/{build}/trace", summary="When what was compiled", responses={200: {"content": {"application/json": {}}}}
)
def trace(service: Here, build: Build) -> Response:
    """The recorded trace."""
    return Response(service.trace(build), media_type="application/json", headers={"Cache-Control": "no-store"})


@router.get(
    "/builds/{build}/log",
    summary="Its log",
    responses={200: {"content": {"text/plain": {}}}, 206: {"description": "The part that was asked for"}},
)
def log(
    service: Here,
    build: Build,
    range_: Annotated[str | None, Header(alias="Range", max_length=200, description="bytes=FIRST-LAST")] = None,
) -> Response:
    """As it is now, byte for byte; with `Range`, a part of it. One log over all attempts of the build."""
    row, found = service.log(build)
    size = found.size()
    headers = {"Accept-Ranges": "bytes", "Cache-Control": "no-store", "X-Build-Status": row["status"]}
    try:
        parts = wanted_ranges(range_, size) if range_ else None
    except Unsatisfiable:
        refused = problem(416, f"the log has {size} bytes by now", headers=headers)
        refused.headers["Content-Range"] = f"bytes */{size}"
        return refused
    start, end = parts[0] if parts is not None and len(parts) == 1 else (0, size)
    if parts is not None and len(parts) == 1:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    status = 206 if "Content-Range" in headers else 200
    return StreamingResponse(_pieces(found, start, end), status, headers, media_type="text/plain; charset=utf-8")


async def _pieces(found: BuildLog, start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        piece = await anyio.to_thread.run_sync(found.read, start, min(CHUNK, end - start))
        if not piece:
            return
        start += len(piece)
        yield piece


@router.get(
    "/builds/{build}/events",
    summary="Its live log",
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def events(
    request: Request,
    service: Here,
    build: Build,
    last_event_id: Annotated[str | None, Header(max_length=100, description="Byte to go on at.")] = None,
) -> Response:
    """Server-sent events until it has ended: `log` (data: the text as a JSON string, id: the byte behind it),
    `status` (the build, whenever it changed) and `end`."""
    row = await anyio.to_thread.run_sync(service.row, build)
    followed: Events = request.app.state.events
    return await followed.response(row["id"], resumed_at(last_event_id))


@router.post("/builds/{build}/cancel", summary="End it", responses={202: {"model": BuildAnswer}})
def cancel(service: Here, build: Build, response: Response) -> BuildAnswer:
    """At once where it waits (200); of one that runs the end is begun (202): it is `cancelled` when nothing of it is
    left."""
    answer = service.cancel(build)
    response.status_code = 200 if answer.status in ENDED else 202
    return answer


@router.post("/builds/{build}/retry", summary="Try it again")
def retry(service: Here, build: Build) -> BuildAnswer:
    """Queue a failed or cancelled build once more, under the same id; it goes on with what was compiled."""
    return service.retry(build)
