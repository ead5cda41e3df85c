"""What the service answers, as models: the source of its OpenAPI description, and of what clients and pages read.

Keys may be added, never renamed or taken away. Times are ISO 8601 in UTC, sizes bytes, durations seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from buildkit.plan.request import Device, Requirement

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
STATUSES: tuple[Status, ...] = ("queued", "running", "succeeded", "failed", "cancelled")
ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
SchemaNumber = Annotated[Literal[1], Field(alias="schema", description="Version of this format: 1.")]


class Answer(BaseModel):
    """Frozen, by alias, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)


class WheelAnswer(Answer):
    """The file that was made, or taken from the store."""

    filename: str
    sha256: str
    size: int
    url: str | None = Field(description="Where this service's index has it; null where it does not serve it.")
    install: str = Field("", description="The line that installs it from there.")


class ErrorAnswer(Answer):
    """Why there is no wheel: the same kinds and exit codes as the command's."""

    kind: str
    exit_code: int
    message: str
    evidence: str = ""
    hint: str = ""
    rule: str | None = None


class Links(Answer):
    """Paths of this service, from its root on."""

    self: str
    log: str
    events: str
    plan: str
    verdict: str
    trace: str


class BuildAnswer(Answer):
    """One build, as it stands."""

    schema_: SchemaNumber = 1
    id: str = Field(description="The service's id of it; it stays the same over retries.")
    status: Status
    recipe: str
    version: str | None = Field(description="As asked for; once it has ended, the wheel's.")
    targets: list[str]
    torch: str | None
    device: str
    require: str | None
    priority: int = Field(description="Higher ones are begun first; 0 where nothing was said.")
    key: str | None = Field(description="Hash of all that determines the wheel; null until it is planned.")
    build: str | None = Field(description="The build's id on the machine that runs it, for `cudabuild log`.")
    created: str
    started: str | None
    ended: str | None
    seconds: float | None = Field(description="From start to end; of a running build, until now.")
    position: int | None = Field(description="Place in the queue, from 1; null where it does not wait.")
    grade: str | None = Field(description="The furthest stage of proof; null until there is a verdict.")
    wheel: WheelAnswer | None
    error: ErrorAnswer | None
    links: Links
    attempt: int = Field(1, description="How many times it was begun, or is to be begun.")
    cache: str | None = Field(None, description="`hit` where the store had it, else `miss`.")
    cancelling: bool = Field(False, description="Somebody asked for its end, and it has not ended yet.")
    by: str | None = Field(None, description="Name of the token that asked for it first.")
    worker: str | None = Field(None, description="Which worker runs it.")
    note: str = Field("", description="Why it waits, or was tried again.")


class BuildList(Answer):
    """Builds, newest first."""

    schema_: SchemaNumber = 1
    builds: list[BuildAnswer]
    next: str | None = Field(description="What `after` takes to go on; null at the end.")


class BuildRequest(Answer):
    """What ``POST /api/v1/builds`` takes. Names of known recipes and versions only; with an admin token also
    a recipe's text or another source."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"recipe": "my-kernels", "targets": ["12.0"], "torch": "2.13.0+cu130"},
                {"recipe": "my-kernels", "version": "0.1.4", "device": "cpu", "require": "imported", "priority": 5},
            ]
        },
    )

    recipe: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]
    version: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9.+!_-]*$")] | None = None
    targets: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9.+; _-]*$")]],
        Field(max_length=32),
    ] = Field(default_factory=list)
    torch: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9.+]*$")] | None = None
    device: Device = "cuda"
    require: Requirement | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    refresh: bool = Field(False, description="Build again, even where the store has it.")
    source: Annotated[str, Field(min_length=1, max_length=2000)] | None = Field(
        None, description="URL@REV of a git repository to build with the recipe. Needs an admin token."
    )
    recipe_toml: Annotated[str, Field(min_length=1, max_length=200_000)] | None = Field(
        None, description="A recipe's text, used instead of the known one. Needs an admin token."
    )


class PlanAnswer(Answer):
    """What would be, or was, built: the object of ``cudabuild plan --json``."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, serialize_by_alias=True)

    schema_: SchemaNumber = 1


class VerdictAnswer(Answer):
    """A build's proof: the ``verdict`` of ``cudabuild build --json``, with whose it is."""

    schema_: SchemaNumber = 1
    id: str
    build: str | None
    key: str | None
    verdict: dict[str, Any]


class ResolveAnswer(Answer):
    """Which wheel a machine should take; where there is none, the command that makes it."""

    schema_: SchemaNumber = 1
    recipe: str
    found: bool
    variant: str | None = Field(description="The index path that fits what was asked.")
    grade: str | None
    wheel: WheelAnswer | None
    version: str | None
    targets: list[str]
    torch: str | None
    python: str | None
    platform: str | None
    command: str = Field(description="The line to type: it installs the wheel, or builds it.")
    variants: list[str] = Field(description="All index paths that have this package, nearest first.")


class CellAnswer(Answer):
    """One recipe in one variant: its newest wheel, and the newest build of it where that did not make the wheel."""

    variant: str
    grade: str | None
    version: str | None
    filename: str | None
    created: str | None
    pythons: list[str]
    build: str | None = Field(None, description="Service id of the newest build for this cell.")
    status: Status | None = Field(None, description="How that build stands.")
    error: str | None = Field(None, description="Kind of what ended it.")
    step: str | None = Field(None, description="In a word, where it failed.")


class MatrixRow(Answer):
    """A recipe with its cells."""

    recipe: str
    cells: list[CellAnswer]


class MatrixAnswer(Answer):
    """Recipes by variants: what there is, how far it is proven, what failed."""

    schema_: SchemaNumber = 1
    variants: list[str]
    rows: list[MatrixRow]


class RecipeAnswer(Answer):
    """A recipe that can be built here."""

    name: str
    summary: str
    versions: list[str]
    license: str
    redistributable: bool
    status: str
    grade: str | None = Field(description="Of its newest wheel here.")


class RecipeList(Answer):
    """All of them, by name."""

    schema_: SchemaNumber = 1
    recipes: list[RecipeAnswer]


class WorkerAnswer(Answer):
    """What runs builds."""

    id: str
    host: str
    pid: int
    slots: int
    running: list[str] = Field(description="Service ids of the builds it watches.")
    started: str
    seen: str
    alive: bool = Field(description="It gave a sign within its lease.")


class WorkerList(Answer):
    """All that gave a sign in the last day."""

    schema_: SchemaNumber = 1
    workers: list[WorkerAnswer]
    queued: int
    running: int


class Problem(Answer):
    """A refusal or failure (RFC 9457), with the command's own kind and exit code."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    kind: str
    exit_code: int
    hint: str = ""


class HealthAnswer(Answer):
    """Whether it is up; of ``/readyz`` also what it needs."""

    status: Literal["ok", "failing"]
    checks: dict[str, str] = Field(default_factory=dict)
