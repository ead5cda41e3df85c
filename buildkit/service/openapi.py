"""The API's description (OpenAPI 3.1): as FastAPI makes it, with what it does not know of."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from buildkit.service.answers import BuildAnswer, Links, Problem, WheelAnswer
from buildkit.service.problems import MEDIA_TYPE

_TEXT = """Builds of CUDA and PyTorch extensions, queued, guarded and proven; and the wheels that came of them.

Failures are problem+json with the kinds and exit codes of the command line (docs/reference/exit-codes.md).
"""
_PROBLEMS = {
    "GET": ("400", "401", "403", "404", "421", "422", "429", "503"),
    "POST": ("400", "401", "403", "404", "409", "413", "421", "422", "429", "503"),
}
_PROBLEM = {"$ref": "#/components/schemas/Problem"}
EXAMPLE = BuildAnswer(
    id="1f0c6f2a9b3d4e57",
    status="succeeded",
    recipe="my-kernels",
    version="0.1.4+pt2.13.cu130.sm120",
    targets=["12.0"],
    torch="2.13.0+cu130",
    device="cuda",
    require=None,
    priority=0,
    key="0" * 64,
    build="20261121-3f2a",
    created="2026-11-21T08:00:00.000000Z",
    started="2026-11-21T08:00:01.000000Z",
    ended="2026-11-21T08:01:01.000000Z",
    seconds=60.0,
    position=None,
    grade="imported",
    wheel=WheelAnswer(
        filename="my_kernels-0.1.4+pt2.13.cu130.sm120-cp311-cp311-manylinux_2_34_x86_64.whl",
        sha256="0" * 64,
        size=1048576,
        url="http://127.0.0.1:8080/pt2.13-cu130-sm120/files/my_kernels-0.1.4+pt2.13.cu130.sm120-cp311-cp311-"
        "manylinux_2_34_x86_64.whl",
    ),
    error=None,
    links=Links(
        self="/api/v1/builds/1f0c6f2a9b3d4e57",
        **{name: f"/api/v1/builds/1f0c6f2a9b3d4e57/{name}" for name in ("log", "events", "plan", "verdict", "trace")},
    ),
    cache="miss",
)


def describe(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What makes the description, once."""
    made: dict[str, Any] = {}

    def description() -> dict[str, Any]:
        if not made:
            made.update(_describe(app))
        return made

    return description


def openapi_text(app: FastAPI) -> str:
    """The description as docs/reference/openapi.json holds it: without the version, which changes with each release."""
    value = {**app.openapi(), "info": {**app.openapi()["info"], "version": "1"}}
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _describe(app: FastAPI) -> dict[str, Any]:
    value = get_openapi(title=app.title, version=app.version, description=_TEXT, routes=app.routes)
    schemas = value["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema(by_alias=True, mode="serialization")
    schemas["BuildAnswer"]["examples"] = [EXAMPLE.model_dump(mode="json", by_alias=True)]
    value["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "`cudabuild token new NAME --scope build`"}
    }
    value["security"] = [{}, {"token": []}]
    for path in value["paths"].values():
        for method, operation in path.items():
            for status in _PROBLEMS.get(method.upper(), ()):
                _add(operation["responses"], status)
    return value


def _add(responses: dict[str, Any], status: str) -> None:
    content = {MEDIA_TYPE: {"schema": _PROBLEM}}
    if status in responses and status != "422":  # /readyz says by itself what its 503 is
        responses[status].setdefault("content", {}).update(content)
        return
    responses[status] = {"description": "Refused or failed: see `kind`", "content": content}
