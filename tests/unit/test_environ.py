"""What a backend sees: nothing of the person's environment but what was asked for by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from buildkit.build.environ import (
    NOT_IN_KEY,
    OWNED,
    backend_environment,
    chosen_compiler,
    passed_variables,
    resolve,
)
from buildkit.errors import RecipeError
from buildkit.machine.arch import parse_targets

PERSONS = {
    "GITHUB_TOKEN": "secret", "HF_TOKEN": "secret", "AWS_SECRET_ACCESS_KEY": "secret", "UV_INDEX_X_PASSWORD": "secret",
    "TWINE_PASSWORD": "secret", "NETRC": "/secret/netrc", "PIP_INDEX_URL": "https://user:secret@index.example/simple",
    "PIP_CONFIG_FILE": "/secret/pip.conf", "PIP_CONSTRAINT": "/c.txt", "UV_DEFAULT_INDEX": "https://index.example",
    "SSH_AUTH_SOCK": "/secret/agent", "GIT_CONFIG_GLOBAL": "/secret/gitconfig", "HTTPS_PROXY": "http://secret@proxy",
    "CFLAGS": "-O1", "CXXFLAGS": "-O1", "LDFLAGS": "-L/x", "CPATH": "/x", "LIBRARY_PATH": "/x", "LD_LIBRARY_PATH": "/x",
    "LD_PRELOAD": "/x.so", "NVCC_PREPEND_FLAGS": "-G", "NVCC_APPEND_FLAGS": "-G", "CMAKE_ARGS": "-DX=1",
    "SKBUILD_CMAKE_ARGS": "-DX=1", "PYTHONPATH": "/x", "PYTHONSTARTUP": "/x.py", "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "HOME": "/home/person", "PATH": "/home/person/bin:/usr/bin", "VIRTUAL_ENV": "/home/person/venv", "LANG": "de_DE",
    "MAX_JOBS": "99", "TORCH_CUDA_ARCH_LIST": "7.0", "CUDA_HOME": "/opt/cuda", "DISTUTILS_DEBUG": "1",
}  # fmt: skip


def environment(
    device: str = "cuda",
    *,
    recipe: Mapping[str, str] | None = None,
    passed: Mapping[str, str] | None = None,
    compiler: str = "/usr/bin/g++",
    chosen: Mapping[str, str] | None = None,
) -> dict[str, str]:
    return backend_environment(
        device=device,
        targets=parse_targets(["8.6;12.0+PTX"]) if device == "cuda" else (),
        compiler=Path(compiler),
        recipe_environment=recipe or {},
        passed=passed or {},
        chosen_compiler=chosen or {},
    )


def test_nothing_of_the_persons_environment_passes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PERSONS.items():
        monkeypatch.setenv(name, value)
    found = environment()
    assert not [value for value in found.values() if "secret" in value or "/home/person" in value]
    assert not PERSONS.keys() - OWNED & found.keys()
    assert {name: found[name] for name in PERSONS.keys() & found.keys()} == {
        "PATH": "{env}/bin:{view}/bin:/usr/bin:/bin",
        "HOME": "{build}/home",
        "VIRTUAL_ENV": "{env}",
        "CUDA_HOME": "{view}",
        "TORCH_CUDA_ARCH_LIST": "8.6;12.0+PTX",
    }


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_same_environment_each_time_and_no_jobs_in_it(device: str) -> None:
    assert environment(device) == environment(device)
    assert not NOT_IN_KEY & environment(device).keys()
    assert environment(device)["LC_ALL"] == "C.UTF-8"


def test_what_a_cuda_build_is_told() -> None:
    found = environment()
    assert found["CUDAARCHS"] == "86-real;120"
    assert {found[name] for name in ("CUDA_HOME", "CUDA_PATH", "CUDAToolkit_ROOT")} == {"{view}"}
    assert found["CUDACXX"] == "{view}/bin/nvcc"
    assert environment(chosen={"CC": "gcc-12", "CXX": "g++-12"})["NVCC_CCBIN"] == "g++-12"
    cpu = environment("cpu")
    assert [name for name in cpu if "CUDA" in name] == ["CUDA_VISIBLE_DEVICES"]
    assert cpu["CUDA_VISIBLE_DEVICES"] == found["CUDA_VISIBLE_DEVICES"] == ""  # a GPU here must not change the wheel
    assert "{view}" not in cpu["PATH"]


def test_path_holds_the_folder_of_a_compiler_that_lies_elsewhere() -> None:
    assert environment(compiler="/opt/gcc/bin/g++")["PATH"] == "{env}/bin:{view}/bin:/opt/gcc/bin:/usr/bin:/bin"


@pytest.mark.parametrize("name", sorted(OWNED))
def test_what_cudabuild_decides_cannot_be_set(name: str) -> None:
    for found in ({"recipe": {name: "x"}}, {"passed": {name: "x"}}):
        with pytest.raises(RecipeError, match=f"^{name} is decided by cudabuild") as caught:
            environment(**found)  # type: ignore[arg-type]
        assert caught.value.exit_code == 3


def test_what_was_asked_for_wins_over_the_recipe_and_the_defaults() -> None:
    found = environment(recipe={"CFLAGS": "-O2", "SOURCE_DATE_EPOCH": "1"}, passed={"CFLAGS": "-O1"})
    assert (found["CFLAGS"], found["SOURCE_DATE_EPOCH"]) == ("-O1", "1")


def test_passed_by_name_or_with_a_value() -> None:
    environ = {"CFLAGS": "-O1", "EMPTY": ""}
    assert passed_variables(["CFLAGS", "UNSET", "EMPTY", "X=1=2", "Y="], environ) == {
        "CFLAGS": "-O1",
        "EMPTY": "",
        "X": "1=2",
        "Y": "",
    }
    assert chosen_compiler({"CC": "gcc-12", "CXX": "", "FC": "gfortran"}) == {"CC": "gcc-12"}


def test_placeholders_are_filled_and_jobs_added() -> None:
    places = {"env": Path("/c/env"), "view": Path("/c/view"), "build": Path("/c/b"), "pycache": Path("/c/p")}
    found = resolve(environment(), places, jobs=3)
    assert found["PATH"] == "/c/env/bin:/c/view/bin:/usr/bin:/bin"
    assert found["PYTHONPYCACHEPREFIX"] == "/c/p"
    assert {found[name] for name in NOT_IN_KEY} == {"3"}
    assert not [value for value in found.values() if "{" in value]
