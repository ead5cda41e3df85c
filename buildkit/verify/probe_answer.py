"""What ``probe_script.py`` writes, as models: nothing of it is believed before it has this form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from buildkit.errors import ProbeFailed
from buildkit.verify.probe_script import read_check

SIZE_LIMIT = 64 << 20
"""Bytes of an answer; a probe's values are small."""
_HINT = "a probe's values are numbers, texts and short lists; see docs/how-to/write-a-recipe.md"
Text = Annotated[str, Field(max_length=100_000)]


class Part(BaseModel):
    """Frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())


class GpuStarted(Part):
    """The GPU as CUDA reports it from inside the process; memory in bytes."""

    name: Text
    uuid: Text
    capability: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    free: int = Field(ge=0)
    total: int = Field(ge=0)


class DriverUsed(Part):
    """The libcuda files that are mapped, and the devices of the kernel's driver that are open."""

    libraries: tuple[Text, ...]
    nodes: tuple[Text, ...]


class RecordedKernel(Part):
    """One kernel by the name that CUPTI gave it (demangled where that was possible), over all launches."""

    name: Text
    launches: int = Field(ge=1)
    microseconds: float = Field(ge=0, allow_inf_nan=False)


class MemoryThen(Part):
    """The GPU's memory when something failed (bytes): free, and what torch held in this process."""

    free: int = Field(ge=0)
    held: int = Field(ge=0)


class Raised(Part):
    """The exception that ended the probe."""

    type: Text
    message: str
    line: str
    memory: MemoryThen | None


class ProbeAnswer(Part):
    """All of it. ``step`` is what was under way, or done, when it was last written."""

    schema_: Literal[1] = Field(1, alias="schema")
    step: Text = "the start of Python"
    done: bool = False
    torch: Text | None = None
    mcubes: bool = False
    gpu: GpuStarted | None = None
    driver: DriverUsed | None = None
    checks: tuple[Annotated[dict[str, Any], BeforeValidator(read_check)], ...] = ()
    """Each read again by the rules of the runner; they are judged elsewhere."""
    kernels: tuple[RecordedKernel, ...] = ()
    recorder: Text = "off"
    error: Raised | None = None


def read_answer(path: Path) -> ProbeAnswer:
    """What the script reached; where it wrote nothing, the step is the interpreter's own start.

    Raises :class:`ProbeFailed` for a file that is not such an answer.
    """
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise ProbeFailed(f"the probe's answer is larger than {SIZE_LIMIT >> 20} MiB", hint=_HINT)
        return ProbeAnswer.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return ProbeAnswer()
    except (ValueError, RecursionError) as error:  # pydantic's errors are ValueErrors
        raise ProbeFailed("the probe's answer is not what its runner writes", evidence=str(error)[:2000]) from error
