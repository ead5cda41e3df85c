"""The environment that a backend sees: made from nothing, so that it can be in the key as a whole.

Pure. Folders stand as placeholders (``{env}``, ``{view}``, ``{build}``, ``{pycache}``) until the build has
a place, because the place is named after the key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from buildkit.errors import RecipeError
from buildkit.guard.shim import GUARD_VARIABLES
from buildkit.machine.arch import Target, cmake_architectures, torch_arch_list
from buildkit.machine.system_inputs import SYSTEM_FOLDERS

NOT_IN_KEY = frozenset({"MAX_JOBS", "CMAKE_BUILD_PARALLEL_LEVEL"})
"""How many at once: it changes the time, not the wheel."""

OWNED = frozenset({
    "PATH", "HOME", "TMPDIR", "LC_ALL", "VIRTUAL_ENV", "PYTHONNOUSERSITE", "PYTHONPYCACHEPREFIX", "PYTHONHASHSEED",
    "TORCH_CUDA_ARCH_LIST", "CUDAARCHS", "CUDACXX", "CUDA_HOME", "CUDA_PATH", "CUDAToolkit_ROOT",
    "MAX_JOBS", "CMAKE_BUILD_PARALLEL_LEVEL", *GUARD_VARIABLES,
})  # fmt: skip
"""Variables that cudabuild decides; they cannot be passed from outside."""


def backend_environment(
    *,
    device: str,
    targets: Sequence[Target],
    compiler: Path,
    recipe_environment: Mapping[str, str],
    passed: Mapping[str, str],
    chosen_compiler: Mapping[str, str],
    torch: bool = True,
) -> dict[str, str]:
    """The environment as it goes into the key: placeholders for folders, no jobs.

    ``chosen_compiler`` holds CC and CXX where the person set them. ``passed`` are the variables that were
    asked for by name; they and the recipe's win over the defaults here, never over :data:`OWNED`. Without
    ``torch`` no variable that speaks to it is there.
    """
    for name in sorted({*recipe_environment, *passed} & OWNED):
        raise RecipeError(
            f"{name} is decided by cudabuild and cannot be set from outside",
            hint="use --target, --jobs, --cuda-home or --python instead",
        )
    folders = [] if str(compiler.parent) in SYSTEM_FOLDERS else [str(compiler.parent)]
    toolkit = ["{view}/bin"] if device == "cuda" else []
    environment = {
        "PATH": ":".join(["{env}/bin", *toolkit, *folders, *SYSTEM_FOLDERS]),
        "HOME": "{build}/home",
        "TMPDIR": "{build}/tmp",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "VIRTUAL_ENV": "{env}",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPYCACHEPREFIX": "{pycache}",
        # Some setup.py files iterate over sets; a fixed seed keeps their command lines, and so the wheel, the same.
        "PYTHONHASHSEED": "0",
        # What a backend prints counts as a sign of life, and belongs between the compilers' lines.
        "PYTHONUNBUFFERED": "1",
        "SOURCE_DATE_EPOCH": "315532800",
        # A setup.py that asks for a GPU must answer the same on every machine: what is built is what was asked for.
        "CUDA_VISIBLE_DEVICES": "",
        # A compiler cache that torch puts in front by itself would answer for another toolkit.
        "TORCH_NO_COMPILER_WRAPPER": "1",
        **chosen_compiler,
    }
    if device == "cuda":
        environment |= {
            "TORCH_CUDA_ARCH_LIST": torch_arch_list(targets),
            "CUDAARCHS": cmake_architectures(targets),
            "CUDA_HOME": "{view}",
            "CUDA_PATH": "{view}",
            "CUDAToolkit_ROOT": "{view}",
            "CUDACXX": "{view}/bin/nvcc",
        }
        if "CXX" in chosen_compiler:
            environment["NVCC_CCBIN"] = chosen_compiler["CXX"]
    if not torch:
        environment = {name: value for name, value in environment.items() if not name.startswith("TORCH_")}
    return {**environment, **recipe_environment, **passed}


def resolve(environment: Mapping[str, str], places: Mapping[str, Path], *, jobs: int) -> dict[str, str]:
    """The environment as the backend gets it: placeholders filled, the number of jobs added."""
    filled = dict(environment)
    for name, path in places.items():
        filled = {key: value.replace("{" + name + "}", str(path)) for key, value in filled.items()}
    return {**filled, "MAX_JOBS": str(jobs), "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs)}


def passed_variables(names: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """``NAME`` takes the value from here, ``NAME=VALUE`` brings its own; unset names stay unset."""
    found: dict[str, str] = {}
    for name in names:
        key, equals, value = name.partition("=")
        if equals:
            found[key] = value
        elif key in environ:
            found[key] = environ[key]
    return found


def chosen_compiler(environ: Mapping[str, str]) -> dict[str, str]:
    """CC and CXX as the person exported them (setuptools, CMake and nvcc all follow them)."""
    return {name: environ[name] for name in ("CC", "CXX") if environ.get(name)}
