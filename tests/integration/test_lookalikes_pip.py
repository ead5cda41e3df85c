"""Traps that test_lookalikes.py gets through by recipes do spring with plain pip: ``pytest -m packages``, each night.

What pip makes of them changes with pip, setuptools, CMake and torch, not with cudabuild.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from lookalikes import COVER_GONE, NO_NVCC, PLAIN, Edits, Pip, Repository, only_wheel, plain_pip, repository

from buildkit.build.context import Context

pytestmark = [pytest.mark.integration, pytest.mark.packages]

Make = Callable[..., Repository]


@pytest.fixture(scope="module")
def pip(context: Context, torch_site: Path, toolkit_view: Path, tmp_path_factory: pytest.TempPathFactory) -> Pip:
    """With a toolkit, for one target."""
    cmake = ("pybind11", "scikit-build-core>=1.0", "cmake>=3.26,<5")
    return plain_pip(tmp_path_factory.mktemp("pip") / "venv", context, torch_site, toolkit_view, *cmake)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make(project, {file: (what is replaced, by what)})``: a repository of a project."""

    def made(project: str, edits: Edits | None = None) -> Repository:
        return repository(project, tmp_path / project, edits=edits)

    return made


def test_without_nvcc_pip_makes_a_wheel_for_the_cpu_and_says_nothing(pip: Pip, make: Make, tmp_path: Path) -> None:
    done = pip.wheel(make("torchmcubes", PLAIN).folder, tmp_path / "out", CMAKE_ARGS=NO_NVCC)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search("CPU|CUDA", done.stdout + done.stderr)
    said = pip.imported(
        only_wheel(tmp_path / "out"), "import torchmcubes_module as m; print(hasattr(m, 'mcubes_cuda'))"
    )
    assert said.stdout == "False\n", said.stderr


def test_a_global_lerp_does_not_compile_as_cpp_20(pip: Pip, make: Make, tmp_path: Path) -> None:
    done = pip.wheel(make("torchmcubes").folder, tmp_path / "out")
    assert done.returncode != 0
    assert re.search(r"error: .*\blerp\b", done.stdout + done.stderr)


def test_an_old_setuptools_makes_a_wheel_of_nothing(pip: Pip, make: Make, tmp_path: Path) -> None:
    old = tmp_path / "old"
    installed = pip.run("-m", "pip", "install", "--quiet", "--target", str(old), "setuptools<61")
    assert installed.returncode == 0, installed.stderr
    done = pip.wheel(make("nvdiffrast").folder, tmp_path / "out", PYTHONPATH=str(old))
    assert done.returncode == 0, done.stdout + done.stderr
    assert only_wheel(tmp_path / "out").name.startswith("UNKNOWN-0.0.0-")


def test_a_hidden_import_error_is_told_as_something_else(pip: Pip, make: Make, tmp_path: Path) -> None:
    done = pip.wheel(make("nvdiffrast", COVER_GONE).folder, tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    said = pip.imported(only_wheel(tmp_path / "out"), "import nvdiffrast.torch")
    assert "reinstall with --no-build-isolation" in said.stderr
    assert "rasterize_cover" not in said.stderr


def test_cuda_13_hides_a_kernel_from_the_file_that_launches_it(pip: Pip, make: Make, tmp_path: Path) -> None:
    """FORCE_CUDA alone does not link."""
    done = pip.wheel(make("pytorch3d").folder, tmp_path / "out", FORCE_CUDA="1")
    assert done.returncode != 0
    assert re.search(r"undefined reference to \S?void scale<float>", done.stdout + done.stderr)
