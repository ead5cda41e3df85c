"""What ``cudabuild cache show --json`` prints, as a model: the source of docs/reference/show.schema.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import Field, TypeAdapter

from buildkit.cli.json_model import EarlyFailure, JsonModel, SchemaNumber, Sha256, open_schema
from buildkit.cli.output import SCHEMA
from buildkit.verify.verdict import Grade, Verdict, is_current, read_verdict, stored_grade

if TYPE_CHECKING:
    from buildkit.store.model import Entry

OLDER = "it was proven by an older cudabuild: the next build or verify on it proves it again"
BROKEN = "the stored verdict does not hold together: the entry is refused, and the next build makes the wheel anew"


class EntryObject(JsonModel):
    """A wheel in the store, what it was made from, and what is proven of it."""

    schema_: SchemaNumber
    key: str = Field(description="Hash of everything that determines the wheel.")
    recipe: str = Field(description="Name of the recipe or of the project.")
    version: str = Field(description="Version of the wheel, with its local part.")
    build: str = Field(description="Id of the build that made it; its log: `cudabuild log ID`.")
    created: str = Field(description="When, in UTC.")
    filename: str = Field(description="The wheel's name.")
    sha256: Sha256 = Field(description="Hash of its bytes.")
    size: int = Field(gt=0, description="Bytes.")
    seconds: float = Field(ge=0, description="What the build took.")
    targets: list[str] = Field(description="What it was built for; empty for a CPU build.")
    torch: str = Field(description="The torch it was built against; empty for a package without torch.")
    grade: Grade = Field(description="The furthest stage that passed.")
    inputs: dict[str, Any] = Field(description="The fields that the key is the hash of.")
    verdict: Verdict | None = Field(description="As under `verdict`; null where its form is an older one.")
    note: str = Field(description="Why there is no verdict; empty where there is one.")


ShowAnswer = EntryObject | EarlyFailure
SHOWN: TypeAdapter[ShowAnswer] = TypeAdapter(ShowAnswer)


def entry_object(entry: Entry) -> EntryObject:
    """The object of one entry."""
    verdict = read_verdict(entry.verdict)
    return EntryObject(
        schema_=SCHEMA,
        key=entry.key,
        recipe=entry.recipe,
        version=entry.version,
        build=entry.build,
        created=entry.created,
        filename=entry.filename,
        sha256=entry.sha256,
        size=entry.size,
        seconds=entry.seconds,
        targets=list(entry.targets),
        torch=entry.torch,
        grade=stored_grade(entry.verdict),
        inputs=entry.inputs,
        verdict=verdict,
        note="" if verdict else _why_none(entry),
    )


def show_schema_text() -> str:
    """The schema as docs/reference/show.schema.json holds it."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cudabuild cache show --json, schema 1",
        **open_schema(SHOWN.json_schema(by_alias=True, mode="validation")),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _why_none(entry: Entry) -> str:
    from buildkit.build.foreign import UNPROVEN

    origin = entry.verdict.get(UNPROVEN)
    if origin:
        return f"{UNPROVEN} {origin} and not proven here yet: the next build that wants it does so"
    return BROKEN if is_current(entry.verdict) else OLDER
