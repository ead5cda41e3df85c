"""The smoke test as a stage: run ``smoke.py`` in a clean environment, and turn its answer into evidence or a cause."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildkit import process
from buildkit.errors import VerificationFailed
from buildkit.machine.gpus import Gpu
from buildkit.verify.imports import import_command

SCRIPT = Path(__file__).with_name("smoke.py")
_TAKEN = "busy or unavailable"
"""Of cudaErrorDevicesUnavailable: another process has the GPU to itself, or it may not be used."""
_FULL = "out of memory"
_ENOUGH = 1 << 30
"""Bytes: the shapes need a few MiB, and starting CUDA some hundred. With more than this free, the fault is ours."""


class GpuBusy(VerificationFailed):
    """The GPU is full or another process's: nothing was executed, and nothing failed."""


def run_smoke(
    python: Path,
    *,
    module_path: Path | None,
    gpu: Gpu | None,
    env: Mapping[str, str],
    timeout: float,
    scratch: Path,
) -> dict[str, Any]:
    """Run the smoke test with the interpreter of a clean environment, on ``gpu``, or on the CPU where it is None.

    ``module_path`` is the folder that holds the module ``cudabuild_mcubes`` (None: it is installed there), ``env`` the
    whole environment of the process, ``timeout`` in seconds, ``scratch`` a folder for its files. Returns the evidence:
    device, checks, what was compiled in. Raises :class:`VerificationFailed` that names the first failed check, or
    says what was under way when it crashed; :class:`GpuBusy` where the GPU is not to be had.
    """
    with tempfile.TemporaryDirectory(prefix="smoke-", dir=scratch) as folder:
        request, answer, empty = (Path(folder) / name for name in ("request.json", "answer.json", "empty"))
        empty.mkdir()
        asked = {"device": "cpu" if gpu is None else "cuda", "module_path": str(module_path) if module_path else None}
        request.write_text(json.dumps(asked), encoding="utf-8")
        command = import_command(python, request, answer, env, script=SCRIPT)
        try:
            done = process.run(command, env=_on(gpu, env), cwd=empty, timeout=timeout, check=False)
        except process.ProgramTimedOut as error:
            step = read_answer(answer)["step"]
            raise VerificationFailed(
                f"the smoke test on {_name(gpu)} did not end within {timeout:g} s ({step})", evidence=error.evidence
            ) from error
        facts = read_answer(answer)
    return judge_smoke(facts, done.returncode, done.stderr, gpu=gpu)


def read_answer(path: Path) -> dict[str, Any]:
    """What the script reached; where it wrote nothing, the step is the interpreter's own start."""
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        answer = {}
    defaults = {"step": "the start of Python", "checks": [], "passed": False, "error": None}
    return {**defaults, **(answer if isinstance(answer, dict) else {})}


def judge_smoke(facts: Mapping[str, Any], returncode: int, stderr: str, *, gpu: Gpu | None) -> dict[str, Any]:
    """Turn what the script reached into evidence or a cause. A wrong number comes before a crash after it."""
    checks = facts["checks"]
    wrong = [check for check in checks if not check["passed"]]
    if wrong:
        raise VerificationFailed(
            f"wrong result of the smoke test on {_name(gpu)}: {shown(wrong[0])}",
            evidence="\n".join(shown(check) for check in wrong[:10]),
            hint="the compiler makes wrong code here, or the GPU computes wrongly: cudabuild doctor",
        )
    line = facts["error"]["line"] if facts["error"] else process.last_line(stderr)
    if facts["step"] != "done" or returncode != 0 or not facts["passed"] or not checks:
        if gpu is not None and (_TAKEN in line or (_FULL in line and free_memory(gpu) < _ENOUGH)):
            raise GpuBusy(f"{gpu.name} is busy", evidence=line)
        raise VerificationFailed(
            f"the smoke test on {_name(gpu)} ended with exit status {returncode} ({facts['step']}): {line}",
            evidence=line,
        )
    evidence = {name: facts[name] for name in ("device", "checks", "module", "cuda_targets")}
    if gpu is not None:
        major, minor = gpu.capability
        evidence |= {"gpu": gpu.name, "device_uuid": gpu.uuid, "capability": f"{major}.{minor}"}
    return evidence


def shown(check: Mapping[str, Any]) -> str:
    """One check as a line."""
    allowed = f" (give or take {check['tolerance']:.3g})" if check["tolerance"] else ""
    return f"{check['name']}: {_number(check['got'])} instead of {_number(check['expected'])}{allowed}"


def free_memory(gpu: Gpu) -> float:
    """Free bytes of a GPU as NVML says; infinite where it cannot be asked."""
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)).free)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return math.inf


def _on(gpu: Gpu | None, env: Mapping[str, str]) -> dict[str, str]:
    # CUDA counts the fastest GPU first, NVML by slot: only the UUID makes sure that the one that is named ran it.
    return {**env, "CUDA_VISIBLE_DEVICES": gpu.uuid} if gpu is not None and gpu.uuid else dict(env)


def _name(gpu: Gpu | None) -> str:
    return "the CPU" if gpu is None else gpu.name


def _number(value: object) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)
