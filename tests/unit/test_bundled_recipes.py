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


def test_each_is_fetched_by_hash_or_commit(bundled: LoadedRecipe) -> None:
    assert all(version.sha256 or version.rev for version in bundled.recipe.versions)
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


def test_probes_take_the_device_and_print_one_json_object(bundled: LoadedRecipe) -> None:
    assert bundled.recipe.verify.probe is not None
    text = (bundled.folder / bundled.recipe.verify.probe).read_text("utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert "sys.argv[1]" in text
    assert "torch.cuda.synchronize()" in text
    assert len(re.findall(r"print\(json\.dumps\(", text)) == 1


def test_patches_are_unified_diffs_with_a_reason(bundled: LoadedRecipe) -> None:
    for patch in bundled.recipe.patches:
        text = (bundled.folder / patch.file).read_text("utf-8")
        assert re.match(r"--- a/\S+\n\+\+\+ b/\S+\n@@ -\d+(,\d+)? \+\d+(,\d+)? @@", text)
        assert text.endswith("\n")
        assert len(patch.reason) > 20


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
