"""Fills a folder with all that tests/gpu/run needs on a machine without a network.

    python tests/gpu/carry.py FOLDER [--python 3.12] [--recipe diso] [--skip cmake ...]

Run it with the Python of an environment that holds cudabuild. Wheels are for the Python and the platform of the
machine with the GPU; ``--skip`` leaves out distributions that need not be carried. See docs/how-to/gpu-tests.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement

from buildkit.build.installer import find_uv
from buildkit.build.locks import BASELINE_REQUIRES
from buildkit.progress import Silent
from buildkit.recipe.loader import LoadedRecipe, bundled_recipes, load_recipe
from buildkit.source.fetch import fetch_source
from buildkit.source.index_settings import read_index_settings
from buildkit.source.spec import spec_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
NEWEST_GLIBC = 39
"""Minor versions of glibc 2 up to which wheels are taken (pip compares platforms letter by letter)."""


def own_requirements() -> list[str]:
    """cudabuild's, and what its tests on a GPU import."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = re.compile(r"(pytest|pytest-timeout|numpy)\b(?!-)")
    tests = [text for text in project["optional-dependencies"]["test"] if wanted.match(text)]
    return [*project["dependencies"], *tests]


def build_requirements() -> list[str]:
    """Of any build, and of the canary with its smoke test."""
    canary = load_recipe(bundled_recipes() / "cudabuild-mcubes").recipe
    backend = tomllib.loads((ROOT / "csrc" / "mcubes" / "pyproject.toml").read_text("utf-8"))["build-system"]
    return [*BASELINE_REQUIRES, *backend["requires"], *canary.build.requires, *canary.runtime.requires]


def fetch(recipe: LoadedRecipe, folder: Path) -> list[str]:
    """The recipe's source distribution, its hash checked, into the folder; what it requires beside torch."""
    spec = spec_of(recipe.recipe.versions[0], recipe.folder)
    with tempfile.TemporaryDirectory() as cache:
        index = read_index_settings(os.environ)
        source = fetch_source(spec, cache=Path(cache), index=index, offline=False, reporter=Silent())
        assert source.archive is not None, f"{recipe.recipe.name} is no source distribution"
        shutil.copy(source.archive, folder)
    wanted = [*recipe.recipe.build.requires, *recipe.recipe.runtime.requires, *source.build_requires]
    return [text for text in wanted if Requirement(text).name != "torch"]


def resolved(requirements: Sequence[str], python: str) -> list[str]:
    """``name==version`` of the requirements and all that they need, for that Python on Linux."""
    command = [str(find_uv()), "pip", "compile", "-", "--python-version", python, "--no-header", "--no-annotate", "-q"]
    command += ["--python-platform", "x86_64-manylinux_2_28", "--only-binary", ":all:"]
    text = "\n".join(requirements)
    listed = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "==" in line]


def download(pinned: Sequence[str], python: str, folder: Path) -> None:
    """The wheels of what is pinned, by pip, which takes its own settings of indexes."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(NEWEST_GLIBC, 4, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    command = [str(find_uv()), "tool", "run", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", python, "--dest", str(folder)]
    command += [word for platform in platforms for word in ("--platform", platform)]
    subprocess.run([*command, *pinned], check=True)


def main() -> None:
    """Fill the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", help="version of the Python there")
    parser.add_argument("--recipe", action="append", help="a bundled recipe whose source is carried (default: diso)")
    parser.add_argument("--skip", action="append", default=[], help="a distribution that is not carried")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    builds = build_requirements()
    for name in asked.recipe or ["diso"]:
        builds += fetch(load_recipe(bundled_recipes() / name), asked.folder)
    pinned = {*resolved(own_requirements(), asked.python), *resolved(builds, asked.python)}
    download(sorted(line for line in pinned if line.partition("==")[0] not in asked.skip), asked.python, asked.folder)


if __name__ == "__main__":
    main()
