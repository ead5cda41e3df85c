"""Packages without a recipe, and recipes of one's own, by the real console script: looked at, refused, proven."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Cudabuild

pytestmark = pytest.mark.integration

PACKAGES = Path(__file__).resolve().parents[1] / "packages"
SM120 = ("--target", "12.0")
SETUP = """open({mark!r}, "w").close()
import os
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

assert os.getenv("TOUCHY_FORCE_CUDA", "NO") == "YES" or True
setup(
    name="touchy", version="1.0", packages=["touchy"], cmdclass={{"build_ext": BuildExtension}},
    ext_modules=[CUDAExtension("touchy._C", ["touchy/a.cu"])],
)
"""
PYPROJECT = '[build-system]\nrequires = ["setuptools>=64"]\nbuild-backend = "setuptools.build_meta"\n'
PATCH = "--- a/touchy/a.cu\n+++ b/touchy/a.cu\n@@ -1 +1,2 @@\n __global__ void add() {}\n+__global__ void more() {}\n"
RECIPE = """edition = 1
name = "{name}"
summary = "for a test"
license = {{ spdx = "MIT", redistributable = true }}
[[version]]
version = "1.0"
folder = "{folder}"
[build.env-cuda]
SAYS_CUDA = "1"
[build.env-cpu]
SAYS_CPU = "1"
[verify]
imports = ["{name}"]
"""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that setup.py makes when somebody runs it."""
    return tmp_path / "somebody-ran-it"


@pytest.fixture
def touchy(tmp_path: Path, mark: Path) -> Path:
    """A project whose setup.py cannot be run unnoticed."""
    folder = tmp_path / "touchy"
    files = {
        "setup.py": SETUP.format(mark=str(mark)),
        "pyproject.toml": PYPROJECT,
        "touchy/__init__.py": f"open({str(mark)!r}, 'w').close()\n",
        "touchy/a.cu": "__global__ void add() {}\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def pack(folder: Path, links: Path) -> None:
    """Make touchy-1.0.tar.gz of a project's folder."""
    links.mkdir()
    with tarfile.open(links / "touchy-1.0.tar.gz", "w:gz") as tar:
        tar.add(folder, "touchy-1.0")
        info = b"Metadata-Version: 2.1\nName: touchy\nVersion: 1.0\n"
        member = tarfile.TarInfo("touchy-1.0/PKG-INFO")
        member.size = len(info)
        tar.addfile(member, io.BytesIO(info))


def test_no_command_that_only_looks_runs_a_setup_py(
    cudabuild: Cudabuild, person: dict[str, str], touchy: Path, mark: Path, tmp_path: Path
) -> None:
    pack(touchy, tmp_path / "links")
    links = ("--find-links", str(tmp_path / "links"))
    recipe = tmp_path / "recipes" / "touchy"

    def run(*words: str) -> dict[str, Any]:
        ran = cudabuild(*words, env=person, cwd=tmp_path)
        assert ran.code == 0, (words, ran.out, ran.err)
        assert not mark.exists(), f"{words} ran setup.py"
        return ran.json if "--json" in words else {"out": ran.out, "err": ran.err}

    run("recipes", "new", "touchy", *links)
    assert 'TOUCHY_FORCE_CUDA = "YES"   # setup.py:6' in (recipe / "recipe.toml").read_text(encoding="utf-8")
    run("recipes", "new", "./touchy", "--name", "by-folder")
    (recipe / "a.patch").write_text(PATCH, encoding="utf-8")
    with (recipe / "recipe.toml").open("a", encoding="utf-8") as file:
        file.write('[[patch]]\nfile = "a.patch"\nreason = "a test"\n')
    for more in ((), ("--online", *links)):
        assert run("recipes", "check", "touchy", "by-folder", *more)["out"] == "touchy: sound\nby-folder: sound\n"
    run("recipes", "list")
    for package in ("./touchy", "pypi:touchy", "touchy"):
        if package != "touchy":  # the recipe's requirements are those of the same project without one
            run("fetch", package, *SM120, *links, "--json")
        planned = run("plan", package, *SM120, *links, "--json")
        environment = planned["inputs"]["environment"]
        assert environment["TOUCHY_FORCE_CUDA"] == "YES", "it is read from setup.py"
    subprocess.run([sys.executable, "setup.py", "--version"], cwd=touchy, capture_output=True, check=False)
    assert mark.exists(), "this test could not have failed"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """plainc: a C extension without a trace of CUDA, as nobody has built it yet."""
    folder = tmp_path / "plainc"
    shutil.copytree(PACKAGES / "plainc", folder)
    with (folder / "plainc" / "module.c").open("a", encoding="utf-8") as file:
        file.write(f"/* {tmp_path} */\n")
    return folder


def test_a_package_without_cuda_is_refused_by_name(
    cudabuild: Cudabuild, person: dict[str, str], plain: Path, tmp_path: Path
) -> None:
    for command in ("build", "plan", "fetch"):
        ran = cudabuild(command, "./plainc", *SM120, "--json", env=person, cwd=tmp_path)
        error = ran.json["error"]
        assert (ran.code, error["kind"], error["exit_code"]) == (5, "no-cuda-code", 5), ran.err
        assert error["message"].startswith("plainc has no CUDA code")
        assert "--device cpu" in error["hint"]
    assert not list((tmp_path / "plainc").glob("build*"))


def test_a_package_without_cuda_is_built_for_the_cpu_with_auto(
    cudabuild: Cudabuild, person: dict[str, str], plain: Path, tmp_path: Path
) -> None:
    ran = cudabuild("build", "./plainc", *SM120, "--device", "auto", "--json", env=person, cwd=tmp_path)
    assert ran.code == 0, ran.json["error"]
    assert (ran.json["device"], ran.json["verdict"]["device"], ran.json["plan"]["targets"]) == ("cpu", "cpu", [])
    assert "building for the CPU only: plainc has no CUDA code" in ran.err


def write_recipe(folder: Path, name: str) -> None:
    place = folder / "recipes" / name
    place.mkdir(parents=True)
    place.joinpath("recipe.toml").write_text(RECIPE.format(name=name, folder=f"../../{name}"), encoding="utf-8")


def test_a_recipe_is_tested_and_listed_with_its_grade(
    cudabuild: Cudabuild, person: dict[str, str], plain: Path, tmp_path: Path
) -> None:
    write_recipe(tmp_path, "plainc")
    for place in ("plainc", "recipes/plainc"):
        ran = cudabuild("recipes", "test", place, "--device", "cpu", env=person, cwd=tmp_path)
        assert ran.code == 0, ran.err
        assert "  import     passed" in ran.err
    listed = cudabuild("recipes", "list", "--json", env=person, cwd=tmp_path).json["recipes"]
    (row,) = [row for row in listed if row["name"] == "plainc"]
    assert (row["source"], row["grade"]) == ("folder", "imported")
    refused = cudabuild("recipes", "test", "plainc", "--device", "cpu", "--require", "executed", "--json",
                        env=person, cwd=tmp_path)  # fmt: skip
    assert refused.code == json.loads(refused.out)["error"]["exit_code"] != 0


def test_a_failed_build_for_cuda_offers_the_form_for_the_cpu(
    cudabuild: Cudabuild, person: dict[str, str], touchy: Path, tmp_path: Path
) -> None:
    (touchy / "setup.py").write_text("import os\nassert not os.getenv('SAYS_CUDA'), 'no such GPU'\n", encoding="utf-8")
    write_recipe(tmp_path, "touchy")
    ran = cudabuild("build", "touchy", *SM120, "--no-canary", "--json", env=person, cwd=tmp_path)
    error = ran.json["error"]
    assert (ran.code, error["kind"]) == (6, "build-failed"), error
    assert error["hint"].endswith("or its form without CUDA: cudabuild touchy --device cpu")
