"""The recipes that come with cudabuild: whole, honest about licences, and with patches and probes that hold."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit.recipe.loader import LoadedRecipe, bundled_recipes, list_recipes, load_recipe
from buildkit.recipe.review import review
from buildkit.recipe.selection import environment_of, patches_that_apply
from buildkit.source.patching import apply_patch
from buildkit.verify.probe_request import probe_devices

NAMES = sorted(folder.name for folder in bundled_recipes().iterdir() if (folder / "recipe.toml").is_file())


@pytest.fixture(params=NAMES, scope="module")
def bundled(request: pytest.FixtureRequest) -> LoadedRecipe:
    return load_recipe(bundled_recipes() / request.param)


THE_THREE = ("torchmcubes", "nvdiffrast", "pytorch3d")
OF_GIT = (*THE_THREE, "cubvh", "diff-gaussian-rasterization", "fused-ssim", "kaolin", "simple-knn", "tinycudann")
OF_THE_INDEX = (
    *("causal-conv1d", "chamferdist", "cumcubes", "diso", "gsplat", "minkowskiengine"),
    *("torch-cluster", "torch-scatter", "torch-spline-conv"),
)
LOOKALIKES = Path(__file__).parents[1] / "packages"


def test_all_that_are_listed_are_there() -> None:
    assert set(NAMES) == {*OF_GIT, *OF_THE_INDEX, "cudabuild-mcubes"}
    assert [entry.problem for entry in list_recipes([bundled_recipes()])] == [None] * len(NAMES)


def test_each_proves_cuda_and_imports_something(bundled: LoadedRecipe) -> None:
    verify = bundled.recipe.verify
    assert verify.imports
    assert verify.cuda_proof
    assert verify.cuda_objects


def test_each_is_fetched_by_hash_or_commit_or_is_of_this_project(bundled: LoadedRecipe) -> None:
    own = [bundled.folder / version.folder for version in bundled.recipe.versions if version.folder]
    assert all((folder / "pyproject.toml").is_file() for folder in own)
    assert all(folder.resolve().is_relative_to(bundled_recipes().parent / "csrc") for folder in own)
    assert all(version.sha256 or version.rev or version.folder for version in bundled.recipe.versions)
    assert all("0" * 40 not in (version.sha256 or version.rev or "") for version in bundled.recipe.versions)


def test_licences_are_spdx_and_non_commercial_ones_are_said(bundled: LoadedRecipe) -> None:
    from packaging.licenses import canonicalize_license_expression

    terms = bundled.recipe.license
    assert canonicalize_license_expression(terms.spdx) == terms.spdx
    assert not (terms.redistributable and "-NC" in terms.spdx)
    assert bool(terms.notice) is not terms.redistributable


def test_a_review_finds_nothing(bundled: LoadedRecipe) -> None:
    assert review(bundled) == ()


def test_no_file_lies_there_that_the_recipe_does_not_name(bundled: LoadedRecipe) -> None:
    there = {str(file.relative_to(bundled.folder)) for file in bundled.folder.rglob("*") if file.is_file()}
    assert {name for name in there if "__pycache__" not in name} == {"recipe.toml", *bundled.files}


def test_probes_return_typed_checks(bundled: LoadedRecipe) -> None:
    """Read as text: what they import is not here."""
    if bundled.recipe.verify.probe is None:
        assert not bundled.recipe.build.torch, "a package with torch has a probe"
        return
    probe = bundled.folder / bundled.recipe.verify.probe
    tree = ast.parse(probe.read_text("utf-8"))
    assert ast.get_docstring(tree)
    assert "cuda" in probe_devices(probe)
    (checks,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "checks"]
    assert [argument.arg for argument in checks.args.args] == ["device", "tools"]
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"print", "exit", "SystemExit", "main"}, "the runner judges, and writes the answer"


def test_patches_are_unified_diffs_with_a_reason(bundled: LoadedRecipe) -> None:
    for patch in bundled.recipe.patches:
        assert len(patch.reason) > 20
        if patch.file is None:
            continue
        text = (bundled.folder / patch.file).read_text("utf-8")
        assert re.match(r"--- a/\S+\n\+\+\+ b/\S+\n@@ -\d+(,\d+)? \+\d+(,\d+)? @@", text)
        assert text.endswith("\n")


def test_each_of_git_and_of_the_index_is_what_it_says(bundled: LoadedRecipe) -> None:
    if bundled.recipe.name in OF_GIT:
        assert all(version.git and version.rev for version in bundled.recipe.versions)
        assert bundled.recipe.status == "unconfirmed", "none could be fetched from where its build would be recorded"
    elif bundled.recipe.name in OF_THE_INDEX:
        assert all(version.sdist and version.sha256 for version in bundled.recipe.versions)


def test_what_has_no_form_for_the_cpu_has_no_variables_for_it(bundled: LoadedRecipe) -> None:
    build = bundled.recipe.build
    assert build.cpu or not build.env_cpu
    assert build.cpu or bundled.recipe.verify.probe is None or "cpu" not in probe_devices(bundled.folder / "probe.py")


def patched(name: str, tree: Path, **values: str) -> list[bool]:
    """Apply a recipe's patches for these conditions to a tree; whether each changed something."""
    loaded = load_recipe(bundled_recipes() / name)
    chosen = patches_that_apply(loaded.recipe, {**CUDA_13, **values})
    return [apply_patch(tree, patch, loaded.folder).done for patch in chosen]


CUDA_13 = {"torch": "2.13.0", "cuda": "13.0", "python": "3.11", "gcc": "12.2", "version": "0", "device": "cuda"}


@pytest.fixture
def lookalike(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a project of tests/packages."""
    return lambda name: Path(shutil.copytree(LOOKALIKES / name, tmp_path / name))


def test_the_torchmcubes_patch_renames_every_lerp_once(lookalike: Callable[[str], Path]) -> None:
    tree = lookalike("torchmcubes")
    (tree / "csrc" / "other.cpp").write_text(
        "x = std::lerp(a, b, t); y = at::lerp(z, w, t); v.lerp (u); int lerped(1);\n"
    )
    before = {path: path.read_text() for path in tree.rglob("*") if path.is_file()}
    assert patched("torchmcubes", tree) == [True]
    changed = {path.name: path.read_text() for path in before if path.read_text() != before[path]}
    assert set(changed) == {"cells.h", "lerp.h"}
    assert "float mcubes_lerp(float a" in changed["lerp.h"]
    assert "Point mcubes_lerp (Point a" in changed["lerp.h"]
    assert not re.search(r"(?<!_)\blerp\s*\(", "".join(changed.values()))
    assert patched("torchmcubes", tree) == [False], "a second time there is nothing to do"


def test_older_torch_leaves_torchmcubes_as_it_is_and_newer_makes_it_cpp_20(lookalike: Callable[[str], Path]) -> None:
    tree = lookalike("torchmcubes")
    lists = tree / "CMakeLists.txt"
    assert patched("torchmcubes", tree, torch="2.11.0") == []
    lists.write_text("set(CMAKE_CXX_STANDARD 17)\nset_target_properties(x PROPERTIES CUDA_STANDARD 14)\n")
    assert patched("torchmcubes", tree, torch="2.14.0") == [True, True]
    assert lists.read_text() == "set(CMAKE_CXX_STANDARD 20)\nset_target_properties(x PROPERTIES CUDA_STANDARD 20)\n"
    recipe = load_recipe(bundled_recipes() / "torchmcubes").recipe
    assert environment_of(recipe, CUDA_13) == {}
    assert environment_of(recipe, {**CUDA_13, "torch": "2.14.0"}) == {"SKBUILD_CMAKE_DEFINE": "CMAKE_CXX_STANDARD=20"}


def test_pytorch3d_gets_its_standard_and_its_flags_where_they_are_needed(lookalike: Callable[[str], Path]) -> None:
    tree = lookalike("pytorch3d")
    assert patched("pytorch3d", tree) == []
    assert patched("pytorch3d", tree, torch="2.14.0") == [True]
    assert (tree / "setup.py").read_text().count("-std=c++20") == 2
    assert "c++17" not in (tree / "setup.py").read_text()
    recipe = load_recipe(bundled_recipes() / "pytorch3d").recipe
    flags = environment_of(recipe, CUDA_13)["NVCC_FLAGS"].split(" ")
    assert flags == ["-static-global-template-stub=false", "--device-entity-has-hidden-visibility=false"]
    assert environment_of(recipe, {**CUDA_13, "cuda": "12.8"}) == {"FORCE_CUDA": "1"}
    assert "NVCC_FLAGS" not in environment_of(recipe, {**CUDA_13, "cuda": "0", "device": "cpu"})


def test_causal_conv1d_loses_its_own_targets_and_stays_python(tmp_path: Path) -> None:
    setup = tmp_path / "setup.py"
    setup.write_text("""\
cc_flag = []
if bare_metal_version >= Version("11.8"):
    cc_flag.append("-gencode")
    cc_flag.append("arch=compute_90,code=sm_90")
cc_flag.append("-DOTHER")
args = extra + ["--threads", "4"]
""")
    assert patched("causal-conv1d", tmp_path) == [True, True]
    assert "arch" not in setup.read_text()
    assert 'cc_flag.append("-DOTHER")' in setup.read_text()
    ast.parse(setup.read_text())


def test_tinycudann_takes_its_targets_from_torchs_variable(tmp_path: Path) -> None:
    folder = tmp_path / "bindings" / "torch"
    folder.mkdir(parents=True)
    (folder / "setup.py").write_text('import os\nprint(os.environ["TCNN_CUDA_ARCHITECTURES"])\n')
    assert patched("tinycudann", tmp_path) == [True]
    for given, expected in (("8.6;12.0+PTX", "86,120"), ("9.0", "90")):
        environment = {"TORCH_CUDA_ARCH_LIST": given}
        said = subprocess.check_output([sys.executable, "-S", folder / "setup.py"], env=environment, text=True)
        assert said == f"{expected}\n"


def test_the_table_in_the_documentation_says_what_the_recipes_say(bundled: LoadedRecipe) -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "bundled-recipes.md"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.read_text("utf-8").splitlines()]
    (row,) = [cells for cells in rows if cells[0] == f"`{bundled.recipe.name}`"]
    recipe, version = bundled.recipe, bundled.recipe.versions[0]
    source = "index" if version.sdist else "git" if version.git else "this project"
    devices = "CUDA, CPU" if recipe.build.cpu else "CUDA"
    terms = f"{recipe.license.spdx}{'' if recipe.license.redistributable else ' (do not pass on)'}"
    assert row[1:6] == [version.version, source, devices, terms, recipe.status]


CUMCUBES_HEAD = """\
// Copyright 2021 Zhihao Liang
#include <cstdint>
#include <iostream>
#include <pybind11/functional.h>

#include "cumcubes.hpp"
"""


def test_the_cumcubes_patch_adds_the_header_that_is_used(tmp_path: Path) -> None:
    source = tmp_path / "cumcubes" / "src" / "cumcubes.cpp"
    source.parent.mkdir(parents=True)
    source.write_text(CUMCUBES_HEAD)
    patch = bundled_recipes() / "cumcubes" / "patches" / "include-fstream.patch"
    git = shutil.which("git")
    assert git is not None
    subprocess.run([git, "apply", "--check", str(patch)], cwd=tmp_path, check=True)
    subprocess.run([git, "apply", str(patch)], cwd=tmp_path, check=True)
    assert source.read_text() == CUMCUBES_HEAD.replace("<cstdint>\n", "<cstdint>\n#include <fstream>\n")
