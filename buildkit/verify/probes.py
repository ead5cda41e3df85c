"""A recipe's own functional test, run on a GPU in the clean environment: known answers, one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildkit import process
from buildkit.errors import VerificationFailed
from buildkit.machine.gpus import Gpu


def run_probe(python: Path, probe: Path, gpu: Gpu, *, env: Mapping[str, str], timeout: float) -> dict[str, Any]:
    """Run the probe on one GPU; returns its evidence with the GPU's name, UUID and compute capability.

    ``timeout`` is in seconds. A wrong value, a crash or no answer raises VerificationFailed: a kernel that
    silently returns wrong numbers is a failed proof like any other.
    """
    try:
        done = process.run([str(python), "-I", str(probe), "cuda"], env=env, timeout=timeout, check=False)
    except process.ProgramTimedOut as error:
        raise VerificationFailed(f"the probe did not end within {timeout:g} s", evidence=error.evidence) from error
    if done.returncode != 0:
        raise VerificationFailed(
            f"the probe failed on {gpu.name}: {process.last_line(done.stderr) or f'exit status {done.returncode}'}",
            evidence=done.stderr.strip()[-2000:],
            hint="the wheel imports and computes wrongly here: report it with `cudabuild doctor --json`",
        )
    try:
        answer = json.loads(process.last_line(done.stdout))
    except ValueError as error:
        raise VerificationFailed("the probe printed no JSON object", evidence=done.stdout.strip()[-500:]) from error
    major, minor = gpu.capability
    return {
        "answer": answer,
        "device": gpu.name,
        "device_uuid": gpu.uuid,
        "capability": f"{major}.{minor}",
    }
