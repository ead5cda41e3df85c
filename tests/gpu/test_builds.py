"""Whole builds on a machine with a GPU and no network, up to the grade ``executed``, and what must stay below it.

The sources and all that they require are in the carried folder; torch is the one of this environment.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildkit.machine.gpus import Gpu
from buildkit.recipe.loader import bundled_recipes, load_recipe

ROOT = Path(__file__).resolve().parents[2]
Build = Callable[..., dict[str, Any]]
RECIPES = sorted(
    file.parent.name
    for file in bundled_recipes().glob("*/recipe.toml")
    if load_recipe(file.parent).recipe.versions[0].sdist is not None
)


def is_carried(recipe: str, carried: Path) -> bool:
    """Whether the source distribution that a recipe names lies in a folder."""
    version = load_recipe(bundled_recipes() / recipe).recipe.versions[0]
    names = {str(version.sdist), str(version.sdist).replace("-", "_")}
    return any((carried / f"{name}-{version.version}.tar.gz").is_file() for name in names)


def stage(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """The last stage of that name in a verdict."""
    found: dict[str, Any] = next(each for each in reversed(answer["verdict"]["stages"]) if each["name"] == name)
    return found


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_carried_source_is_built_and_executed(recipe: str, gpu: Gpu, carried: Path, build: Build) -> None:
    if not is_carried(recipe, carried):
        pytest.skip(f"not executed: the source of {recipe} is not in {carried}")
    capability = f"{gpu.capability[0]}.{gpu.capability[1]}"
    answer = build(recipe, "--torch", "active", "--require", "executed")
    assert (answer["cache"], answer["verdict"]["grade"]) == ("miss", "executed")
    assert answer["verdict"]["capability"] == capability
    probe = stage(answer, "probe")
    assert (probe["outcome"], probe["evidence"]["device_uuid"]) == ("passed", gpu.uuid)
    assert probe["evidence"]["kernels"]
    assert all(check["passed"] for check in probe["evidence"]["checks"])
    if any(each["name"] == "smoke" for each in answer["verdict"]["stages"]):
        assert stage(answer, "smoke")["outcome"] == "passed"
        assert stage(answer, "smoke")["evidence"]["device_uuid"] == gpu.uuid
    again = build(recipe, "--torch", "active", "--require", "executed")
    assert (again["cache"], again["wheel"]["sha256"]) == ("hit", answer["wheel"]["sha256"])


RECIPE = """\
edition = 1
name = "fastcuda"
summary = "the project's own test package"
license = {{ spdx = "Apache-2.0", redistributable = true }}
status = "unconfirmed"
[[version]]
version = "1.0"
folder = "{project}"
[build.env-cuda]
FORCE_CUDA = "1"
[verify]
imports = ["fastcuda"]
cuda-proof = ["fastcuda._C:add_one_cuda"]
probe = "probe.py"
"""
OWN_KERNEL = """\
import array
import torch
import fastcuda
DEVICES = ("cuda",)
def checks(device, tools):
    torch.ones(1, device=device)
    values = array.array("f", range(1000))
    yield {"name": "error", "expected": 0, "got": fastcuda._C.add_one_cuda(values), "tolerance": 0}
    yield {"name": "sum", "expected": 500500.0, "got": sum(values), "tolerance": 0}
"""
TORCH_ONLY = """\
import torch
import fastcuda
DEVICES = ("cuda",)
def checks(device, tools):
    values = torch.arange(1000.0, device=device) + 1
    yield {"name": "sum", "expected": 500500.0, "got": values.sum().item(), "tolerance": 0}
"""
WRONG = OWN_KERNEL.replace("500500.0", "500501.0")


def recipe_folder(folder: Path, probe: str) -> Path:
    """A folder of recipes that holds one for the test package, with this probe."""
    place = folder / "recipes" / "fastcuda"
    place.mkdir(parents=True)
    shutil.copytree(ROOT / "tests" / "packages" / "fastcuda", folder / "fastcuda")
    (place / "recipe.toml").write_text(RECIPE.format(project=folder / "fastcuda"))
    (place / "probe.py").write_text(probe)
    return place.parent


@pytest.mark.timeout(1200)
def test_a_kernel_of_the_packages_own_is_executed(gpu: Gpu, build: Build, tmp_path: Path) -> None:
    recipes = recipe_folder(tmp_path, OWN_KERNEL)
    answer = build("fastcuda", "--recipes", str(recipes), "--torch", "active", "--require", "executed")
    assert answer["verdict"]["grade"] == "executed"
    (kernel,) = stage(answer, "probe")["evidence"]["kernels"]
    assert "add_one" in kernel["name"]
    assert kernel["object"].startswith("fastcuda/_C")
    assert kernel["launches"] == 1
    assert stage(answer, "probe")["evidence"]["driver"]


@pytest.mark.timeout(1200)
def test_torchs_own_kernels_prove_nothing(build: Build, tmp_path: Path) -> None:
    """The probe passes on the GPU, and nothing of the package ran."""
    recipes = recipe_folder(tmp_path, TORCH_ONLY)
    words = ("fastcuda", "--recipes", str(recipes), "--torch", "active")
    answer = build(*words, "--require", "imported")
    assert (answer["verdict"]["grade"], answer["verdict"]["capability"]) == ("imported", None)
    probe = stage(answer, "probe")
    assert probe["outcome"] == "not-executed"
    assert probe["evidence"]["other_kernels"] > 0
    assert not probe["evidence"]["kernels"]
    refused = build(*words, "--require", "executed", code=9)
    assert refused["error"]["kind"] == "below-requirement"


@pytest.mark.timeout(1200)
def test_a_wrong_number_fails(build: Build, tmp_path: Path) -> None:
    recipes = recipe_folder(tmp_path, WRONG)
    answer = build("fastcuda", "--recipes", str(recipes), "--torch", "active", "--require", "imported", code=9)
    assert answer["error"]["kind"] == "probe-failed"
    assert stage(answer, "probe")["outcome"] == "failed"
