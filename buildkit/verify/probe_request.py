"""What a probe is started with: the devices it is for, the command, and the environment of its process."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path

from buildkit.errors import ProbeFailed
from buildkit.machine.gpus import Gpu
from buildkit.verify.imports import import_command

SCRIPT = Path(__file__).with_name("probe_script.py")
DEVICES = ("cuda", "cpu")
_CHANGING = (
    "CUDA_FORCE_", "CUDA_DISABLE_", "CUDA_CACHE_", "CUDA_INJECTION", "CUDA_LAUNCH_BLOCKING", "NVTX_INJECTION",
    "KINETO_", "PYTORCH_CUDA_ALLOC", "PYTORCH_ALLOC",
)  # fmt: skip


def probe_devices(probe: Path) -> tuple[str, ...]:
    """The devices that a probe is for, by its ``DEVICES = (...)``; ``("cuda",)`` where it has none.

    Read without running it. Raises :class:`ProbeFailed` for anything but a tuple of ``cuda`` and ``cpu``.
    """
    try:
        body = ast.parse(probe.read_bytes(), str(probe)).body
        values = [
            ast.literal_eval(node.value)
            for node in body
            if isinstance(node, ast.Assign) and any(getattr(name, "id", "") == "DEVICES" for name in node.targets)
        ]
    except (OSError, SyntaxError, ValueError) as error:
        raise ProbeFailed(f"{probe.name} cannot be read", evidence=str(error)) from error
    devices = values[-1] if values else ("cuda",)
    if not isinstance(devices, (tuple, list)) or not devices or not set(devices) <= set(DEVICES):
        raise ProbeFailed(f'{probe.name}: DEVICES is a tuple of "cuda" and "cpu"', evidence=f"DEVICES = {devices!r}")
    return tuple(devices)


def write_request(
    python: Path, asked: Mapping[str, object], mcubes: Path | None, folder: Path, env: Mapping[str, str]
) -> tuple[list[str], Path]:
    """The command that runs the probe, and where its answer will be.

    ``asked`` are the probe's path, the device, and whether there is torch; ``mcubes`` is the kernel project's folder.
    """
    request, answer = folder / "request.json", folder / "answer.json"
    request.write_text(json.dumps({**asked, "mcubes": str(mcubes) if mcubes else None}), encoding="utf-8")
    return import_command(python, request, answer, env, SCRIPT), answer


def probe_environment(environment: Mapping[str, str], gpu: Gpu | None, folder: Path) -> dict[str, str]:
    """The process's whole environment: the one GPU that is named (none at all on the CPU), and folders of its own.

    CUDA counts the fastest GPU first, NVML by slot: only the UUID makes sure that the GPU that is named ran it. A
    partition (MIG) that was chosen from outside stays chosen. Variables that change what the driver loads or
    compiles are left out: they would make another thing run than the table says.
    """
    kept = {name: value for name, value in environment.items() if not name.startswith(_CHANGING)}
    chosen = kept.get("CUDA_VISIBLE_DEVICES", "")
    if gpu is None:
        chosen = ""
    elif gpu.uuid and not chosen.startswith("MIG-"):
        chosen = gpu.uuid
    shown = {} if gpu is not None and not chosen else {"CUDA_VISIBLE_DEVICES": chosen}
    own = {"HOME": str(folder), "TMPDIR": str(folder), "CUDA_CACHE_PATH": str(folder / "jit")}
    return {**{name: value for name, value in kept.items() if name != "CUDA_VISIBLE_DEVICES"}, **own, **shown}
