"""On a machine with a GPU: every bundled recipe is built for it, and its probe is executed there.

Where no GPU is visible these tests are reported as not executed; nothing else in the suite may be.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from buildkit.machine.gpus import Gpu, visible_gpus
from buildkit.recipe.loader import bundled_recipes

pytestmark = pytest.mark.gpu

RECIPES = sorted(file.parent.name for file in bundled_recipes().glob("*/recipe.toml"))
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    """The first visible GPU."""
    found = visible_gpus(os.environ)
    if not found.gpus:
        pytest.skip("not executed: no GPU visible")
    return found.gpus[0]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The shell's, with the test cache and an active environment that holds no torch."""
    folder = tmp_path_factory.mktemp("active") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    cache = os.environ.get("CUDABUILD_TEST_CACHE", str(ROOT / ".test-cache"))
    dropped = {"TORCH_CUDA_ARCH_LIST", "CONDA_PREFIX", "CUDA_HOME"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "CUDABUILD_CACHE": cache, "VIRTUAL_ENV": str(folder)}


def cudabuild(environment: dict[str, str], *words: str) -> dict[str, Any]:
    """The one JSON object of a command that must succeed."""
    command = [sys.executable, "-m", "buildkit", *words, "--json"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_probe_is_executed_on_this_gpu(recipe: str, gpu: Gpu, environment: dict[str, str]) -> None:
    answer = cudabuild(
        environment, "build", recipe, "--target", "native", "--torch", "2.13.0+cu130", "--require", "executed"
    )
    verdict = answer["verdict"]
    probe = next(stage for stage in verdict["stages"] if stage["name"] == "probe")
    assert verdict["grade"] == "executed"
    assert probe["outcome"] == "passed"
    assert probe["evidence"]["device_uuid"] == gpu.uuid
    assert verdict["capability"] == f"{gpu.capability[0]}.{gpu.capability[1]}"
