"""Packages of the shapes that people fight with: the recipe gets through, and some traps spring with plain pip.

The recipes that come with cudabuild are used as they are, on repositories of our own of the same shape. That the
other traps spring is shown each night: tests/integration/test_lookalikes_pip.py.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lookalikes import (
    COVER_GONE,
    NO_NVCC,
    PLAIN,
    Edits,
    Pip,
    Repository,
    commit,
    git,
    only_wheel,
    plain_pip,
    repository,
    with_submodule,
)

from buildkit.build.context import Context

pytestmark = pytest.mark.integration

Cudabuild = Callable[..., Any]
Make = Callable[..., Repository]


@pytest.fixture(scope="module")
def pip(context: Context, torch_site: Path, toolkit_view: Path, tmp_path_factory: pytest.TempPathFactory) -> Pip:
    """With a toolkit, for one target."""
    return plain_pip(tmp_path_factory.mktemp("pip") / "venv", context, torch_site, toolkit_view)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make(project, {file: (what is replaced, by what)})``: a repository of a project."""

    def made(project: str, edits: Edits | None = None) -> Repository:
        return repository(project, tmp_path / project, edits=edits)

    return made


@dataclass(frozen=True)
class Build:
    """``cudabuild RECIPE --source PATH@REV`` for one target, by somebody with torch and without a GPU."""

    cudabuild: Cudabuild
    person: dict[str, str]

    def __call__(self, recipe: str, source: Repository, *more: str, code: int = 0) -> dict[str, Any]:
        target = () if "--device" in more else ("--target", "12.0")
        words = ("--source", source.source, *target, *more, "--no-canary", "--json")
        ran = self.cudabuild(recipe, *words, env=self.person)
        assert ran.code == code, (ran.out, ran.err)
        answer: dict[str, Any] = ran.json
        return answer


@pytest.fixture
def build(cudabuild: Cudabuild, person: dict[str, str]) -> Build:
    return Build(cudabuild, person)


def stage(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """The stage of that name in a verdict."""
    found: dict[str, Any] = next(each for each in answer["verdict"]["stages"] if each["name"] == name)
    return found


def own_recipe(folder: Path, name: str, more: str) -> tuple[str, str]:
    """The words that make a recipe of this test's known."""
    place = folder / "recipes" / name
    place.mkdir(parents=True)
    (place / "recipe.toml").write_text(f'''
edition = 1
name = "{name}"
summary = "the project's own test package"
license = {{ spdx = "Apache-2.0", redistributable = true }}
[[version]]
version = "1.0"
git = "https://git.example/{name}"
rev = "{"1" * 40}"
{more}
[verify]
imports = ["{name}"]
''', encoding="utf-8")  # fmt: skip
    return "--recipes", str(place.parent)


# torchmcubes: CMake, a build for the CPU where no CUDA compiler is found, and a global lerp


def test_without_nvcc_cudabuild_fails_with_the_line_that_says_why(make: Make, build: Build) -> None:
    answer = build("torchmcubes", make("torchmcubes", PLAIN), "--pass-env", f"CMAKE_ARGS={NO_NVCC}", code=9)
    assert answer["error"]["kind"] == "cpu-only-wheel"
    assert "CUDA not found: torchmcubes is compiled for the CPU" in answer["error"]["evidence"]


def test_torchmcubes_is_built_by_its_recipe(make: Make, build: Build) -> None:
    answer = build("torchmcubes", make("torchmcubes"))
    assert answer["verdict"]["grade"] == "imported"
    assert answer["version"].startswith("0.1.0+pt2.13.cu130")
    (held,) = stage(answer, "audit")["evidence"]["objects"]
    assert (held["units"], held["elf"]) == (2, ["12.0"])
    with zipfile.ZipFile(answer["wheel"]["path"]) as wheel:
        (metadata,) = [wheel.read(name).decode() for name in wheel.namelist() if name.endswith("dist-info/METADATA")]
    # It pins torch itself, when it is built: once is enough.
    assert re.findall(r"(?m)^Requires-Dist: (torch\b.*)$", metadata) == ["torch==2.13.*"]


ONE_OLD_UNIT = """\
add_subdirectory(old)
  target_sources(torchmcubes_module PRIVATE $<TARGET_OBJECTS:old>)"""
OLD = """\
string(REGEX REPLACE "-gencode[ =;]*arch=[^ ;]+" "" CMAKE_CUDA_FLAGS "${CMAKE_CUDA_FLAGS}")
string(APPEND CMAKE_CUDA_FLAGS " -gencode arch=compute_86,code=sm_86")
add_library(old OBJECT ../csrc/grid_interp.cu)
set_target_properties(old PROPERTIES POSITION_INDEPENDENT_CODE ON)
"""


def test_one_unit_for_another_target_is_named(make: Make, build: Build) -> None:
    """CMake writes what it likes into one unit's command line; the wheel imports, and fails on the GPU."""
    unit = "target_sources(torchmcubes_module PRIVATE csrc/grid_interp.cu)"
    source = make("torchmcubes", {"CMakeLists.txt": (unit, ONE_OLD_UNIT), "old/CMakeLists.txt": ("", OLD)})
    error = build("torchmcubes", source, code=9)["error"]
    assert error["kind"] == "missing-targets"
    lacking = (
        r"torchmcubes_module\S*\.so: unit \d of 2 \(kernel \S*grid_interp_kernel\S*\) lacks sm_120 \(it holds sm_86\)"
    )
    assert re.search(lacking, error["evidence"])
    assert "mcubes_kernel" not in error["message"]


# nvdiffrast: an ImportError that is hidden


def test_nvdiffrast_is_built_by_its_recipe(make: Make, build: Build) -> None:
    answer = build("nvdiffrast", make("nvdiffrast"))
    assert answer["verdict"]["grade"] == "imported"
    assert answer["wheel"]["filename"].startswith("nvdiffrast-0.4.0+pt2.13.cu130")
    assert any("non-commercial" in note for note in answer["notes"])


def test_what_hides_behind_an_import_error_is_named(make: Make, build: Build) -> None:
    """A kernel's function that is called and not there: no linker minds, and the package says something else."""
    error = build("nvdiffrast", make("nvdiffrast", COVER_GONE), code=9)["error"]
    assert re.search(r"_nvdiffrast_c\S*\.so has undefined symbols .*rasterize_cover", error["message"])


# pytorch3d: setup.py with its own switches, and a kernel that CUDA 13 hides


KNN = "import torch; from pytorch3d import _C; print(hasattr(_C, 'knn_check_version'))"


def test_without_a_gpu_pip_makes_a_wheel_for_the_cpu(pip: Pip, make: Make, tmp_path: Path) -> None:
    done = pip.wheel(make("pytorch3d").folder, tmp_path / "out", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert pip.imported(only_wheel(tmp_path / "out"), KNN).stdout == "False\n"


def test_pytorch3d_is_built_by_its_recipe(make: Make, build: Build) -> None:
    answer = build("pytorch3d", make("pytorch3d"))
    assert answer["verdict"]["grade"] == "imported"
    assert answer["version"].startswith("0.7.9+pt2.13.cu130")
    (held,) = stage(answer, "audit")["evidence"]["objects"]
    assert (held["units"], held["elf"]) == (2, ["12.0"])


# A submodule, a download, the driver


def test_a_submodule_is_fetched(pip: Pip, make: Make, build: Build, tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    answer.mkdir()
    (answer / "answer.h").write_text("#define ANSWER 42\n", encoding="utf-8")
    git(answer, "init", "--quiet")
    outer = with_submodule(make("withsubmodule"), commit(answer), "third_party/answer")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(outer.folder), str(clone))
    done = pip.wheel(clone, tmp_path / "out")
    assert done.returncode != 0
    assert "answer.h: No such file" in done.stdout + done.stderr
    words = own_recipe(tmp_path, "withsubmodule", "[build]\ntorch = false")
    assert build("withsubmodule", outer, *words, "--device", "cpu")["verdict"]["grade"] == "imported"


OFFLINE = """\
[[patch]]
rewrite = { files = ["setup.py"], find = '^INCLUDE = downloaded\\(.*\\)$', replace = 'INCLUDE = "csrc/bundled"' }
reason = "setup.py downloads a header that lies beside it"
[build]
torch = false"""


def test_a_download_is_named_and_can_be_patched_away(pip: Pip, make: Make, build: Build, tmp_path: Path) -> None:
    source = make("downloads")
    done = pip.wheel(source.folder, tmp_path / "out")
    assert done.returncode != 0
    assert "URLError" in done.stdout + done.stderr
    as_it_is = own_recipe(tmp_path / "plain", "downloads", "[build]\ntorch = false")
    error = build("downloads", source, *as_it_is, "--device", "cpu", code=6)["error"]
    assert error["kind"] == "build-failed"
    assert "Connection refused" in error["evidence"]
    patched = own_recipe(tmp_path / "patched", "downloads", OFFLINE)
    assert build("downloads", source, *patched, "--device", "cpu")["verdict"]["grade"] == "imported"


def test_a_package_that_needs_the_driver_is_linked_without_one(make: Make, build: Build, tmp_path: Path) -> None:
    """Where there is no driver the import is not possible, and nothing else is held against it."""
    words = own_recipe(tmp_path, "usesdriver", '[build.env-cuda]\nLIBRARY_PATH = "{view}/lib64/stubs"')
    answer = build("usesdriver", make("usesdriver"), *words, "--require", "audited")
    assert answer["verdict"]["grade"] in {"audited", "imported"}
    if answer["verdict"]["grade"] == "audited":
        assert "libcuda.so.1" in stage(answer, "import")["detail"]
