"""The hint of a failed CUDA build names the package's CPU form, where it has one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from buildkit.build.devices import CPU_CAUSES, cpu_form_offered, offered
from buildkit.build.package import Package, adhoc_recipe
from buildkit.build.prepare import Prepared
from buildkit.errors import (
    BuildFailed,
    CpuOnlyWheel,
    CudabuildError,
    DiskFull,
    ImportFailed,
    Interrupted,
    NoCudaCode,
    OutOfMemory,
)
from buildkit.recipe.loader import LoadedRecipe
from buildkit.source.spec import FolderSpec

FORM = "cudabuild 'a thing' --device cpu"


def prepared(device: str = "cuda", sha256: str = "a" * 64, **build: object) -> Prepared:
    """As much of a plan as is looked at; without a hash it has no recipe."""
    recipe = adhoc_recipe("thing", Path("/")).recipe
    recipe = recipe.model_copy(update={"build": recipe.build.model_copy(update=build)})
    package = Package(LoadedRecipe(recipe, Path("/"), sha256, {}), None, FolderSpec(Path("/")))
    return cast("Prepared", SimpleNamespace(device=device, package=package, request=SimpleNamespace(package="a thing")))


def hint(plan: Prepared, cause: CudabuildError) -> str:
    with pytest.raises(type(cause)) as caught, cpu_form_offered(plan):
        raise cause
    return caught.value.hint


@pytest.mark.parametrize("cause", [BuildFailed, OutOfMemory, CpuOnlyWheel])
def test_a_failed_build_ends_with_it(cause: type[CudabuildError]) -> None:
    assert hint(prepared(), cause("failed", hint="read the log")) == (f"read the log; or its form without CUDA: {FORM}")


@pytest.mark.parametrize("cause", [DiskFull, ImportFailed, Interrupted])
def test_what_the_cpu_would_not_help_does_not(cause: type[CudabuildError]) -> None:
    assert hint(prepared(), cause("failed", hint="that")) == "that"


def test_a_package_without_such_a_form_and_a_build_for_the_cpu_do_not() -> None:
    assert hint(prepared(cpu=False), BuildFailed("failed", hint="that")) == "that"
    assert hint(prepared("cpu"), BuildFailed("failed", hint="that")) == "that"


def test_without_a_recipe_only_a_switch_shows_that_there_is_one() -> None:
    assert hint(prepared(sha256=""), BuildFailed("failed", hint="that")) == "that"
    assert FORM in hint(prepared(sha256="", env_cpu={"NO_CUDA": "1"}), BuildFailed("failed", hint="that"))


def test_without_another_hint_it_stands_alone() -> None:
    assert offered("", "thing") == "its form without CUDA: cudabuild thing --device cpu"


def test_no_cuda_code_is_a_named_cause_for_the_cpu() -> None:
    assert NoCudaCode in CPU_CAUSES
