"""What the objects of ``--json`` have in common; without what only a build's object needs, which takes long to load."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SchemaNumber = Annotated[Literal[1], Field(alias="schema", description="Version of this format: 1.")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class JsonModel(BaseModel):
    """Frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ErrorObject(JsonModel):
    """Why there is no wheel, or none that is proven far enough."""

    kind: str = Field(description="The cause, as listed in exit-codes.md.")
    exit_code: int = Field(gt=0, description="The exit code that goes with it.")
    message: str = Field(min_length=1, description="What failed.")
    evidence: str = Field(description="The lines that show it; can be empty.")
    hint: str = Field(description="The next command to type.")
    log: str | None = Field(description="Path of the build's log, where there is one.")
    rule: str | None = Field(
        default=None,
        description="The rule that named the cause from the log, as listed in explain.md; null where none did.",
    )


class EarlyFailure(JsonModel):
    """A failure before it was clear what to build: usage, configuration."""

    schema_: SchemaNumber
    build: None
    error: ErrorObject


def open_schema(schema: Any) -> Any:
    """The schema without ``additionalProperties: false``: readers must let keys pass that came later."""
    if isinstance(schema, list):
        return [open_schema(item) for item in schema]
    if isinstance(schema, dict):
        kept = {key: open_schema(value) for key, value in schema.items()}
        if kept.get("additionalProperties") is False:
            del kept["additionalProperties"]
        return kept
    return schema
