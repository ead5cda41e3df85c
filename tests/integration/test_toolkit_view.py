"""Views of a real toolkit: nvcc, CMake and torch's CMake files work through them and report them as the root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from buildkit.build.toolkit_view import make_view
from buildkit.machine.compiler import HostCompiler, find_host_compiler
from buildkit.machine.identity import Memo
from buildkit.machine.toolkit import Toolkit, read_toolkit

pytestmark = pytest.mark.integration

# The tools are found beside this Python where it is an environment that holds them.
SEARCH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
KERNEL = """
#include <cuda_runtime.h>
#include <cub/version.cuh>
#include <thrust/complex.h>
__global__ void __launch_bounds__(256) fill(float *values, int count) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) values[i] = 1.0f;
}
extern "C" int launch(float *values, int count) {
  fill<<<1, 256>>>(values, count);
  return static_cast<int>(cudaGetLastError());
}
"""
CMAKE = """
cmake_minimum_required(VERSION 3.18)
project(tiny LANGUAGES CXX CUDA)
find_package(CUDAToolkit REQUIRED)
add_library(tiny SHARED tiny.cu)
target_link_libraries(tiny PRIVATE CUDA::cudart CUDA::cuda_driver CUDA::cusparse)
message(STATUS "root=${CUDAToolkit_BIN_DIR}")
message(STATUS "versions=${CMAKE_CUDA_COMPILER_VERSION}=${CUDAToolkit_VERSION}")
"""
TORCH = """
cmake_minimum_required(VERSION 3.18)
project(with_torch LANGUAGES CXX CUDA)
find_package(Torch REQUIRED)
message(STATUS "torch=${TORCH_INSTALL_PREFIX}")
"""


@pytest.fixture(scope="module")
def compiler() -> HostCompiler:
    return find_host_compiler(os.environ, Memo(None))


@pytest.fixture(scope="module")
def view(wheel_toolkit: Toolkit, compiler: HostCompiler, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_view(wheel_toolkit, [], tmp_path_factory.mktemp("views") / "whole", compiler=compiler.path)


@pytest.fixture(scope="module")
def partial(wheel_toolkit: Toolkit, tmp_path_factory: pytest.TempPathFactory) -> Toolkit:
    """What a system has without the libraries' development packages: nvcc, runtime and core headers."""
    root = tmp_path_factory.mktemp("partial")
    shutil.copytree(wheel_toolkit.root / "bin", root / "bin", symlinks=True, copy_function=os.symlink)
    (root / "nvvm").symlink_to(wheel_toolkit.root / "nvvm")
    for folder in ("include", "lib"):
        (root / folder).mkdir()
        for entry in (wheel_toolkit.root / folder).iterdir():
            if not entry.name.removeprefix("lib").startswith(("cusparse", "cublas", "cusolver")):
                (root / folder / entry.name).symlink_to(entry)
    return read_toolkit(root, "PATH", Memo(None))


def run(command: list[str | Path], cwd: Path, **variables: str) -> str:
    environment = {"PATH": SEARCH, "HOME": str(cwd), **variables}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def configure(folder: Path, view: Path, text: str, *options: str) -> str:
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(text, encoding="utf-8")
    (folder / "tiny.cu").write_text(KERNEL, encoding="utf-8")
    return run(
        ["cmake", "-G", "Ninja", "-S", ".", "-B", "out", *options],
        folder,
        CUDACXX=str(view / "bin" / "nvcc"),
        # The FindCUDA that torch ships looks there first; else it would take /usr/local/bin/nvcc, even before PATH.
        CUDA_PATH=str(view),
        CUDAToolkit_ROOT=str(view),
        CUDAARCHS="75-real",
        TORCH_CUDA_ARCH_LIST="7.5",
    )


def test_nvcc_reports_the_view_and_builds(view: Path, tmp_path: Path) -> None:
    said = run([view / "bin" / "nvcc", "--dryrun", "-x", "cu", "/dev/null"], tmp_path)
    assert f"#$ TOP={view}/bin/.." in said
    assert f'"-I{view}/bin/..//include"' in said
    (tmp_path / "tiny.cu").write_text(KERNEL, encoding="utf-8")
    options = ["-arch=sm_75", "-shared", "-Xcompiler", "-fPIC", "-lcusparse", "-lcuda"]
    run([view / "bin" / "nvcc", *options, "-o", "tiny.so", "tiny.cu"], tmp_path)
    assert (tmp_path / "tiny.so").read_bytes()[:4] == b"\x7fELF"


def test_cmake_reports_the_view_and_builds(view: Path, tmp_path: Path) -> None:
    said = configure(tmp_path / "project", view, CMAKE)
    assert f"root={view}/bin" in said
    compiled, found = said.split("versions=")[1].splitlines()[0].split("=")
    assert compiled == found
    run(["cmake", "--build", "out"], tmp_path / "project")
    needed = run(["readelf", "-d", "out/libtiny.so"], tmp_path / "project")
    assert "libcuda.so.1" in needed or "libcudart.so.13" in needed


def test_torchs_cmake_files_accept_the_view(view: Path, torch_site: Path, tmp_path: Path) -> None:
    said = configure(tmp_path / "project", view, TORCH, f"-DCMAKE_PREFIX_PATH={torch_site}/torch/share/cmake")
    assert f"CUDA toolkit directory: {view}" in said
    assert f"torch={torch_site}/torch" in said


def test_partial_toolkit_is_said_and_filled(
    partial: Toolkit, wheel_toolkit: Toolkit, compiler: HostCompiler, tmp_path: Path
) -> None:
    assert partial.missing == ("cusparse.h", "cublas_v2.h", "cublasLt.h", "cusolverDn.h")
    filled = make_view(partial, [wheel_toolkit], tmp_path / "filled", compiler=compiler.path)
    assert read_toolkit(filled, "view", Memo(None)).missing == ()
    assert (filled / "include" / "cusparse.h").readlink() == wheel_toolkit.root / "include" / "cusparse.h"
    assert (filled / "include" / "cuda.h").readlink() == partial.root.resolve() / "include" / "cuda.h"
    (tmp_path / "uses.cu").write_text("#include <cusparse.h>\n#include <cusolverDn.h>\n" + KERNEL, encoding="utf-8")
    run([filled / "bin" / "nvcc", "-arch=sm_75", "-c", "-o", "uses.o", "uses.cu"], tmp_path)


def test_identity_of_a_real_toolkit_is_remembered(wheel_toolkit: Toolkit, tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo")
    first = read_toolkit(wheel_toolkit.root, "wheels", memo)
    assert read_toolkit(wheel_toolkit.root, "wheels", memo) == first
    assert first.identity == wheel_toolkit.identity


def test_driver_stub_is_the_same_each_time(view: Path, wheel_toolkit: Toolkit, compiler: HostCompiler) -> None:
    stub = view / "lib64" / "stubs" / "libcuda.so"
    before = (stub.stat().st_ino, stub.read_bytes())
    make_view(wheel_toolkit, [], view, compiler=compiler.path)
    assert (stub.stat().st_ino, stub.read_bytes()) == before
