"""The smoke test of a built kernel, run in a clean environment: ``python -I smoke.py REQUEST ANSWER`` (JSON files).

The request is ``{"device": "cpu" | "cuda", "module_path": folder to import cudabuild_mcubes from, or null}``. Every
shape is meshed on the device and checked against known answers; on CUDA also against the CPU twin. The answer is
written anew before every step, so that what was reached is known however hard the process dies. Needs NumPy and the
module cudabuild_mcubes; nothing of cudabuild, and nothing newer than Python 3.8.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from buildkit.verify import smoke_checks, smoke_shapes

    Mesher = Callable[[smoke_shapes.Shape], smoke_checks.Mesh]


DEVICES = {"cpu": 1, "cuda": 2}
"""Device types as DLPack numbers them."""


def _beside(name: str) -> ModuleType:
    """A module beside this one: of the package, or of its folder where this file runs alone."""
    if __package__:
        return importlib.import_module(f"{__package__}.{name}")
    folder = str(Path(__file__).parent)
    sys.path.append(folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


if not TYPE_CHECKING:
    smoke_shapes = _beside("smoke_shapes")
    smoke_checks = _beside("smoke_checks")


def run(
    mesher: Mesher,
    device: str,
    *,
    twin: Mesher | None = None,
    shapes: Iterable[smoke_shapes.Shape] | None = None,
    reached: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Mesh every shape and check it: ``{"checks": [...], "passed": bool, "device": ...}``.

    ``twin`` is the mesher to compare with, ``reached`` is told before each shape what was checked so far.
    """
    answer: dict[str, Any] = {"device": device, "checks": [], "passed": False, "step": ""}
    for shape in smoke_shapes.all_shapes() if shapes is None else shapes:
        if reached is not None:
            reached({**answer, "step": shape.name})
        mesh = mesher(shape)
        answer["checks"] += smoke_checks.check_mesh(mesh, shape)
        if twin is not None:
            answer["checks"] += smoke_checks.compare(mesh, twin(shape), shape)
    return {**answer, "passed": all(check["passed"] for check in answer["checks"])}


def kernel(module: Any, device: str) -> Mesher:
    """The mesher of a built module on a device."""
    import numpy as np

    def mesh(shape: smoke_shapes.Shape) -> smoke_checks.Mesh:
        volume = module.to_device(shape.volume) if device == "cuda" else shape.volume
        arrays = module.marching_cubes(volume, shape.isovalue, shape.spacing, shape.origin)
        if any(array.device[0] != DEVICES[device] for array in arrays):
            raise RuntimeError(f"the mesh of a volume on {device} lies elsewhere: {arrays}")
        vertices, triangles = (np.asarray(array.to_host()) for array in arrays)
        return smoke_checks.Mesh(vertices, triangles)

    return mesh


def smoke(request: dict[str, Any], reached: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Import the module and run the test on the device that was asked for."""
    if request["module_path"] is not None:
        sys.path.insert(0, request["module_path"])
    module = importlib.import_module("cudabuild_mcubes")
    device = request["device"]
    facts = {"module": module.__file__, "cuda_targets": module.cuda_targets}
    twin = kernel(module, "cpu") if device == "cuda" else None
    answer = run(kernel(module, device), device, twin=twin, reached=lambda so_far: reached({**so_far, **facts}))
    return {**answer, **facts}


def main() -> int:
    """Answer a request; the exit status is 0 when every check passed."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    written: dict[str, Any] = {"checks": [], "passed": False, "step": "import", "error": None}

    def write(facts: dict[str, Any]) -> None:
        written.update(facts)
        partial = Path(sys.argv[2] + ".part")
        partial.write_text(json.dumps(written), encoding="utf-8")
        partial.replace(sys.argv[2])

    write({})
    try:
        write({**smoke(request, write), "step": "done"})
    except Exception as error:
        line = traceback.format_exception_only(type(error), error)[-1].strip()
        write({"error": {"type": type(error).__name__, "message": str(error), "line": line}})
        raise
    return 0 if written["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
