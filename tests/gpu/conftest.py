"""What the tests on a GPU share. Where no GPU is visible each of them is reported as not executed, never as passed.

They need a machine with a GPU, torch and a CUDA toolkit, and no network: see docs/how-to/gpu-tests.md.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from buildkit.machine.gpus import Gpu, visible_gpus

ROOT = Path(__file__).resolve().parents[2]
Build = Callable[..., dict[str, Any]]
Program = Callable[..., str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs a GPU."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    """The first visible GPU."""
    found = visible_gpus(os.environ)
    if not found.gpus:
        pytest.skip("not executed: no GPU visible")
    return found.gpus[0]


@pytest.fixture(scope="session")
def device(gpu: Gpu) -> str:
    """Where the kernel is tested, in torch's words."""
    return "cuda"


@pytest.fixture(scope="session")
def torch(gpu: Gpu) -> Any:
    """The torch of this environment, which must see the GPU."""
    module = importlib.import_module("torch")
    assert module.cuda.is_available(), f"torch {module.__version__} does not see {gpu.name}"
    return module


@pytest.fixture(scope="session")
def module_folder(gpu: Gpu, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of cudabuild_mcubes, built from csrc with CUDA for this GPU by the nvcc that CMake finds."""
    folder = tmp_path_factory.mktemp("mcubes")
    cmake = shutil.which("cmake")
    assert cmake is not None, "cmake is not on PATH"
    options = {
        "CUDABUILD_CUDA": "ON",
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_CUDA_ARCHITECTURES": f"{gpu.capability[0]}{gpu.capability[1]}-real",
        "Python_EXECUTABLE": sys.executable,
    }
    defined = [f"-D{name}={value}" for name, value in options.items()]
    said([cmake, "-S", str(ROOT / "csrc" / "mcubes"), "-B", str(folder), *defined])
    said([cmake, "--build", str(folder), "--parallel", "4"])
    return folder


@pytest.fixture(scope="session")
def kernel(module_folder: Path) -> Any:
    """That module."""
    (file,) = module_folder.glob("cudabuild_mcubes*.so")
    spec = importlib.util.spec_from_file_location("cudabuild_mcubes", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.has_cuda
    assert module.device_count() > 0
    return module


def said(command: list[str]) -> str:
    """The standard output of a program that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def program() -> Program:
    """``program([words])``: the standard output of a program that must succeed."""
    return said


@pytest.fixture(scope="session")
def carried() -> Path:
    """The folder that tests/gpu/carry.py filled on a machine with a network."""
    folder = os.environ.get("CUDABUILD_GPU_CARRIED")
    assert folder, "CUDABUILD_GPU_CARRIED names no folder: run these tests by tests/gpu/run"
    return Path(folder)


@pytest.fixture(scope="session")
def build(gpu: Gpu, torch: Any, carried: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """``cudabuild build ... --json`` with an empty cache and no network but the carried folder; its JSON and exit code.

    The active environment is that of this Python, and its torch is borrowed. The canary is left out where what it
    needs was not carried (see docs/how-to/gpu-tests.md).
    """
    cache = tmp_path_factory.mktemp("cache")
    left_out = {"TORCH_CUDA_ARCH_LIST", "CONDA_PREFIX"}
    environment = {
        **{name: value for name, value in os.environ.items() if name not in left_out},
        "CUDABUILD_CACHE": str(cache),
        "VIRTUAL_ENV": sys.prefix,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(carried),
    }
    canary = [] if has_canarys_needs(carried) else ["--no-canary"]

    def run(*words: str, code: int = 0, extra: Mapping[str, str] | None = None) -> dict[str, Any]:
        command = [sys.executable, "-I", "-m", "buildkit", "build", *words, "--target", "native", *canary, "--json"]
        done = subprocess.run(
            command, env={**environment, **(extra or {})}, cwd=cache, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, f"{done.returncode}: {done.stdout[-4000:]}\n{done.stderr[-8000:]}"
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run


def has_canarys_needs(carried: Path) -> bool:
    """Whether CMake and NumPy, the two large ones, are among the wheels."""
    return all(any(carried.glob(f"{name}-*.whl")) for name in ("cmake", "numpy"))
