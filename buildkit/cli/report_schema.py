"""What ``cudabuild report --json`` prints, as models: the source of docs/reference/report.schema.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, TypeAdapter

from buildkit.cli.json_model import EarlyFailure, JsonModel, SchemaNumber, open_schema
from buildkit.cli.output import SCHEMA
from buildkit.guard.trace import Seconds, Size, Trace
from buildkit.report.summary import summarise

if TYPE_CHECKING:
    from buildkit.build.recorded import Recorded
    from buildkit.report.critical import CriticalPath
    from buildkit.report.summary import Summary


class LinkObject(JsonModel):
    """One run on the critical path."""

    name: str = Field(description="The compilation.")
    order: int = Field(ge=0, description="Its place in `trace.units`, as they came.")
    start: Seconds = Field(description="When it was let start.")
    end: Seconds = Field(description="When it ended.")
    waited: Seconds = Field(description="Seconds between the end before it and its start in which it stood in line.")
    backend: Seconds = Field(description="The rest of the seconds between the two: the backend's own.")


class PathObject(JsonModel):
    """The chain of compilations that the build's end waited for."""

    seconds: Seconds = Field(description="From the first start to the last end.")
    waited: Seconds = Field(description="Seconds of it in which the next one stood in line.")
    backend: Seconds = Field(description="Seconds of it in which none of it ran or stood in line.")
    links: list[LinkObject] = Field(description="Its runs, in the order of time. See below.")


class LongestObject(JsonModel):
    """The compilation that ran longest, all its runs together."""

    name: str = Field(description="Its name.")
    order: int = Field(ge=0, description="Its place in `trace.units`, as they came.")
    seconds: Seconds = Field(description="How long it ran.")
    share: float = Field(ge=0, le=1, description="What it takes of the critical path; 0 where it is not on it.")


class SummaryObject(JsonModel):
    """The trace in figures."""

    units: int = Field(ge=0, description="Compilations and links.")
    done: int = Field(ge=0, description="Those that ended well.")
    running: int = Field(ge=0, description="Those that run now.")
    waiting: int = Field(ge=0, description="Those that stand in line now.")
    kills: int = Field(ge=0, description="How often one was ended and put back in line.")
    thrown_away: Seconds = Field(description="Seconds of the runs that were ended so.")
    together: int = Field(ge=0, description="The most that ran at once.")
    peak: Size = Field(description="The most memory that they held together, in bytes.")
    budget: Size = Field(description="The least that they could hold, in bytes.")
    cpu: Seconds = Field(description="Processor seconds of the build.")
    longest: LongestObject | None = Field(description="See below; null where none has ended.")
    critical_path: PathObject = Field(description="See below.")
    advice: list[str] = Field(description="What would make the build faster, as sentences.")


class ReportObject(JsonModel):
    """What is known of one build's time and memory."""

    schema_: SchemaNumber
    build: str = Field(description="The build's id.")
    recipe: str = Field(description="Name of the recipe or of the project.")
    key: str | None = Field(description="The key of what was built.")
    status: Literal["running", "succeeded", "failed", "cancelled", "killed"] = Field(
        description="`killed`: it ended without a word."
    )
    started: str = Field(description="When the build began, in UTC.")
    finished: str | None = Field(description="When it ended, in UTC.")
    cause: str | None = Field(description="The kind of what ended it, as listed in exit-codes.md.")
    log: str | None = Field(description="Path of its log.")
    summary: SummaryObject | None = Field(description="See below; null where there is no trace.")
    trace: Trace | None = Field(description="See below; null where no compiler was started, or it cannot be read.")


ReportAnswer = ReportObject | EarlyFailure
REPORTED: TypeAdapter[ReportAnswer] = TypeAdapter(ReportAnswer)


def report_object(recorded: Recorded) -> ReportObject:
    """The object of one build."""
    return ReportObject(
        schema_=SCHEMA,
        build=recorded.build,
        recipe=recorded.recipe,
        key=recorded.key,
        status=recorded.status,
        started=recorded.started,
        finished=recorded.finished,
        cause=recorded.cause,
        log=recorded.log,
        summary=_summary_object(summarise(recorded.trace)) if recorded.trace is not None else None,
        trace=recorded.trace,
    )


def _summary_object(summary: Summary) -> SummaryObject:
    longest = summary.longest
    return SummaryObject(
        units=summary.units,
        done=summary.done,
        running=summary.running,
        waiting=summary.waiting,
        kills=summary.kills,
        thrown_away=round(summary.thrown_away, 3),
        together=summary.together,
        peak=summary.peak,
        budget=summary.budget,
        cpu=round(summary.cpu, 3),
        longest=LongestObject(
            name=longest.name, order=longest.order, seconds=round(longest.seconds, 3), share=round(summary.share, 4)
        )
        if longest is not None
        else None,
        critical_path=_path_object(summary.path),
        advice=list(summary.advice),
    )


def _path_object(path: CriticalPath) -> PathObject:
    return PathObject(
        seconds=round(path.seconds, 3),
        waited=round(path.waited, 3),
        backend=round(path.backend, 3),
        links=[
            LinkObject(
                name=link.unit.name,
                order=link.unit.order,
                start=link.run.start or 0.0,
                end=link.run.end or 0.0,
                waited=round(link.waited, 3),
                backend=round(link.backend, 3),
            )
            for link in path.links
        ],
    )


def report_schema_text() -> str:
    """The schema as docs/reference/report.schema.json holds it."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cudabuild report --json, schema 1",
        **open_schema(REPORTED.json_schema(by_alias=True, mode="validation")),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
