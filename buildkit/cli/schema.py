"""What ``cudabuild build --json`` prints, as models: the source of docs/reference/build.schema.json. Pure.

Keys may be added to what is printed, never renamed or taken away; so the published schema lets unknown keys
pass, while the models here refuse them: a test that validates real answers fails until a new key is added.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, TypeAdapter

from buildkit import errors, input_errors
from buildkit.cli.json_model import EarlyFailure, ErrorObject, JsonModel, SchemaNumber, Sha256, open_schema
from buildkit.errors import CudabuildError
from buildkit.plan.model import PlanSummary
from buildkit.plan.request import Device
from buildkit.verify.verdict import Verdict


class WheelObject(JsonModel):
    """The file that was handed out."""

    path: str = Field(description="Where it lies.")
    filename: str = Field(description="Its name; the local version says torch, CUDA and, if need be, targets.")
    sha256: Sha256 = Field(description="Hash of its bytes: the bytes that were audited and imported.")
    size: int = Field(gt=0, description="Bytes.")


class GuardObject(JsonModel):
    """What the guard saw while the backend ran."""

    peak_memory: int = Field(ge=0, description="Largest sum of the process tree's memory, in bytes.")
    memory_budget: int = Field(ge=0, description="Bytes that the build was planned for.")
    requeued: int = Field(ge=0, description="Compilations that were ended and started again for lack of memory.")
    units: int = Field(ge=0, description="Compilations and links of the build; without the guard, those announced.")
    kept: int = Field(default=0, ge=0, description="Of `units`, those that an ended try of the build had finished.")
    retries: int = Field(
        default=0,
        ge=0,
        le=1,
        description="1 where memory ran out all the same, and it was built again with fewer jobs.",
    )
    containment: str = Field(description="How its processes are held: `cgroup`, `namespace` or `subreaper`.")
    isolation: str = Field(description="`namespace` where what it must not write to was read-only, else `none`.")
    survivors: int = Field(ge=0, description="Processes that were left when it had ended: 0.")


class ServerObject(JsonModel):
    """The server that was asked with ``--server``. Then ``build`` is its id of the build, too."""

    url: str = Field(description="Its address.")
    id: str | None = Field(default=None, description="Its id of the build.")
    build: str | None = Field(default=None, description="The build's id on the machine that ran it.")
    worker: str | None = Field(default=None, description="Which of its workers that was.")


class BuildObject(JsonModel):
    """One build. After a failure it holds what was known by then, and ``error``."""

    schema_: SchemaNumber
    build: str | None = Field(description="The build's id (of the build that made the wheel, on a hit).")
    recipe: str = Field(description="Name of the recipe or of the project.")
    device: Device = Field(description="`cuda` or `cpu`; `auto` where it failed before that was decided.")
    version: str | None = Field(description="Version of the wheel, with its local part.")
    key: str | None = Field(description="Hash of everything that determines the wheel.")
    cache: Literal["hit", "miss"] = Field(description="Whether the store had it.")
    wheel: WheelObject | None
    plan: PlanSummary | None
    verdict: Verdict | None
    guard: GuardObject | None = Field(description="null on a hit: nothing was built.")
    install: str | None = Field(None, description="The command that installs the wheel into the active environment.")
    notes: list[str] = Field(description="What was decided on the way and is worth knowing.")
    seconds: float = Field(ge=0, description="The whole command for this package.")
    error: ErrorObject | None = Field(default=None, description="Only there after a failure.")
    server: ServerObject | None = Field(default=None, description="Only there where a server was asked.")


class DetachedObject(JsonModel):
    """A build that ``--detach`` has left running in the background."""

    schema_: SchemaNumber
    build: str = Field(description="Its id, for `cudabuild log` and `cudabuild cancel`.")
    recipe: str | None = Field(description="As above; null while that is not known.")
    key: str | None = Field(description="As above; null where the plan took longer than ten seconds.")
    status: Literal["running", "queued"] = Field(
        description="What tells it from a build that has ended already; `queued` by a server only."
    )
    log: str = Field(description="Path of the file that its progress and output go to.")
    answer: str = Field(description="Path of the file that holds its object once it has ended; a server's address.")
    server: ServerObject | None = Field(default=None, description="Only there where a server was asked.")


class CancelObject(JsonModel):
    """What ``cudabuild cancel --json`` prints."""

    schema_: SchemaNumber
    build: str = Field(description="The build's id.")
    recipe: str = Field(description="Name of the recipe or of the project.")
    key: str | None = Field(description="Its key, where it was known.")
    status: Literal["cancelled", "succeeded", "failed"] = Field(
        description="How it ended: not `cancelled` where it was faster."
    )
    log: str | None = Field(description="Path of its log.")
    seconds: float = Field(ge=0, description="Until nothing of it was left.")
    server: ServerObject | None = Field(default=None, description="Only there where a server was asked.")


class SeveralBuilds(JsonModel):
    """Several packages, in the order in which they were named. The exit code is the first failure's."""

    schema_: SchemaNumber
    results: list[BuildObject | DetachedObject] = Field(min_length=2)


Answer = BuildObject | SeveralBuilds | EarlyFailure | DetachedObject
ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)


def causes() -> list[type[CudabuildError]]:
    """Every cause that a user can meet, in the order of their files (which is that of the exit codes)."""
    named = {**vars(input_errors), **vars(errors)}.values()
    found = [value for value in named if isinstance(value, type) and issubclass(value, CudabuildError)]
    return [cause for cause in found if cause is not CudabuildError]


def build_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of the object on standard output."""
    schema = open_schema(ANSWER.json_schema(by_alias=True, mode="validation"))
    kinds = sorted({cause.kind for cause in causes()} | {CudabuildError.kind})
    schema["$defs"]["ErrorObject"]["properties"]["kind"]["examples"] = kinds
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cudabuild build --json, schema 1",
        **schema,
    }


def schema_text() -> str:
    """The schema as docs/reference/build.schema.json holds it."""
    return json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n"
