"""A run of a matrix as a document: what `cudabuild matrix run --json` prints and what is kept of a run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from buildkit.matrix.cell import Cell
from buildkit.matrix.expand import Dropped
from buildkit.store.builds import BuildProcess
from buildkit.verify.coverage import Ran

Status = Literal["waiting", "running", "succeeded", "failed", "not-run"]
RunStatus = Literal["running", "done", "interrupted"]
ENDED: frozenset[Status] = frozenset({"succeeded", "failed", "not-run"})


class ResultModel(BaseModel):
    """Frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class AttemptObject(ResultModel):
    """One try of a cell."""

    number: int = Field(ge=1, description="1 for the first.")
    where: str = Field(description="The machine that it ran on; empty while it stands in line.")
    began: str | None = Field(description="When it began to run, in UTC.")
    ended: str | None = Field(description="When it was over, in UTC.")
    exit_code: int | None = Field(description="The exit code of its command; null where it had none.")
    cause: str = Field(
        description="Why it ended: empty where it made its wheel, else `failed`, `memory`, `network`, `lost` (its "
        "machine or worker went away), `walltime` (its time on the node was up) or `cancelled`."
    )
    kind: str = Field(description="The kind of its error, as listed in exit-codes.md; empty where it told none.")
    log: str | None = Field(description="The file with what it said, where this machine can read it.")
    again: str = Field("", description="Why the cell was tried again after it; empty where it was not.")


class CellErrorObject(ResultModel):
    """Why a cell has no wheel, or none that is proven far enough."""

    kind: str = Field(description="The cause, as listed in exit-codes.md.")
    exit_code: int = Field(description="The exit code that goes with it.")
    message: str = Field(description="What failed.")
    evidence: str = Field("", description="The lines that show it; can be empty.")
    hint: str = Field("", description="The next command to type.")
    log: str | None = Field(None, description="The build's log, on the machine that built it.")


class CellWheelObject(ResultModel):
    """A cell's wheel."""

    filename: str = Field(description="Its name.")
    sha256: str = Field(description="Hash of its bytes.")
    size: int = Field(gt=0, description="Bytes.")
    path: str = Field(description="Where it lies, on the machine that built it.")


class ProvenObject(ResultModel):
    """One target of a cell's wheel: what was proven of it, and where."""

    target: str = Field(description="As it was asked for.")
    executed: bool = Field(description="Whether its code ever ran; code that is only present did not.")
    runs: tuple[Ran, ...] = Field(description="Where it ran: `gpu`, `uuid`, `capability`, `driver`, `by`.")
    summary: str = Field(description="All of it in words.")


class CellKeys(ResultModel):
    """What a cell is."""

    id: str = Field(description="Its name, the same from run to run.")
    recipe: str = Field(description="What is built, as `cudabuild build` takes it.")
    version: str = Field(description="Its version; empty where the source says it.")
    torch: str = Field(description="The torch it is built against.")
    cuda: str = Field(description="The release of torch's CUDA; empty for the CPU.")
    python: str = Field(description="The Python it is for.")
    targets: tuple[str, ...] = Field(description="Its target set; empty for the CPU.")
    device: Literal["cuda", "cpu"] = Field(description="`cuda` or `cpu`.")
    platform: str = Field(description="The platform it is for.")
    require: str | None = Field(description="The grade under which it fails; null: as for `cudabuild build`.")
    memory: int | None = Field(description="Memory that its build may use, in bytes; null: what the machine has.")
    timeout: float | None = Field(description="Longest time for its build, in seconds; null: the recipe's.")
    gpu: str | None = Field(description="The GPU that its proof needs; empty for any; null for none.")

    def cell(self) -> Cell:
        """As a value."""
        return Cell(**{name: getattr(self, name) for name in CellKeys.model_fields})


class CellObject(CellKeys):
    """One cell of a run: what it is, how far it came, what was proven."""

    status: Status = Field(
        "waiting",
        description="`waiting`, `running`, `succeeded`, `failed`, or `not-run`: another failure ended the run before "
        "(`--fail-fast`).",
    )
    expected_seconds: float | None = Field(None, description="What it will take, by what is remembered.")
    expected_memory: int | None = Field(None, description="Bytes that it will hold, by what is remembered.")
    attempts: tuple[AttemptObject, ...] = Field((), description="Its tries. See below.")
    build: str | None = Field(None, description="The id of the build that made its wheel.")
    key: str | None = Field(None, description="Hash of everything that determines its wheel.")
    cache: Literal["hit", "miss"] | None = Field(None, description="Whether a store had it.")
    grade: str | None = Field(None, description="The furthest stage that passed.")
    wheel: CellWheelObject | None = Field(None, description="See below.")
    proven: tuple[ProvenObject, ...] = Field((), description="A row for each target. See below.")
    peak_memory: int | None = Field(None, description="Bytes that its build held; null on a hit.")
    jobs: int | None = Field(None, description="Compilations at once that its build was planned with.")
    seconds: float | None = Field(None, description="Seconds of the try that ended it.")
    error: CellErrorObject | None = Field(None, description="Only there where it failed. See below.")


class DroppedObject(ResultModel):
    """A combination that is no cell of this run."""

    id: str = Field(description="The name it would have.")
    kind: Literal["impossible", "excluded", "elsewhere", "unchanged"] = Field(
        description="`impossible`: no machine can build it; `excluded`: the file leaves it out; `elsewhere`: it is for "
        "another platform than the executor's; `unchanged`: its recipe has no changes (`--changed-since`)."
    )
    reason: str = Field(description="Why, in words.")


class CountsObject(ResultModel):
    """The run in figures."""

    cells: int = Field(ge=0, description="How many cells.")
    built: int = Field(ge=0, description="Those that were built.")
    hits: int = Field(ge=0, description="Those that a store had.")
    failed: int = Field(ge=0, description="Those that failed.")
    left: int = Field(ge=0, description="Those that have not ended, or were not run.")
    dropped: int = Field(ge=0, description="Combinations that are no cells.")
    grades: dict[str, int] = Field(description="How many reached which grade.")
    retries: int = Field(ge=0, description="Tries beyond the first.")


class RunObject(ResultModel):
    """One run of a matrix; written after each event, so that the next one goes on where it was."""

    schema_: Literal[1] = Field(1, alias="schema", description="Version of this format: 1.")
    run: str = Field(description="Its id.")
    file: str = Field(description="The matrix's file.")
    fingerprint: str = Field(description="Hash of the matrix and of the recipes it names.")
    executor: str = Field(description="Where its cells run, as `--executor` names it.")
    slots: int = Field(ge=1, description="Cells at a time.")
    status: RunStatus = Field(description="`running`, `done` or `interrupted`.")
    started: str = Field(description="When it began, in UTC; the first time, where it was interrupted.")
    finished: str | None = Field(None, description="When it was over, in UTC.")
    seconds: float = Field(0.0, ge=0, description="How long it ran; since it went on, where it was interrupted.")
    exit_code: int | None = Field(None, description="That of the first cell that failed, or 0.")
    process: BuildProcess | None = Field(None, description="The process that runs it: `pid`, `start`, `boot`, `host`.")
    counts: CountsObject = Field(description="See below.")
    cells: tuple[CellObject, ...] = Field(description="Every cell. See below.")
    dropped: tuple[DroppedObject, ...] = Field(description="See below.")

    def cell(self, identifier: str) -> CellObject:
        """The cell of this id."""
        return next(cell for cell in self.cells if cell.id == identifier)


def counts_of(cells: Sequence[CellObject], dropped: int) -> CountsObject:
    """The figures."""
    good = [cell for cell in cells if cell.status == "succeeded"]
    grades = [cell.grade for cell in good if cell.grade]
    return CountsObject(
        cells=len(cells),
        built=sum(cell.cache == "miss" for cell in good),
        hits=sum(cell.cache == "hit" for cell in good),
        failed=sum(cell.status == "failed" for cell in cells),
        left=sum(cell.status not in {"succeeded", "failed"} for cell in cells),
        dropped=dropped,
        grades={grade: grades.count(grade) for grade in sorted(set(grades))},
        retries=sum(max(0, len(cell.attempts) - 1) for cell in cells),
    )


def cell_object(cell: Cell, **more: Any) -> CellObject:
    """A cell as the document has it."""
    return CellObject(**asdict(cell), **more)


def dropped_objects(dropped: Sequence[Dropped]) -> tuple[DroppedObject, ...]:
    """What the expansion dropped, as the document has it."""
    return tuple(DroppedObject(id=one.cell.id, kind=one.kind, reason=one.reason) for one in dropped)


def succeeded(cell: CellObject, answer: Mapping[str, Any]) -> CellObject:
    """The cell with what its command answered."""
    verdict, guard, wheel = answer.get("verdict") or {}, answer.get("guard") or {}, answer.get("wheel")
    return cell.model_copy(
        update={
            "status": "succeeded",
            "build": answer.get("build"),
            "key": answer.get("key"),
            "cache": answer.get("cache"),
            "grade": verdict.get("grade"),
            "wheel": CellWheelObject.model_validate(wheel) if wheel else None,
            "proven": proven_of(verdict),
            "peak_memory": guard.get("peak_memory"),
            "jobs": (answer.get("plan") or {}).get("jobs"),
            "seconds": float(answer.get("seconds") or 0.0),
            "error": None,
        }
    )


def proven_of(verdict: Mapping[str, Any]) -> tuple[ProvenObject, ...]:
    """What a verdict says of each target."""
    keys = ProvenObject.model_fields.keys()
    rows = verdict.get("rows") or ()
    return tuple(ProvenObject.model_validate({key: row[key] for key in keys}) for row in rows)
