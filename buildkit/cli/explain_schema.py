"""What ``cudabuild explain --json`` prints, as a model: the source of docs/reference/explain.schema.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, TypeAdapter

from buildkit.cli.json_model import EarlyFailure, JsonModel, SchemaNumber, open_schema
from buildkit.cli.output import SCHEMA
from buildkit.diagnose.engine import Finding
from buildkit.diagnose.first import first_error_at
from buildkit.diagnose.text import core

if TYPE_CHECKING:
    from buildkit.cli.explain_input import Source


class LineObject(JsonModel):
    """A line of the log."""

    line: int = Field(ge=1, description="Its number in the log, from 1.")
    text: str = Field(description="What it says, without colours and other programs' prefixes.")


class CauseObject(JsonModel):
    """A cause that the log shows."""

    rule: str = Field(description="The rule that knows it, as listed in explain.md.")
    kind: str = Field(
        description="The kind of error that a build with this log fails with, as listed in exit-codes.md."
    )
    cause: str = Field(description="One sentence.")
    evidence: list[LineObject] = Field(min_length=1, description="The lines that show it.")
    hint: str = Field(description="The next command to type.")
    links: list[str] = Field(description="Pages that say more.")
    because_of: str | None = Field(
        description="The rule whose finding brought this one about; null for a cause of its own."
    )


class ExplainObject(JsonModel):
    """What is known of a log."""

    schema_: SchemaNumber
    source: str = Field(description="The file that was read.")
    build: str | None = Field(description="The build's id, where one was named.")
    ended: str | None = Field(
        description="The kind of error that the build ended with, where one was named and failed."
    )
    lines: int = Field(ge=0, description="Lines that were looked at.")
    cut: bool = Field(description="Whether only the end was looked at: 16 MiB.")
    explained: bool = Field(description="Whether a rule knows what the log shows; the exit code is 0 then, else 1.")
    findings: list[CauseObject] = Field(description="Causes, the root cause first.")
    first_error: LineObject | None = Field(description="The first line that reports an error; null where none does.")


ExplainAnswer = ExplainObject | EarlyFailure
EXPLAINED: TypeAdapter[ExplainAnswer] = TypeAdapter(ExplainAnswer)


def explain_object(source: Source, found: Sequence[Finding]) -> ExplainObject:
    """The object of one log."""
    place = first_error_at(source.log.lines)
    record = source.record
    return ExplainObject(
        schema_=SCHEMA,
        source=source.name,
        build=record.id if record else None,
        ended=record.error if record else None,
        lines=len(source.log.lines),
        cut=source.cut,
        explained=bool(found),
        findings=[_cause(finding) for finding in found],
        first_error=None
        if place is None
        else LineObject(line=source.log.numbers[place], text=core(source.log.lines[place])),
    )


def _cause(finding: Finding) -> CauseObject:
    return CauseObject(
        rule=finding.rule.id,
        kind=finding.rule.kind,
        cause=finding.cause,
        evidence=[LineObject(line=each.line, text=each.text) for each in finding.evidence],
        hint=finding.hint,
        links=list(finding.rule.links),
        because_of=finding.because_of or None,
    )


def explain_schema_text() -> str:
    """The schema as docs/reference/explain.schema.json holds it."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cudabuild explain --json, schema 1",
        **open_schema(EXPLAINED.json_schema(by_alias=True, mode="validation")),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
