"""What ``cudabuild matrix audit --json`` prints, as models: the source of its part of docs/reference/json.md."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field

from buildkit.cli.json_model import JsonModel, SchemaNumber
from buildkit.matrix.audit import Status


class AuditedObject(JsonModel):
    """A cell of the matrix, and what the index has for it."""

    cell: str = Field(description="Its id, as `matrix show` has it.")
    status: Status = Field(
        description="`served`; `below` (its grade is less than the cell requires); `stale` (an older version, or the "
        "recipe changed); `lacking` (no device code for a target); `unread` (what it holds could not be told); "
        "`missing`."
    )
    reasons: list[str] = Field(description="Why it is not simply `served`.")
    filename: str | None = Field(description="The wheel; null where there is none.")
    url: str | None = Field(description="Its address, without credentials.")
    sha256: str | None = Field(description="As the index says; null where it does not.")
    grade: str | None = Field(description="Of its verdict, or as the index says; null where it says nothing of proofs.")
    verdict: str | None = Field(description="The address of its verdict; null without one.")
    targets: list[str] = Field(description="What the cell wants code for; empty for the CPU.")
    held: list[str] = Field(description="The targets that all of the wheel's device code is for.")
    lacking: list[str] = Field(description="Of the wanted ones what is not there: `sm_86`, `PTX of 8.6`.")
    evidence: Literal["verdict", "wheel", "none"] = Field(description="Where `held` and `lacking` were read.")
    complete: bool = Field(description="False: the wheel was read up to the limit only.")
    size: int | None = Field(description="Bytes of the wheel; null where it was not looked into.")
    fetched: int = Field(description="Bytes that were read of it.")


class AuditObject(JsonModel):
    """An index, measured against a matrix."""

    schema_: SchemaNumber = 1
    index: str = Field(description="Its address, without credentials.")
    file: str = Field(description="The file with the matrix.")
    counts: dict[Status, int] = Field(description="Cells by status.")
    cells: list[AuditedObject] = Field(description="See below.")
    fetched: int = Field(description="Bytes of all answers together.")


def audit_schema_text() -> str:
    """docs/reference/audit.schema.json."""
    return json.dumps(AuditObject.model_json_schema(), indent=2) + "\n"
