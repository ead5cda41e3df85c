"""Failures over HTTP: problem+json (RFC 9457) with the command's own kinds and exit codes."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from buildkit.errors import (
    CannotCancel,
    ConfigError,
    CudabuildError,
    DiskFull,
    IndexDenied,
    IndexRefused,
    NoSuchBuild,
    RecipeError,
    StoreError,
    UnknownRecipe,
    UsageError,
)
from buildkit.service.answers import Problem
from buildkit.service.database import DatabaseError
from buildkit.service.events import TooManyFollowers
from buildkit.service.logs import without_secrets
from buildkit.service.queue import Conflict, QueueFull

MEDIA_TYPE = "application/problem+json"
_STATUS: tuple[tuple[type[CudabuildError], int], ...] = (
    (Conflict, 409),
    (QueueFull, 429),
    (TooManyFollowers, 429),
    (UnknownRecipe, 404),
    (NoSuchBuild, 404),
    (CannotCancel, 409),
    (ConfigError, 503),
    (UsageError, 422),
    (RecipeError, 422),
    (DatabaseError, 503),
    (DiskFull, 507),
    (StoreError, 503),
)
_KINDS: dict[int, type[CudabuildError]] = {401: IndexDenied, 403: IndexDenied, 404: NoSuchBuild, 429: IndexRefused}


def status_of(error: CudabuildError) -> int:
    """The HTTP status that goes with a cause."""
    return next((status for cause, status in _STATUS if isinstance(error, cause)), 500)


def of_error(error: CudabuildError) -> Response:
    """A cause as an answer. What lies with the server itself is told without the server's own paths."""
    status = status_of(error)
    if status >= 500:
        text = "the service's database or store cannot be used at this moment; its log says why"
        text = text if status != 500 else "the service could not do this; its log says why"
        return problem(status, text, kind=error.kind, exit_code=error.exit_code)
    return problem(status, error.message, kind=error.kind, exit_code=error.exit_code, hint=error.hint)


def problem(
    status: int,
    detail: str,
    *,
    kind: str = "",
    exit_code: int = 0,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer that says what failed; the kind is the command's for such a thing."""
    cause = _KINDS.get(status, UsageError if status < 500 else CudabuildError)
    said = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=without_secrets(detail),
        kind=kind or cause.kind,
        exit_code=exit_code or cause.exit_code,
        hint=without_secrets(hint),
    )
    text = said.model_dump_json(by_alias=True)
    return Response(text, status, {"Cache-Control": "no-store", **(headers or {})}, media_type=MEDIA_TYPE)
