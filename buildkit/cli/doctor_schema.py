"""What ``cudabuild doctor --json`` prints, as models: the source of docs/reference/doctor.schema.json."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Literal

from pydantic import Field, TypeAdapter

from buildkit.cli.json_model import EarlyFailure, JsonModel, SchemaNumber, open_schema
from buildkit.guard.protocol import Containment, Isolation, Sources
from buildkit.machine.solver.answer import Kind, Tool, Verdict
from buildkit.machine.solver.host import Place
from buildkit.source.reach import ReachOutcome


class SystemObject(JsonModel):
    """The system, and what kind of place it is."""

    name: str = Field(description="The distribution, as it names itself.")
    kernel: str = Field(description="The kernel's release.")
    place: Place = Field(description="What decides how things are installed and whose driver counts.")
    wsl2: bool = Field(description="Whether Windows is around it.")
    container: str | None = Field(description="The kind of container; null outside of one.")
    slurm_job: str | None = Field(description="The job's id; null outside of one.")
    jetson: str | None = Field(description="The release of Jetson Linux; null elsewhere.")


class PythonObject(JsonModel):
    """The Python that wheels would be for."""

    version: str = Field(description="Its version.")
    at: str = Field(description="Its path.")
    machine: str = Field(description="`x86_64` or `aarch64`.")
    headers: bool = Field(description="Whether Python.h is here.")
    setuptools: str | None = Field(description="The setuptools beside it, for plain pip; cudabuild brings its own.")


class TorchObject(JsonModel):
    """The torch that a build would be against."""

    version: str = Field(description="Its version, with the local part.")
    cuda: str | None = Field(description="The CUDA that it was built with; null: without.")
    at: str | None = Field(description="The folder that it is in; null for one that a build would install.")


class ToolkitObject(JsonModel):
    """A CUDA toolkit that is here."""

    release: str = Field(description="Such as `12.8`.")
    version: str = Field(description="nvcc's own.")
    at: str = Field(description="Its root.")
    origin: str = Field(description="How it was found.")
    missing: list[str] = Field(description="Headers that torch's headers include and it lacks.")
    runtime: bool = Field(description="Whether there is a CUDA runtime to link with.")
    damaged: bool = Field(description="Whether cudabuild made it and its files are no longer those; see `findings`.")


class CompilerObject(JsonModel):
    """The host's C++ compiler."""

    kind: Literal["gcc", "clang"] = Field(description="Which.")
    version: str = Field(description="Its version.")
    at: str = Field(description="Its path.")


class VisibleGpu(JsonModel):
    """A GPU that CUDA programs see here."""

    name: str = Field(description="As the driver names it.")
    capability: str = Field(description="Its compute capability: the target for it.")


class GpusObject(JsonModel):
    """The GPUs, after CUDA_VISIBLE_DEVICES."""

    visible: list[VisibleGpu] = Field(description="Each.")
    driver: str | None = Field(description="The driver's version; under WSL2 the one of Windows.")
    runs: list[int] = Field(description="CUDA majors whose code this driver runs; empty where there is none.")
    source: str = Field(description="Who told: `nvml`, `nvidia-smi`, `jetson` or `none`.")
    silent: str = Field(description="Who did not answer in time; empty where everybody did.")


class LimitsObject(JsonModel):
    """Processors and memory that really count."""

    cpus: int = Field(ge=1, description="How many a build may use.")
    cpu_source: str = Field(description="What says so.")
    memory: int = Field(ge=0, description="Bytes, at most.")
    available: int = Field(ge=0, description="Bytes of it that are free.")
    memory_source: str = Field(description="What sets the limit.")


class FitObject(JsonModel):
    """How many compilations go on at once."""

    jobs: int = Field(ge=0, description="At once; 0 where not even one fits.")
    memory_per_unit: int = Field(gt=0, description="Bytes that one is expected to take.")
    reason: str = Field(description="Why that many.")


class CacheObject(JsonModel):
    """The cache."""

    at: str = Field(description="Its folder.")
    free: int = Field(ge=0, description="Bytes that are free there.")
    writable: bool = Field(description="Whether this user may write there.")
    wheels: int = Field(ge=0, description="Wheels that are stored.")
    damaged: list[str] = Field(description="Those of them that are missing or of another size; no bytes are read.")


class IndexObject(JsonModel):
    """The package index, and places to find packages in."""

    settings: str = Field(description="What pip and uv are configured with, without credentials.")
    outcome: ReachOutcome = Field(description="Whether they answer; `partly`: some do; `none`: none is asked.")
    detail: str = Field(description="Which do not, and why.")
    slow: bool = Field(description="Whether some of those may only be slow: they were not waited for any longer.")


class TierObject(JsonModel):
    """How a build would be held here."""

    containment: Containment | None = Field(description="What holds its processes; null where that is not known.")
    isolation: Isolation | None = Field(description="`namespace`: it cannot write outside of its own folders.")
    sources: Sources | None = Field(
        description="`isolated`: a build does not see the store; `trusted`: nothing keeps its code from writing there."
    )
    note: str = Field(description="Why it is not known.")


class WindowsObject(JsonModel):
    """Windows around WSL2."""

    memory: int | None = Field(description="Bytes; null where it did not say.")
    given: int | None = Field(description="Bytes that a .wslconfig gives to WSL2; null where none does.")
    wslconfig: list[str] = Field(description="Lines of a .wslconfig for this much memory.")


class MachineObject(JsonModel):
    """What is here."""

    python: PythonObject | None
    torch: TorchObject | None
    toolkits: list[ToolkitObject] = Field(description="Those that are here, the preferred one first.")
    compiler: CompilerObject | None
    gpus: GpusObject
    limits: LimitsObject
    cache: CacheObject
    system: SystemObject
    glibc: str | None = Field(description="The C library's release; null where it is another one.")
    index: IndexObject
    guard: TierObject
    windows: WindowsObject | None = Field(description="null outside of WSL2.")


class DoctorFinding(JsonModel):
    """One thing that does not fit."""

    step: str = Field(description="Where an ordinary build meets it: `plan` to `run`, or `cache`, `network`.")
    cause: str = Field(description="A word for it, for programs.")
    text: str = Field(description="A sentence.")
    hint: str = Field(description="What to type; empty where `advice` says it.")
    blocking: bool = Field(description="Whether nothing can be built, or run, as long as it is so.")


class WayObject(JsonModel):
    """One way to make a change."""

    tool: Tool = Field(description="What the lines are for; `by-hand`: to be done, not typed.")
    lines: list[str] = Field(description="One after the other.")


class ChangeObject(JsonModel):
    """One thing to change."""

    kind: Kind = Field(description="What is changed.")
    text: str = Field(description="In words.")
    ways: list[WayObject] = Field(description="Alternatives, the usual one first.")


class AdviceObject(JsonModel):
    """Changes that together make it work."""

    verdict: Verdict = Field(description="What holds after them: `works` or `warning`.")
    changes: list[ChangeObject] = Field(description="All of them are needed.")


class NoteObject(JsonModel):
    """What is worth knowing of the kind of place this is."""

    about: str = Field(description="What it is about.")
    text: str = Field(description="In words.")
    lines: list[str] = Field(description="Lines to type, or of a file.")


class DoctorObject(JsonModel):
    """What this machine is, and whether a CUDA extension can be built on it and run."""

    schema_: SchemaNumber
    ok: bool = Field(description="Whether nothing stands in the way: `verdict` is not `cannot`.")
    verdict: Verdict = Field(description="`works`, `warning` (works, and something is worth knowing) or `cannot`.")
    recipe: str | None = Field(description="The package that was named; null for any.")
    targets: list[str] = Field(description="What would be built for; empty where there is neither GPU nor target.")
    machine: MachineObject
    fit: FitObject
    findings: list[DoctorFinding] = Field(description="What does not fit, what is in the way first.")
    advice: list[AdviceObject] = Field(description="What makes it work, the smallest change first.")
    notes: list[NoteObject] = Field(description="What is worth knowing of this kind of place.")
    problems: list[str] = Field(description="The findings in the way, with what to type.")


SECTIONS: tuple[tuple[str, type[JsonModel]], ...] = (
    ("The object", DoctorObject),
    ("`findings`", DoctorFinding),
    ("`advice`", AdviceObject),
    ("`advice.changes`", ChangeObject),
    ("`advice.changes.ways`", WayObject),
    ("`notes`", NoteObject),
    ("`fit`", FitObject),
    ("`machine`", MachineObject),
    ("`machine.python`", PythonObject),
    ("`machine.torch`", TorchObject),
    ("`machine.toolkits`", ToolkitObject),
    ("`machine.compiler`", CompilerObject),
    ("`machine.gpus`", GpusObject),
    ("`machine.gpus.visible`", VisibleGpu),
    ("`machine.limits`", LimitsObject),
    ("`machine.cache`", CacheObject),
    ("`machine.system`", SystemObject),
    ("`machine.index`", IndexObject),
    ("`machine.guard`", TierObject),
    ("`machine.windows`", WindowsObject),
)
"""The tables of docs/reference/doctor.md."""

DoctorAnswer = DoctorObject | EarlyFailure


@cache
def doctor_answers() -> TypeAdapter[DoctorAnswer]:
    """What reads an answer; made when it is asked for, since to make it takes longer than to look at a machine."""
    return TypeAdapter(DoctorAnswer)


def doctor_schema_text() -> str:
    """The schema as docs/reference/doctor.schema.json holds it."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cudabuild doctor --json, schema 1",
        **open_schema(doctor_answers().json_schema(by_alias=True, mode="validation")),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
