"""Building csrc/mcubes: alone and as a part of the checkout, with a real toolkit, without one, and told not to look."""

from __future__ import annotations

import importlib.machinery
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from buildkit.build.context import Context
from buildkit.machine.arch import parse_targets
from buildkit.verify.device_code import find_cuobjdump, inspect_object
from tests.integration.conftest import TORCH, Cudabuild

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "csrc" / "mcubes"
MODULE = "cudabuild_mcubes" + importlib.machinery.EXTENSION_SUFFIXES[0]
KERNELS = ("classify", "count", "write_vertices", "write_triangles")


def environment(**variables: str) -> dict[str, str]:
    """This process's, without a toolkit: none named, and none on PATH."""
    named = {"CUDACXX", "CUDA_HOME", "CUDA_PATH", "CUDAARCHS", "CUDABUILD_CUDA", "CMAKE_ARGS", "SKBUILD_CMAKE_ARGS"}
    path = [folder for folder in os.environ["PATH"].split(":") if not Path(folder, "nvcc").exists()]
    kept = {name: value for name, value in os.environ.items() if name not in named}
    return {**kept, "PATH": ":".join(path), **variables}


@pytest.fixture(scope="module")
def tools(context: Context, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with CMake, Ninja and pybind11, as somebody has who types cmake."""
    folder, installer = tmp_path_factory.mktemp("tools") / "venv", context.installer()
    python = installer.create(folder, Path(sys.executable))
    installer.install(["cmake>=3.23,<5", "ninja>=1.11,<2", "pybind11>=3.0,<4"], python=python)
    return folder


def cmake(tools: Path, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it there."""
    path = f"{tools / 'bin'}:{environment()['PATH']}"
    command = [tools / "bin" / "cmake", *words]
    return subprocess.run(
        command,
        env={**environment(**variables), "PATH": path, "VIRTUAL_ENV": str(tools)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def configure(
    tools: Path, source: Path, out: Path, *options: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Configure with Ninja; a toolkit in /usr/local, where this machine may have one, counts as absent."""
    hidden = "-DCMAKE_IGNORE_PATH=/usr/local/cuda/bin;/usr/local/bin"
    return cmake(tools, "-G", "Ninja", "-S", source, "-B", out, hidden, *options, **variables)


def test_its_wheel_has_device_code(cudabuild: Cudabuild, tmp_path: Path) -> None:
    """By its recipe, from a folder of its own: nothing outside csrc/mcubes is needed. It is other tests' canary."""
    ran = cudabuild("build", "cudabuild-mcubes", "--target", "12.0", "--torch", TORCH, "--json")
    assert ran.code == 0, ran.err
    with zipfile.ZipFile(ran.json["wheel"]["path"]) as archive:
        assert [name for name in archive.namelist() if ".dist-info/" not in name] == [MODULE]
        module = Path(archive.extract(MODULE, tmp_path / "unpacked"))
    code = inspect_object(module, module.name, find_cuobjdump())
    assert code.elf == parse_targets("12.0")
    assert code.ptx == ()
    names = subprocess.run([find_cuobjdump(), "-elf", module], capture_output=True, text=True, check=True).stdout
    assert all(f".text._ZN6mcubes4cuda{len(kernel)}{kernel}" in names for kernel in KERNELS)
    asked = "import cudabuild_mcubes as m; print(m.has_cuda, m.cuda_targets, m.device_count() >= 0)"
    said = subprocess.run(
        [sys.executable, "-c", asked], cwd=module.parent, capture_output=True, text=True, check=True
    ).stdout
    assert said == "True 12.0 True\n"


def test_by_default_every_major_architecture(tools: Path, toolkit_view: Path, tmp_path: Path) -> None:
    said = configure(tools, SOURCES, tmp_path, CUDA_HOME=str(toolkit_view))
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"CUDA: {toolkit_view}/bin/nvcc" in said.stdout
    assert "for all-major" in said.stdout
    assert "cuda.cu" in (tmp_path / "build.ninja").read_text("utf-8")


@pytest.mark.parametrize("source", [ROOT, SOURCES], ids=["checkout", "alone"])
def test_on_without_a_toolkit_is_a_clear_error(tools: Path, tmp_path: Path, source: Path) -> None:
    said = configure(tools, source, tmp_path, "-DCUDABUILD_CUDA=ON")
    assert said.returncode != 0
    assert "CUDABUILD_CUDA=ON, and there is no CUDA toolkit" in said.stderr
    assert "CUDABUILD_CUDA=OFF" in said.stderr


def test_on_with_a_broken_toolkit_says_what_broke(tools: Path, toolkit_view: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "cuda"
    shutil.copytree(toolkit_view, damaged, symlinks=True)
    (damaged / "bin" / "ptxas").unlink()
    said = configure(tools, SOURCES, tmp_path / "out", "-DCUDABUILD_CUDA=ON", CUDACXX=str(damaged / "bin" / "nvcc"))
    assert said.returncode != 0
    assert "ptxas: not found" in " ".join(said.stderr.split())


def test_auto_without_a_toolkit_builds_the_cpu_part(tools: Path, tmp_path: Path) -> None:
    said = configure(tools, ROOT, tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "CUDA: no toolkit, CPU part alone" in said.stdout
    built = cmake(tools, "--build", tmp_path)
    assert built.returncode == 0, built.stdout + built.stderr
    assert (tmp_path / "csrc" / "mcubes" / MODULE).is_file()


def test_auto_with_a_broken_toolkit_warns(tools: Path, tmp_path: Path) -> None:
    said = configure(tools, SOURCES, tmp_path / "out", CUDACXX=str(broken(tmp_path)))
    assert said.returncode == 0, said.stdout + said.stderr
    assert "compiles nothing" in said.stderr


def test_off_never_looks(tools: Path, tmp_path: Path) -> None:
    """A compiler that would leave a trace if it were run."""
    program = broken(tmp_path)
    said = configure(tools, SOURCES, tmp_path / "out", "-DCUDABUILD_CUDA=OFF", CUDACXX=str(program))
    assert said.returncode == 0, said.stdout + said.stderr
    assert "CUDA: off" in said.stdout
    assert not (tmp_path / "was-run").exists()
    assert "CUDABUILD_NVCC" not in (tmp_path / "out" / "CMakeCache.txt").read_text("utf-8")


def test_another_word_is_refused(tools: Path, tmp_path: Path) -> None:
    said = configure(tools, SOURCES, tmp_path, "-DCUDABUILD_CUDA=maybe")
    assert said.returncode != 0
    assert "CUDABUILD_CUDA=maybe: it is AUTO, ON or OFF" in said.stderr


def broken(folder: Path) -> Path:
    """An nvcc that says what nvcc says when ptxas is missing."""
    program = folder / "nvcc"
    program.write_text(
        f"#!/bin/sh\ntouch {folder}/was-run\necho 'sh: 1: ptxas: not found' >&2\nexit 127\n", encoding="utf-8"
    )
    program.chmod(0o755)
    return program
