"""The recipes that come with cudabuild: whole, honest about licences, and with patches and probes that hold."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from buildkit.recipe.loader import LoadedRecipe, bundled_recipes, list_recipes, load_recipe
from buildkit.recipe.review import review
from buildkit.verify.probe_request import probe_devices

NAMES = sorted(folder.name for folder in bundled_recipes().iterdir() if (folder / "recipe.toml").is_file())


@pytest.fixture(params=NAMES)
def bundled(request: pytest.FixtureRequest) -> LoadedRecipe:
    return load_recipe(bundled_recipes() / request.param)


def test_the_first_recipes_are_there() -> None:
    assert {"diso", "torch-scatter", "chamferdist", "cumcubes"} <= set(NAMES)
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
