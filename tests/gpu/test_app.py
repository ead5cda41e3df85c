"""``verify --installed NAME -- COMMAND`` on a GPU: whose kernels a person's own program launches."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from buildkit.cli.verify_schema import INSTALLED
from buildkit.machine.gpus import Gpu

ROOT = Path(__file__).resolve().parents[2]
Build = Callable[..., dict[str, Any]]

PROGRAM = """
import array, sys
import torch, fastcuda
values = array.array("f", range(1000))
torch.ones(8, device="cuda").mul_(3)
if sys.argv[1:] == ["own"]:
    assert fastcuda._C.add_one_cuda(values) == 0 and fastcuda._C.add_one_cuda(values) == 0
    assert sum(values) == 501500.0
"""


@pytest.fixture(scope="module")
def environment(gpu: Gpu, torch: Any, build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own that borrows torch and holds the test package, built for this GPU."""
    folder = tmp_path_factory.mktemp("app")
    project = shutil.copytree(ROOT / "tests" / "packages" / "fastcuda", folder / "fastcuda")
    answer = build(str(project), "--torch", "active")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    (site / "torch.pth").write_text(f"{Path(torch.__file__).parents[1]}\n", "utf-8")
    with ZipFile(answer["wheel"]["path"]) as wheel:
        wheel.extractall(site)
    (folder / "run.py").write_text(PROGRAM, "utf-8")
    return folder


def app(environment: Path, *arguments: str) -> dict[str, Any]:
    """The evidence of the stage ``app``."""
    words = ["verify", "--installed", "fastcuda", "--python", str(environment / "venv"), "--json", "--"]
    command = [sys.executable, "-I", "-m", "buildkit", *words, "python", "run.py", *arguments]
    cache = {"CUDABUILD_CACHE": str(environment / "cache")}
    done = subprocess.run(
        command, cwd=environment, env={**os.environ, **cache}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    answer = json.loads(done.stdout)
    INSTALLED.validate_python(answer)
    assert [code["by"] for code in answer["code"]] == ["sass"]
    (stage,) = [each for each in answer["verdict"]["stages"] if each["name"] == "app"]
    assert stage["outcome"] == "passed"
    evidence: dict[str, Any] = stage["evidence"]
    return evidence


@pytest.mark.timeout(1200)
def test_the_packages_kernels_are_seen(environment: Path) -> None:
    found = app(environment, "own")
    assert found["recorder"] == "works"
    ((name, launches),) = found["kernels"].items()
    assert "add_one" in name
    assert launches == 2
    assert found["other_launches"] > 0


@pytest.mark.timeout(1200)
def test_torchs_kernels_are_not_the_packages(environment: Path) -> None:
    found = app(environment)
    assert (found["recorder"], found["kernels"]) == ("works", {})
    assert found["other_launches"] > 0
