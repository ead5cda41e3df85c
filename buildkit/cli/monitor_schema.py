"""What ``cudabuild monitor --json`` prints, as models: the source of docs/reference/monitor.schema.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, TypeAdapter

from buildkit.cli.json_model import EarlyFailure, JsonModel, SchemaNumber, open_schema
from buildkit.cli.output import SCHEMA

if TYPE_CHECKING:
    from buildkit.build.monitoring import Now, RunningBuild


class CpuObject(JsonModel):
    """The processors."""

    cpus: int = Field(ge=1, description="How many a build may use.")
    source: str = Field(description="What says so.")
    percent: float = Field(ge=0, description="How busy those are that this process may run on, 0 to 100.")


class MemoryObject(JsonModel):
    """The memory that builds can have, whatever binds first."""

    limit: int = Field(ge=0, description="Bytes: the machine's, a control group's or Slurm's.")
    available: int = Field(ge=0, description="Bytes free below it; page cache counts as free.")
    source: str = Field(description="What sets the limit.")


class PressureObject(JsonModel):
    """Percent of the last 10 seconds in which tasks waited (PSI)."""

    some: float = Field(ge=0, description="Some of them.")
    full: float | None = Field(description="All of them; null where the kernel does not say.")


class GpuObject(JsonModel):
    """One GPU, as NVML sees it."""

    index: int = Field(ge=0, description="Its place in NVML's list.")
    name: str = Field(description="Its name.")
    uuid: str = Field(description="Its UUID.")
    busy: int | None = Field(description="Percent of the last moments in which a kernel ran; null: not told.")
    memory_used: int | None = Field(description="Bytes.")
    memory_total: int | None = Field(description="Bytes.")


class UnitObject(JsonModel):
    """A compilation that runs or stands in line."""

    name: str = Field(description="The source's name, or the output's.")
    kind: str = Field(description="`nvcc`, `cc`, `cxx` or `link`.")
    state: Literal["waiting", "running"] = Field(description="What it does.")
    seconds: float = Field(ge=0, description="How long it has run, or waited.")
    memory: int = Field(ge=0, description="Bytes that its process tree holds.")
    peak: int = Field(ge=0, description="The most that it has held, in bytes.")
    bound: int = Field(ge=0, description="What it is expected to take at most, in bytes.")
    strikes: int = Field(ge=0, description="How often it was killed for memory.")


class RunningObject(JsonModel):
    """A build that runs."""

    build: str = Field(description="Its id.")
    recipe: str = Field(description="Name of the recipe or of the project.")
    pid: int = Field(ge=0, description="The process of cudabuild.")
    host: str | None = Field(description="The machine that runs it where that is another one; null: this one.")
    started: str | None = Field(description="When it began, in UTC; null for builds of another cache.")
    memory: int = Field(ge=0, description="Bytes that all its processes hold; 0 on another machine.")
    admitted: bool = Field(description="Whether the broker admits its compilations now.")
    budget: int | None = Field(description="Bytes that compilations may hold in all; null without the broker.")
    done: int | None = Field(description="Compilations that have ended well; null without the broker.")
    killed: int | None = Field(description="Compilations ended and put back in line; null without the broker.")
    units: list[UnitObject] = Field(description="Its compilations that run or wait.")


class MonitorObject(JsonModel):
    """One look at the machine."""

    schema_: SchemaNumber
    at: str = Field(description="When, in UTC.")
    cpu: CpuObject
    memory: MemoryObject
    pressure: dict[str, PressureObject] = Field(description="`cpu`, `memory`, `io`; empty where the kernel keeps none.")
    gpus: list[GpuObject] = Field(description="All of them, whatever CUDA_VISIBLE_DEVICES says.")
    gpu_note: str = Field(description="Why there are none; empty where there are.")
    broker: int | None = Field(description="The broker's process; null where none runs.")
    builds: list[RunningObject] = Field(description="Builds that run. See below.")


MonitorAnswer = MonitorObject | EarlyFailure
MONITORED: TypeAdapter[MonitorAnswer] = TypeAdapter(MonitorAnswer)


def monitor_object(now: Now) -> MonitorObject:
    """The object of one look."""
    limits = now.limits
    return MonitorObject(
        schema_=SCHEMA,
        at=now.at,
        cpu=CpuObject(cpus=limits.cpus, source=limits.cpu_source, percent=now.cpu),
        memory=MemoryObject(limit=limits.memory, available=limits.memory_available, source=limits.memory_source),
        pressure={name: PressureObject(some=one.some, full=one.full) for name, one in now.pressure.items()},
        gpus=[
            GpuObject(
                index=gpu.index,
                name=gpu.name,
                uuid=gpu.uuid,
                busy=gpu.busy,
                memory_used=gpu.memory_used,
                memory_total=gpu.memory_total,
            )
            for gpu in now.gpus.gpus
        ],
        gpu_note=now.gpus.note,
        broker=now.broker.pid if now.broker is not None else None,
        builds=[_running_object(build) for build in now.builds],
    )


def _running_object(build: RunningBuild) -> RunningObject:
    view = build.view
    return RunningObject(
        build=build.build,
        recipe=build.recipe,
        pid=build.pid,
        host=build.host,
        started=build.started,
        memory=build.memory,
        admitted=view is not None,
        budget=view.budget if view is not None else None,
        done=view.done if view is not None else None,
        killed=view.killed if view is not None else None,
        units=[
            UnitObject(
                name=unit.name,
                kind=unit.kind,
                state=unit.state,
                seconds=unit.seconds,
                memory=unit.usage,
                peak=unit.peak,
                bound=unit.bound,
                strikes=unit.strikes,
            )
            for unit in (view.units if view is not None else ())
        ],
    )


def monitor_schema_text() -> str:
    """The schema as docs/reference/monitor.schema.json holds it."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cudabuild monitor --json, schema 1",
        **open_schema(MONITORED.json_schema(by_alias=True, mode="validation")),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
