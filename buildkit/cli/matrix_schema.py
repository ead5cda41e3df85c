"""What ``cudabuild matrix ... --json`` prints: the source of docs/reference/matrix-show.schema.json and matrix-run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, TypeAdapter

from buildkit.cli.json_model import EarlyFailure, JsonModel, SchemaNumber, open_schema
from buildkit.cli.output import SCHEMA
from buildkit.matrix.outlook import Outlook
from buildkit.matrix.results import CellKeys, DroppedObject, RunObject, cell_object, dropped_objects
from buildkit.matrix.schedule import longest_first, makespan


class OutlookObject(CellKeys):
    """One cell: what the store has of it, and what it will take."""

    state: Literal["stored", "stale", "missing", "unknown", "not-here", "elsewhere"] = Field(
        description="`stored`; `stale`: there is a wheel, and what it was made from has changed; `missing`; `unknown`: "
        "there is a wheel, and something that tells whether it still serves is not here; `not-here`: this machine, as "
        "it is, cannot build it; `elsewhere`: for another platform."
    )
    grade: str | None = Field(description="How far the stored wheel is proven; null where there is none.")
    key: str | None = Field(description="Hash of everything that determines its wheel; null where that is not known.")
    entry: str | None = Field(description="Key of the entry that serves, or of the stale one.")
    wheel: str | None = Field(description="Name of that entry's wheel.")
    differs: list[str] = Field(description="What has changed since a stale one was made.")
    note: str = Field(description="What else there is to say; can be empty.")
    hint: str = Field(description="The next command to type where this machine cannot build it; can be empty.")
    expected_seconds: float | None = Field(description="What it will take; 0 where it is stored.")
    expected_memory: int | None = Field(description="Bytes that its build will hold.")
    expected_from: Literal["same", "alike", "recipe"] = Field(
        description="Where that is from: an earlier build of the same cell, one of the same package, or its recipe."
    )


class TotalsObject(JsonModel):
    """The matrix in figures."""

    cells: int = Field(ge=0, description="How many cells.")
    states: dict[str, int] = Field(description="How many of which state.")
    seconds: float = Field(ge=0, description="What is left to do, as far as it is known.")
    unknown: int = Field(ge=0, description="Cells to be built of which no time is known.")
    makespan: float = Field(ge=0, description="The same with `slots` cells at a time, if they do not slow each other.")
    slots: int = Field(ge=1, description="Cells at a time, as on this machine.")


class ShowObject(JsonModel):
    """A matrix: its cells, and what was dropped."""

    schema_: SchemaNumber
    file: str = Field(description="The matrix's file.")
    totals: TotalsObject = Field(description="See below.")
    cells: list[OutlookObject] = Field(description="See below.")
    dropped: list[DroppedObject] = Field(description="Combinations that are no cells. See below.")


ShowAnswer = ShowObject | EarlyFailure
SHOWN: TypeAdapter[ShowAnswer] = TypeAdapter(ShowAnswer)
RunAnswer = RunObject | EarlyFailure
RUN: TypeAdapter[RunAnswer] = TypeAdapter(RunAnswer)


def show_object(file: str, outlooks: Sequence[Outlook], dropped: Sequence[Any], slots: int) -> ShowObject:
    """The object of `matrix show`."""
    cells = [_outlook_object(one) for one in outlooks]
    return ShowObject(
        schema_=SCHEMA, file=file, totals=_totals(cells, slots), cells=cells, dropped=list(dropped_objects(dropped))
    )


def _outlook_object(one: Outlook) -> OutlookObject:
    keys = cell_object(one.cell).model_dump(include=set(CellKeys.model_fields))
    return OutlookObject(
        **keys,
        state=one.state,
        grade=one.grade,
        key=one.key,
        entry=one.entry.key if one.entry else None,
        wheel=one.entry.filename if one.entry else None,
        differs=list(one.differs),
        note=one.note,
        hint=one.hint,
        expected_seconds=one.estimate.seconds,
        expected_memory=one.estimate.memory,
        expected_from=one.estimate.source,
    )


def _totals(cells: Sequence[OutlookObject], slots: int) -> TotalsObject:
    states = [cell.state for cell in cells]
    todo = {cell.id: cell.expected_seconds for cell in cells if cell.state in {"stale", "missing", "unknown"}}
    known = {name: value for name, value in todo.items() if value is not None}
    return TotalsObject(
        cells=len(cells),
        states={state: states.count(state) for state in dict.fromkeys(states)},
        seconds=round(sum(known.values()), 1),
        unknown=len(todo) - len(known),
        makespan=round(makespan(longest_first(list(known), todo), known, slots), 1),
        slots=slots,
    )


def _text(adapter: TypeAdapter[Any], title: str) -> str:
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **open_schema(adapter.json_schema(by_alias=True, mode="validation")),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def show_matrix_schema_text() -> str:
    """The schema as docs/reference/matrix-show.schema.json holds it."""
    return _text(SHOWN, "cudabuild matrix show --json, schema 1")


def run_matrix_schema_text() -> str:
    """The schema as docs/reference/matrix-run.schema.json holds it."""
    return _text(RUN, "cudabuild matrix run --json and matrix status --json, schema 1")
