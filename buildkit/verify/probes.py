"""What a recipe's probe proves: judged here from what its runner wrote and from the package's own files.

The runner (``probe_script.py``) shares a process with the package and the probe, so its word alone is not enough for
``executed``: values are compared again, kernels are looked for in the objects on disk, and the GPU must be one that
the kernel's driver shows here. A library cannot make up a device file.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from buildkit.errors import ProbeFailed
from buildkit.machine.gpus import Gpu
from buildkit.machine.target import Capability, Target
from buildkit.verify.coverage import By, how_it_ran
from buildkit.verify.device_code import ObjectCode
from buildkit.verify.imports import how_it_ended
from buildkit.verify.kernels import OwnKernels
from buildkit.verify.probe_answer import ProbeAnswer, Raised
from buildkit.verify.probe_script import GPU_START, difference
from buildkit.verify.verdict import Outcome

SMALL_MEMORY = 2 << 30
"""Bytes of free GPU memory below which a probe that runs out of it says nothing about the package."""
NOISE = 512 << 20
"""Bytes of GPU memory that come and go without anybody else on it."""
_LONGEST = 16
_EXCLUSIVE = re.compile(r"CUDA-capable device\(s\) is/are busy or unavailable|devices are busy or unavailable", re.I)
_OUT_OF_MEMORY = re.compile(r"out of memory|CUDA_ERROR_OUT_OF_MEMORY|ALLOC_FAILED", re.I)
_HINT = "the wheel imports and computes wrongly here: report it with `cudabuild doctor --json`"


@dataclass(frozen=True)
class Ending:
    """How the probe's process ended. ``late`` says what its deadline was where that ended it; memory in bytes."""

    returncode: int
    last_lines: tuple[str, ...] = ()
    late: str = ""
    peak_memory: int = 0


@dataclass(frozen=True)
class Judged:
    """What a probe proves: the stage's outcome, detail and evidence, and the failure where there is one."""

    outcome: Outcome
    detail: str
    evidence: dict[str, Any]
    failure: ProbeFailed | None = field(default=None)

    def check(self) -> None:
        """Raise the failure, if there is one: the evidence is recorded by then."""
        if self.failure is not None:
            raise self.failure


def judge_probe(
    answer: ProbeAnswer,
    ending: Ending,
    *,
    gpu: Gpu | None = None,
    driver: str = "",
    own: OwnKernels | None = None,
    is_device: Callable[[str], bool] | None = None,
) -> Judged:
    """What a probe's run proves: ``passed`` on the CPU (without ``gpu``), ``passed`` on a GPU, or why not.

    On a GPU ``passed`` means that every check holds and that kernels of the package itself ran there. ``driver`` is
    the driver's version, ``is_device`` tells whether a path is a device file of the kernel's (for tests).
    """
    evidence = _evidence(answer, ending, gpu, driver)
    if gpu is not None and (why := _why_busy(answer) or _why_not_started(answer, ending)):
        return Judged("not-executed", why, evidence)
    failure = _failure(answer, ending, gpu)
    if failure is not None:
        return Judged("failed", failure.message, evidence, failure)
    if gpu is None or own is None:
        return Judged("passed", "", evidence)
    kernels = own.among(answer.kernels)
    evidence["kernels"] = [
        {"name": kernel.name, "object": kernel.object, "launches": kernel.launches} for kernel in kernels
    ]
    evidence["other_kernels"] = len(answer.kernels) - len(kernels)
    doubt = _doubt(answer, gpu, is_device or is_device_file)
    if not doubt and not kernels:
        doubt = _no_own_kernel(answer)
    if doubt:
        return Judged("not-executed", f"every check holds, but {doubt}", evidence)
    code = [own.code(shown) for shown in dict.fromkeys(kernel.object for kernel in kernels)]
    evidence["ran"] = ran(code, gpu.capability)
    return Judged("passed", _said(gpu, evidence["ran"]), evidence)


def ran(code: Sequence[ObjectCode], device: Capability) -> list[dict[str, str]]:
    """For each object whose kernels ran: by machine code or from PTX, and of which target, where that is certain."""
    found: list[tuple[str, tuple[By, Target] | None]] = [(entry.path, how_it_ran(entry, device)) for entry in code]
    return [{"object": path, "by": way[0], "target": str(way[1])} for path, way in found if way is not None]


def is_device_file(path: str) -> bool:
    """Whether a path is a character device: made by the kernel, not by a program."""
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)  # noqa: PTH116 - as it is named, links and all
    except (OSError, ValueError):
        return False


def _evidence(answer: ProbeAnswer, ending: Ending, gpu: Gpu | None, driver: str) -> dict[str, Any]:
    """What the verdict records; ``device`` is the GPU's name, or ``cpu``."""
    where: dict[str, Any] = {"device": "cpu"}
    if gpu is not None:
        capability = f"{gpu.capability[0]}.{gpu.capability[1]}"
        where = {"device": gpu.name, "device_uuid": gpu.uuid, "capability": capability, "driver": driver}
    checks = [_shown(check) for check in answer.checks]
    extra = {"recorder": answer.recorder} if gpu is not None else {}
    return {
        **where,
        "checks": checks,
        "mcubes": answer.mcubes,
        "peak_memory": ending.peak_memory,
        **extra,
    }


def _shown(check: Mapping[str, Any]) -> dict[str, Any]:
    """One check for the verdict: long lists shortened, numbers that JSON does not know as texts."""
    worst = difference(check["expected"], check["got"])
    values = {key: _short(check[key]) for key in ("expected", "got")}
    passed = worst <= check["tolerance"]
    return {
        "name": check["name"],
        **values,
        "tolerance": check["tolerance"],
        "difference": _finite(worst),
        "passed": passed,
    }


def _short(value: Any) -> Any:
    if isinstance(value, list):
        kept = [_short(item) for item in value[:_LONGEST]]
        return [*kept, f"and {len(value) - _LONGEST} more"] if len(value) > _LONGEST else kept
    return _finite(value) if isinstance(value, float) else value


def _finite(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)


def _why_busy(answer: ProbeAnswer) -> str:
    """Why a GPU that is full or another's could not run it; empty where that is not what happened."""
    error = answer.error
    if error is None:
        return ""
    if _EXCLUSIVE.search(error.message):
        return f"busy: {error.line}"
    if _OUT_OF_MEMORY.search(error.message) and _is_full(answer, error):
        free = f"{answer.gpu.free >> 20} MiB were free at the start" if answer.gpu else "at the start"
        return f"busy: the GPU's memory is full ({free}): {error.line}"
    return ""


def _why_not_started(answer: ProbeAnswer, ending: Ending) -> str:
    """What kept CUDA from starting, before anything of the package was loaded; empty where it did start."""
    if answer.step != GPU_START or (answer.gpu is not None and answer.error is None):
        return ""
    if answer.error is not None:
        return f"CUDA does not start here: {answer.error.line}"
    ended = f"did not end within {ending.late}" if ending.late else how_it_ended(ending.returncode)
    return f"CUDA does not start here: Python {ended}"


def _is_full(answer: ProbeAnswer, error: Raised) -> bool:
    """Whether others have the memory: at the start already, or taken since."""
    start = answer.gpu
    if start is None or start.free < SMALL_MEMORY:
        return True
    return error.memory is not None and error.memory.free + error.memory.held + NOISE < start.free


def _failure(answer: ProbeAnswer, ending: Ending, gpu: Gpu | None) -> ProbeFailed | None:
    where = gpu.name if gpu is not None else "the CPU"
    last = "\n".join(ending.last_lines)
    if ending.late:
        return ProbeFailed(
            f"the probe did not end within {ending.late} on {where}: it was at {answer.step}", evidence=last
        )
    for check in answer.checks:
        worst = difference(check["expected"], check["got"])
        if not worst <= check["tolerance"]:
            shown = _shown(check)
            return ProbeFailed(
                f"the probe failed on {where}: {check['name']}",
                evidence=f"expected {shown['expected']} (within {check['tolerance']:g}), got {shown['got']}",
                hint=_HINT,
            )
    if answer.error is not None:
        return ProbeFailed(
            f"the probe failed on {where} at {answer.step}: {answer.error.line}", evidence=last, hint=_HINT
        )
    if not answer.done or ending.returncode != 0:
        return ProbeFailed(
            f"Python {how_it_ended(ending.returncode)} at {answer.step} on {where}", evidence=last, hint=_HINT
        )
    if not answer.checks:
        return ProbeFailed("the probe checks nothing", hint="see docs/how-to/write-a-recipe.md")
    return None


def _doubt(answer: ProbeAnswer, gpu: Gpu, is_device: Callable[[str], bool]) -> str:
    """Why it cannot be said that this GPU ran it; empty where it can."""
    started = answer.gpu
    if started is None or answer.driver is None:
        return "its runner does not say which GPU it was"
    if started.capability != f"{gpu.capability[0]}.{gpu.capability[1]}":
        return f"CUDA says that its GPU is a {started.name} ({started.capability}), and {gpu.name} was meant"
    mine, theirs = gpu.uuid.removeprefix("GPU-").lower(), started.uuid.removeprefix("GPU-").lower()
    if gpu.uuid.startswith("GPU-") and theirs and "mig" not in theirs and mine != theirs:
        return f"it ran on another GPU ({started.uuid}) than the one meant ({gpu.uuid})"
    if not any(is_device(node) for node in answer.driver.nodes):
        return "no device of NVIDIA's kernel driver was open: what answered as a GPU was a library only"
    return ""


def _no_own_kernel(answer: ProbeAnswer) -> str:
    if answer.recorder != "works":
        return f"no kernel could be recorded here: {answer.recorder}"
    seen = ", ".join(kernel.name for kernel in answer.kernels[:3])
    return f"none of the {len(answer.kernels)} kernels recorded is the package's own ({seen}, ...)"


def _said(gpu: Gpu, ways: Sequence[Mapping[str, str]]) -> str:
    found = dict.fromkeys((way["by"], way["target"]) for way in ways)
    how = " and ".join(
        f"by JIT from PTX of {target}" if by == "ptx-jit" else f"by SASS of {target}" for by, target in found
    )
    return f"on {gpu.name}: {how or 'its units hold different code, and which of it ran is not known'}"
