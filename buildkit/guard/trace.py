"""What happened in a build, second by second: its compilations, its memory against the budget, its processes.

Written as ``store/traces/BUILD.json``. Times are seconds since the guard took over, sizes bytes. Pure; what fills it is
:mod:`buildkit.guard.trace_recorder`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MOST_UNITS = 5000
"""Compilations that a trace keeps: the longest of them."""
MOST_RUNS = 20
"""Runs of one compilation that a trace keeps: the first and the last of them."""

MOST_SECONDS = 1e9
"""Seconds that no time of a trace is beyond: three decades."""
MOST_BYTES = 2**63 - 1
"""Bytes that a kernel can tell of at most: what it says where there is no limit."""
MOST = 2**31 - 1
"""What is counted, at most."""


def _milliseconds(seconds: float) -> float:
    """As they are written: what is shorter is no time that anything could be divided by."""
    return round(seconds, 3)


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Size = Annotated[int, Field(ge=0)]
Time = Annotated[float, Field(ge=0, le=MOST_SECONDS, allow_inf_nan=False), AfterValidator(_milliseconds)]
Bytes = Annotated[int, Field(ge=0, le=MOST_BYTES)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Outcome = Literal["waiting", "running", "done", "failed", "killed", "given-up", "lost"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)


class Run(_Model):
    """One time that a compilation stood in line and ran. After `killed` there is another one."""

    queued: Time = Field(description="When it stood in line.")
    start: Time | None = Field(None, description="When it was let start; null while it waits.")
    end: Time | None = Field(None, description="When it ended; null while it runs.")
    outcome: Outcome = Field(
        description="`done`; `failed`: the compiler said so; `killed`: ended and put back in line; `given-up`: it "
        "cannot be built here; `lost`: it went away with its build; `running`, `waiting`."
    )
    reason: str = Field("", description="Why it was killed or given up.")
    code: int = Field(0, ge=-MOST, le=MOST, description="The compiler's exit status.")
    signal: int = Field(0, ge=-MOST, le=MOST, description="The signal that the compiler ended by.")
    peak: Bytes = Field(0, description="The most that its process tree held.")
    cpu: Time = Field(0.0, description="Processor seconds of its process tree.")
    threads: int = Field(1, ge=1, le=MOST, description="What nvcc's `--threads` was for this run.")
    bound: Bytes = Field(0, description="What it was expected to take when it was let start.")
    source: str = Field("", description="Where that was taken from: `seen` in an earlier build, or what it is like.")

    @model_validator(mode="after")
    def _in_order(self) -> Run:
        known = [at for at in (self.queued, self.start, self.end) if at is not None]
        if known != sorted(known):
            raise ValueError("it starts before it stands in line, or ends before it starts")
        return self

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

    order: Count = Field(description="Its place among the build's compilations, as they came.")
    name: str = Field(description="The source's name, or the output's.")
    kind: str = Field(description="`nvcc`, `cc`, `cxx` or `link`.")
    key: str = Field(description="What it is known by from build to build: source, flags, targets.")
    kills: Count = Field(0, description="How often it was ended and put back in line.")
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

    at: Time = Field(description="When.")
    units: Bytes = Field(description="What the build's compilations held.")
    budget: Bytes = Field(description="What they could hold in all, where memory was tightest.")
    available: Bytes = Field(description="What was free there.")
    limit: Bytes = Field(description="The limit there.")
    running: Count = Field(description="Compilations that ran.")
    waiting: Count = Field(description="Compilations that stood in line.")


class TreePoint(_Model):
    """What the guard saw of the whole build: the backend, the compilers, all that they started."""

    at: Time = Field(description="When.")
    memory: Bytes = Field(description="Resident bytes of all processes.")
    cpu: Time = Field(description="Processor seconds since the beginning.")
    processes: Count = Field(description="How many there were.")


class Trace(_Model):
    """The trace of one build. Times are seconds since the guard took over, sizes bytes."""

    schema_: Literal[1] = Field(1, alias="schema", description="Version of this format: 1.")
    build: str = Field(description="The build's id.")
    key: str | None = Field(None, description="The key of what was built.")
    recipe: str = Field(description="Name of the recipe or of the project.")
    started: str = Field(description="When the guard took over, in UTC.")
    seconds: Time = Field(description="How long it ran, or has run so far.")
    complete: bool = Field(description="False while the build runs, and where it was killed.")
    admitted: bool = Field(description="Whether compilations were admitted one by one; if not, none is known.")
    cores: int = Field(ge=1, le=MOST, description="Processors that the build could use.")
    jobs: int = Field(ge=1, le=MOST, description="The most compilations that were let run at once.")
    planned: Bytes = Field(0, description="The memory budget as it was planned.")
    pool: str = Field("", description="Where memory was tightest: the name of the limit.")
    restarts: Count = Field(0, description="How often the broker had to be started again.")
    units: tuple[UnitTrace, ...] = Field((), description="The compilations, as they came. See below.")
    left_out: Count = Field(0, description="Compilations that were too many to keep: the shortest.")
    memory: tuple[MemoryPoint, ...] = Field((), description="The compilations' memory against the budget. See below.")
    tree: tuple[TreePoint, ...] = Field((), description="All processes of the build. See below.")

    def as_bytes(self) -> bytes:
        """The trace's file."""
        return self.model_dump_json(by_alias=True).encode() + b"\n"


def bounded_time(seconds: float) -> float:
    """A time as a trace can hold it, whatever a client has said."""
    return min(max(0.0, seconds), MOST_SECONDS)


def bounded_number(number: str | int, most: int = MOST) -> int:
    """A count or a size as a trace can hold it. Raises ValueError for what is no number."""
    return min(max(0, int(number)), most)


def read_trace(data: bytes) -> Trace | None:
    """A trace from its file; None for what is none of this schema."""
    from pydantic import ValidationError

    try:
        return Trace.model_validate_json(data)
    except ValidationError:
        return None
