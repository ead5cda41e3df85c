"""What happened in a build, second by second: its compilations, its memory against the budget, its processes.

Written as ``store/traces/BUILD.json``. Times are seconds since the guard took over, sizes bytes. Pure; what fills it is
:mod:`buildkit.guard.trace_recorder`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_UNITS = 5000
"""Compilations that a trace keeps: the longest of them."""
MOST_RUNS = 20
"""Runs of one compilation that a trace keeps: the first and the last of them."""

Seconds = Annotated[float, Field(ge=0)]
Size = Annotated[int, Field(ge=0)]
Outcome = Literal["waiting", "running", "done", "failed", "killed", "given-up", "lost"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)


class Run(_Model):
    """One time that a compilation stood in line and ran. After `killed` there is another one."""

    queued: Seconds = Field(description="When it stood in line.")
    start: Seconds | None = Field(None, description="When it was let start; null while it waits.")
    end: Seconds | None = Field(None, description="When it ended; null while it runs.")
    outcome: Outcome = Field(
        description="`done`; `failed`: the compiler said so; `killed`: ended and put back in line; `given-up`: it "
        "cannot be built here; `lost`: it went away with its build; `running`, `waiting`."
    )
    reason: str = Field("", description="Why it was killed or given up.")
    code: int = Field(0, description="The compiler's exit status.")
    signal: int = Field(0, description="The signal that the compiler ended by.")
    peak: Size = Field(0, description="The most that its process tree held.")
    cpu: Seconds = Field(0.0, description="Processor seconds of its process tree.")
    threads: int = Field(1, ge=1, description="What nvcc's `--threads` was for this run.")
    bound: Size = Field(0, description="What it was expected to take when it was let start.")
    source: str = Field("", description="Where that was taken from: `seen` in an earlier build, or what it is like.")

    @property
    def seconds(self) -> float:
        """How long it ran; 0 where it did not, or has not ended."""
        return self.end - self.start if self.start is not None and self.end is not None else 0.0

    @property
    def wait(self) -> float:
        """How long it stood in line; 0 where that has not ended."""
        return self.start - self.queued if self.start is not None else 0.0


class UnitTrace(_Model):
    """One compilation or link."""

    order: int = Field(ge=0, description="Its place among the build's compilations, as they came.")
    name: str = Field(description="The source's name, or the output's.")
    kind: str = Field(description="`nvcc`, `cc`, `cxx` or `link`.")
    key: str = Field(description="What it is known by from build to build: source, flags, targets.")
    kills: int = Field(0, ge=0, description="How often it was ended and put back in line.")
    runs: tuple[Run, ...] = Field(min_length=1, description="See below.")

    @property
    def seconds(self) -> float:
        """Seconds that it ran, all runs together."""
        return sum(run.seconds for run in self.runs)

    @property
    def wait(self) -> float:
        """Seconds that it stood in line, all runs together."""
        return sum(run.wait for run in self.runs)

    @property
    def cpu(self) -> float:
        """Processor seconds of all runs."""
        return sum(run.cpu for run in self.runs)

    @property
    def peak(self) -> int:
        """The most that any of its runs held."""
        return max(run.peak for run in self.runs)


class MemoryPoint(_Model):
    """What the broker saw; between two points the worst of what was seen."""

    at: Seconds = Field(description="When.")
    units: Size = Field(description="What the build's compilations held.")
    budget: Size = Field(description="What they could hold in all, where memory was tightest.")
    available: Size = Field(description="What was free there.")
    limit: Size = Field(description="The limit there.")
    running: int = Field(ge=0, description="Compilations that ran.")
    waiting: int = Field(ge=0, description="Compilations that stood in line.")


class TreePoint(_Model):
    """What the guard saw of the whole build: the backend, the compilers, all that they started."""

    at: Seconds = Field(description="When.")
    memory: Size = Field(description="Resident bytes of all processes.")
    cpu: Seconds = Field(description="Processor seconds since the beginning.")
    processes: int = Field(ge=0, description="How many there were.")


class Trace(_Model):
    """The trace of one build. Times are seconds since the guard took over, sizes bytes."""

    schema_: Literal[1] = Field(1, alias="schema", description="Version of this format: 1.")
    build: str = Field(description="The build's id.")
    key: str | None = Field(None, description="The key of what was built.")
    recipe: str = Field(description="Name of the recipe or of the project.")
    started: str = Field(description="When the guard took over, in UTC.")
    seconds: Seconds = Field(description="How long it ran, or has run so far.")
    complete: bool = Field(description="False while the build runs, and where it was killed.")
    admitted: bool = Field(description="Whether compilations were admitted one by one; if not, none is known.")
    cores: int = Field(ge=1, description="Processors that the build could use.")
    jobs: int = Field(ge=1, description="The most compilations that were let run at once.")
    planned: Size = Field(0, description="The memory budget as it was planned.")
    pool: str = Field("", description="Where memory was tightest: the name of the limit.")
    restarts: int = Field(0, ge=0, description="How often the broker had to be started again.")
    units: tuple[UnitTrace, ...] = Field((), description="The compilations, as they came. See below.")
    left_out: int = Field(0, ge=0, description="Compilations that were too many to keep: the shortest.")
    memory: tuple[MemoryPoint, ...] = Field((), description="The compilations' memory against the budget. See below.")
    tree: tuple[TreePoint, ...] = Field((), description="All processes of the build. See below.")

    def as_bytes(self) -> bytes:
        """The trace's file."""
        return self.model_dump_json(by_alias=True).encode() + b"\n"


def read_trace(data: bytes) -> Trace | None:
    """A trace from its file; None for what is none of this schema."""
    from pydantic import ValidationError

    try:
        return Trace.model_validate_json(data)
    except ValidationError:
        return None
