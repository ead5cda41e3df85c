"""What would be built, over HTTP, without asking for it."""

from __future__ import annotations

import threading

from fastapi import APIRouter, Response

from buildkit.service.answers import BuildRequest, PlanAnswer
from buildkit.service.api_builds import Asking, Here
from buildkit.service.problems import problem

AT_ONCE = 2
"""Plans that are made at a time: each is a process, and may fetch a source."""

router = APIRouter(prefix="/api/v1", tags=["builds"])
_ROOM = threading.BoundedSemaphore(AT_ONCE)


@router.post("/plan", summary="What would be built, and why so", responses={200: {"model": PlanAnswer}})
def plan(service: Here, who: Asking, request: BuildRequest) -> Response:
    """The object of `cudabuild plan --json`: nothing is built, and a failure is told as its own command tells it."""
    if not _ROOM.acquire(blocking=False):
        return problem(429, "other plans are being made", headers={"Retry-After": "2"})
    try:
        value = service.preview(request, admin=who.admin)
    finally:
        _ROOM.release()
    text = PlanAnswer.model_validate(value).model_dump_json(by_alias=True)
    return Response(text, media_type="application/json", headers={"Cache-Control": "no-store"})
