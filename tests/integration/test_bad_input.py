"""Bad input by the real console script: for each cause its exit code, its name in --json, and words to act on."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from buildkit.build.places import Places

pytestmark = pytest.mark.integration

PACKAGES = Path(__file__).resolve().parents[1] / "packages"
TORCH = ("--torch", "2.13.0+cu130")
SM120 = ("--target", "12.0")
CPU = ("--device", "cpu")
"""For what a backend does or answers, whatever it was asked to build for."""
NO_COMMIT = "0" * 40
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
INTREE = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
RECIPE = """edition = 1
name = "{name}"
summary = "for a test"
license = {{ spdx = "MIT", redistributable = true }}
status = "unconfirmed"
[[version]]
version = "1.0"
{source}
"""
OTHER_WHEEL = """import pathlib
import zipfile


def build_wheel(folder, config_settings=None, metadata_directory=None):
    name, info = "other-1.0-py3-none-any.whl", "other-1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as archive:
        archive.writestr("other.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: other\\nVersion: 1.0\\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(f"{info}/RECORD", f"other.py,,\\n{info}/METADATA,,\\n{info}/WHEEL,,\\n{info}/RECORD,,\\n")
    return name
"""
ANSWER = "def build_wheel(folder, config_settings=None, metadata_directory=None):\n    return {}\n"


class Ran(Protocol):
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]: ...


class Cudabuild(Protocol):
    def __call__(
        self,
        *words: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 900.0,
        prefix: Sequence[str] = (),
    ) -> Ran: ...


@dataclass(frozen=True)
class Fails:
    """Run a command that must fail, with --json, and give its ``error`` object."""

    cudabuild: Cudabuild
    person: Mapping[str, str]

    def __call__(
        self,
        *words: str,
        code: int,
        kind: str,
        says: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> dict[str, Any]:
        ran = self.cudabuild(*words, "--json", env={**NO_GPU, **self.person, **(env or {})}, cwd=cwd, prefix=prefix)
        assert ran.code == code, (ran.code, ran.out, ran.err)
        assert "Traceback" not in ran.err
        found: dict[str, Any] = ran.json["error"]
        assert found["kind"] == kind, found
        assert found["exit_code"] == code
        assert re.search(says, f"{found['message']}\n{found['evidence']}"), found
        assert found["hint"], "every failure names the next step"
        return found


@pytest.fixture(scope="module")
def fails(cudabuild: Cudabuild, person: dict[str, str]) -> Fails:
    return Fails(cudabuild, person)


@pytest.fixture(scope="module")
def fails_early(cudabuild: Cudabuild) -> Fails:
    """For what must be refused before torch is even looked for: the active environment has none."""
    return Fails(cudabuild, {})


def a_recipe(folder: Path, name: str, source: str, more: str = "") -> Path:
    """Write ``folder/name/recipe.toml``; returns ``folder``."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    place.joinpath("recipe.toml").write_text(RECIPE.format(name=name, source=source) + more, encoding="utf-8")
    return folder


def a_package(folder: Path, backend: str, more: str = "") -> Path:
    """A project whose build backend is its own file."""
    folder.mkdir(parents=True)
    folder.joinpath("pyproject.toml").write_text(INTREE + more, encoding="utf-8")
    folder.joinpath("backend.py").write_text(backend, encoding="utf-8")
    return folder


def fastcuda(folder: Path, **changed: tuple[str, str]) -> Path:
    """A copy of the test package; ``setup="old", "new"`` and ``add=...`` replace text in setup.py and add.cu."""
    shutil.copytree(PACKAGES / "fastcuda", folder)
    for name, (before, after) in changed.items():
        file = next(folder.rglob(f"{name}.*"))
        text = file.read_text(encoding="utf-8")
        assert before in text
        file.write_text(text.replace(before, after), encoding="utf-8")
    return folder


# What was typed


USAGE = {
    "a target that does not parse": (("diso", "--target", "banana"), "bad-target", "'banana'"),
    "a target with a slip": (("diso", "--target", "12.O"), "bad-target", "12.O"),
    "a name with several meanings": (("diso", "--target", "rtx2000"), "bad-target", r"8\.9.*12\.0"),
    "an empty target": (("diso", "--target", ""), "bad-target", "no target"),
    "no recipe at all": (("--target", "12.0"), "usage", "RECIPE"),
    "an empty recipe": (("", "--target", "12.0"), "usage", "empty"),
    "no jobs": (("diso", "--jobs", "0"), "usage", "--jobs"),
    "memory that is no size": (("diso", "--memory", "banana"), "usage", "banana"),
    "a time without a unit": (("diso", "--timeout", "12"), "usage", "30 min"),
    "an unknown option": (("diso", "--jsn"), "usage", "--json"),
    "an option of another command": (("recipes", "list", "--target", "12.0"), "usage", "--target"),
    "an unknown device": (("diso", "--device", "tpu"), "usage", "cuda"),
    "a torch that is no version": (("diso", "--target", "12.0", "--torch", "latest"), "usage", "2.13.0"),
    "a torch that is a path": (("diso", "--target", "12.0", "--torch", "../../x"), "usage", "2.13.0"),
    "an empty torch": (("diso", "--target", "12.0", "--torch", ""), "usage", "2.13.0"),
    "no Python there": (("diso", "--target", "12.0", "--python", "/nowhere"), "usage", "/nowhere"),
    "no toolkit there": (("diso", "--target", "12.0", "--cuda-home", "/nowhere"), "usage", "/nowhere"),
    "no recipes there": (("diso", "--target", "12.0", "--recipes", "/nowhere"), "usage", "/nowhere"),
    "no source there": (("diso", "--target", "12.0", "--source", "/nowhere"), "usage", "/nowhere"),
    "a branch for a commit": (("diso", "--source", "https://example.org/x@main"), "usage", "full commit id"),
    "a folder that is not there": (("./nowhere", "--target", "12.0"), "usage", "not a folder"),
    "an index name that is none": (("pypi:a b", "--target", "12.0"), "usage", "a b"),
    "an unknown subcommand": (("recipes", "frob"), "usage", "frob"),
}


@pytest.mark.parametrize("case", USAGE)
def test_what_cannot_be_understood_is_usage(fails_early: Fails, case: str) -> None:
    words, kind, says = USAGE[case]
    fails_early(*words, code=2, kind=kind, says=says)


def test_a_source_beside_a_source_is_refused(fails_early: Fails, tmp_path: Path) -> None:
    project = fastcuda(tmp_path / "fastcuda")
    found = fails_early(str(project), "--source", str(tmp_path), code=2, kind="usage", says="--source")
    assert "leave --source out" in found["hint"]


def test_a_recipe_named_by_its_path(fails_early: Fails, tmp_path: Path) -> None:
    recipes = a_recipe(tmp_path / "mine", "thing", 'folder = "."')
    for path in (recipes / "thing", recipes / "thing" / "recipe.toml"):
        found = fails_early(str(path), *SM120, code=2, kind="usage", says="is a recipe")
        assert found["hint"] == f"cudabuild thing --recipes {recipes}"


def test_people_read_the_same_in_words(cudabuild: Cudabuild) -> None:
    ran = cudabuild("torch-scater", *SM120)
    assert (ran.code, ran.out) == (3, "")
    assert "error: there is no recipe 'torch-scater'; did you mean 'torch-scatter'?" in ran.err
    assert "\nnext: cudabuild torch-scatter\n" in ran.err
    assert "\x1b" not in ran.err


# Recipes and configuration


def test_an_unknown_recipe_names_the_nearest(fails_early: Fails) -> None:
    found = fails_early("torch-scater", *SM120, code=3, kind="unknown-recipe", says="torch-scatter")
    assert "looked in" in found["evidence"]
    fails_early("zzzzzz", *SM120, code=3, kind="unknown-recipe", says="no recipe 'zzzzzz'")
    fails_early("diso==9.9", *SM120, code=3, kind="recipe", says=r"9\.9")


def test_a_folder_with_the_name_of_no_recipe_is_pointed_out(fails_early: Fails, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    found = fails_early("mine", *SM120, code=3, kind="unknown-recipe", says="mine", cwd=tmp_path)
    assert "./mine" in found["hint"]


BAD_RECIPES = {
    "not TOML": ('edition = 1\nname = "bad"\nsummary = oops\n', r"bad/recipe\.toml:3:11: .*TOML"),
    "cut short": ("edition = 1\nversion = [", r"bad/recipe\.toml:2:12: .*TOML"),
    "an unknown key": (
        RECIPE.format(name="bad", source='folder = "."') + '[build]\nmemory-per-unt = "1 GiB"\n',
        r"recipe\.toml:10: build\.memory-per-unt: unknown key; did you mean 'memory-per-unit'",
    ),
    "a bad size": (
        RECIPE.format(name="bad", source='folder = "."') + '[build]\nmemory-per-unit = "many"\n',
        r"recipe\.toml:10: build\.memory-per-unit: .*many",
    ),
    "a later edition": ('edition = 2\nname = "bad"\n', "edition 2"),
    "another name": (RECIPE.format(name="good", source='folder = "."'), "good"),
    "two sources": (RECIPE.format(name="bad", source='folder = "."\nsdist = "x"\nsha256 = "00"'), r"version\[0\]"),
    "a short commit": (RECIPE.format(name="bad", source='git = "https://example.org/x"\nrev = "abc"'), "rev"),
}


@pytest.mark.parametrize("case", BAD_RECIPES)
def test_a_bad_recipe_is_located(fails_early: Fails, tmp_path: Path, case: str) -> None:
    text, says = BAD_RECIPES[case]
    tmp_path.joinpath("bad").mkdir()
    tmp_path.joinpath("bad", "recipe.toml").write_text(text, encoding="utf-8")
    fails_early("bad", "--recipes", str(tmp_path), *SM120, code=3, kind="recipe", says=says)


def test_a_recipe_with_a_bad_name_is_told_so(fails_early: Fails, tmp_path: Path) -> None:
    a_recipe(tmp_path, "Bad", 'folder = "."')
    fails_early("Bad", "--recipes", str(tmp_path), *SM120, code=3, kind="recipe", says="small letters")


def test_check_names_every_unsound_recipe(cudabuild: Cudabuild, tmp_path: Path) -> None:
    a_recipe(tmp_path, "one", 'folder = "."', "[nonsense]\n")
    a_recipe(tmp_path, "two", "")
    a_recipe(tmp_path, "three", 'folder = "."')
    ran = cudabuild("recipes", "check", "--recipes", str(tmp_path), "one", "two", "three")
    assert ran.code == 3
    assert ran.out == "three: sound\n"
    assert "one/recipe.toml:9: nonsense: unknown key" in ran.err
    assert "two/recipe.toml" in ran.err
    assert "error: 2 of 3 recipes are not sound: one, two" in ran.err


def test_a_recipe_is_not_written_over_or_misnamed(cudabuild: Cudabuild, tmp_path: Path) -> None:
    assert cudabuild("recipes", "new", "thing", "--folder", str(tmp_path)).code == 0
    again = cudabuild("recipes", "new", "thing", "--folder", str(tmp_path))
    assert (again.code, "is there already" in again.err) == (2, True)
    named = cudabuild("recipes", "new", "Bad Name", "--folder", str(tmp_path))
    assert (named.code, "next: cudabuild recipes new bad-name" in named.err) == (2, True)


def test_a_bad_setting_is_located(fails_early: Fails, tmp_path: Path) -> None:
    env = {"CUDABUILD_MEMORY": "banana"}
    fails_early("diso", *SM120, code=3, kind="configuration", says="CUDABUILD_MEMORY.*banana", env=env)
    env = {"CUDABUILD_TORCH": "newest"}
    fails_early("diso", *SM120, code=3, kind="configuration", says="CUDABUILD_TORCH.*newest", env=env)
    env = {"CUDABUILD_TARGETS": "12.O"}
    fails_early("diso", code=2, kind="bad-target", says="the configured targets: 12.O", env=env)
    env = {"TORCH_CUDA_ARCH_LIST": "banana"}
    fails_early("diso", code=2, kind="bad-target", says="TORCH_CUDA_ARCH_LIST: banana", env=env)
    file = tmp_path / "config.toml"
    env = {"CUDABUILD_CONFIG": str(file)}
    fails_early("diso", *SM120, code=3, kind="configuration", says="no such file", env=env)
    file.write_text('memry = "8 GiB"\n', encoding="utf-8")
    fails_early("diso", *SM120, code=3, kind="configuration", says="config.toml: memry.*'memory'", env=env)
    file.write_text("memory = 8\n", encoding="utf-8")
    fails_early("diso", *SM120, code=3, kind="configuration", says="memory: '8' is not a size", env=env)


def test_an_unknown_variable_is_warned_about(cudabuild: Cudabuild) -> None:
    ran = cudabuild("cache", "path", env={"CUDABUILD_MEMRY": "8GiB"})
    assert ran.code == 0
    assert ran.err == "warning: CUDABUILD_MEMRY is not a variable of cudabuild; did you mean CUDABUILD_MEMORY?\n"


# Sources


def test_wrong_bytes_are_refused(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    sdist = tmp_path / "links" / "thing-1.0.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        member = tarfile.TarInfo("thing-1.0/setup.py")
        archive.addfile(member, io.BytesIO(b""))
    recipes = a_recipe(tmp_path / "recipes", "thing", f'sdist = "thing"\nsha256 = "{"a" * 64}"')
    found = fails(
        "thing", "--recipes", str(recipes), "--find-links", str(tmp_path / "links"), *SM120,
        code=4, kind="hash-mismatch", says="thing-1.0.tar.gz is not the file that was pinned",
        env={"PIP_NO_INDEX": "1"},
    )  # fmt: skip
    assert "a" * 64 in found["evidence"]
    assert hashlib.sha256(sdist.read_bytes()).hexdigest() in found["evidence"]


def test_a_missing_commit(fails_early: Fails, tmp_path: Path) -> None:
    repository = fastcuda(tmp_path / "fastcuda")
    subprocess.run(["git", "init", "--quiet", str(repository)], check=True)
    recipes = a_recipe(tmp_path / "recipes", "fastcuda", 'folder = "."')
    source = f"{repository}@{NO_COMMIT}"
    words = ("fastcuda", "--recipes", str(recipes), "--source", source, *SM120)
    found = fails_early(*words, code=4, kind="commit-missing", says=NO_COMMIT)
    assert "git ls-remote" in found["hint"]


def test_a_patch_that_fails_names_file_and_hunk(fails: Fails, tmp_path: Path) -> None:
    fastcuda(tmp_path / "source")
    patch = '[[patch]]\nfile = "wrong.patch"\nreason = "a test"\nlink = "https://example.org"\n'
    recipes = a_recipe(tmp_path / "recipes", "fastcuda", f'folder = "{tmp_path}/source"', patch)
    recipes.joinpath("fastcuda", "wrong.patch").write_text(
        "--- a/csrc/add.cu\n+++ b/csrc/add.cu\n@@ -1,2 +1,2 @@\n #include <nothing.h>\n-one\n+two\n", encoding="utf-8"
    )
    says = r"wrong\.patch.*csrc/add\.cu.*hunk 1"
    fails("fastcuda", "--recipes", str(recipes), *SM120, code=4, kind="patch-failed", says=f"(?s){says}")


def test_a_folder_without_a_project(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    fails("./empty", *SM120, code=4, kind="source", says="holds neither pyproject.toml nor setup.py", cwd=tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README").write_text("nothing\n", encoding="utf-8")
    fails("./notes", *SM120, code=4, kind="source", says="it holds README", cwd=tmp_path)


BAD_PROJECTS = {
    "not TOML": ("[build-system", "does not parse"),
    "not a table": ("build-system = 3", "build-system is not a table"),
    "not a requirement": ('[build-system]\nrequires = ["=bad="]', "holds what is no requirement"),
    "no list": ('[build-system]\nrequires = "setuptools"', "is not a list"),
}


@pytest.mark.parametrize("case", BAD_PROJECTS)
def test_a_project_that_no_frontend_takes(fails: Fails, tmp_path: Path, case: str) -> None:
    text, says = BAD_PROJECTS[case]
    tmp_path.joinpath("pyproject.toml").write_text(text + "\n", encoding="utf-8")
    fails(str(tmp_path), *SM120, code=4, kind="source", says=says)


UNREACHABLE = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_RETRIES": "0",
    "UV_HTTP_RETRIES": "0",
    **dict.fromkeys(("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"), ""),
}
"""pip's configuration with one index, at a port where nothing listens."""


def test_an_unreachable_index(fails_early: Fails, tmp_path: Path) -> None:
    env = {**UNREACHABLE, "CUDABUILD_CACHE": str(tmp_path / "cache")}
    says = r"127\.0\.0\.1:9"
    for words in (("pypi:thing",), (str(fastcuda(tmp_path / "fastcuda")), *TORCH)):
        found = fails_early(*words, *SM120, code=4, kind="index-unreachable", says=says, env=env)
        assert "pip config list" in found["hint"]
    assert list((tmp_path / "cache" / "torch").glob("cp*")) == [], "no half of an environment is left"


def test_offline_with_nothing_in_the_cache(fails_early: Fails, tmp_path: Path) -> None:
    env = {"CUDABUILD_CACHE": str(tmp_path / "cache")}
    for words in (("pypi:thing",), (str(fastcuda(tmp_path / "fastcuda")), *TORCH)):
        found = fails_early(*words, *SM120, "--offline", code=4, kind="not-cached", says="offline", env=env)
        assert "cudabuild fetch" in found["hint"]


def test_a_name_that_the_index_does_not_know(fails_early: Fails, tmp_path: Path) -> None:
    links = str(tmp_path)
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    words = ("pypi:thing", "--find-links", links, *SM120)
    fails_early(*words, code=4, kind="not-on-index", says="no source distribution of thing", env=env)


# This machine


def test_a_target_that_cannot_be_built_here(fails: Fails, fails_early: Fails, tmp_path: Path) -> None:
    project = str(fastcuda(tmp_path / "fastcuda"))
    found = fails_early(project, "--target", "7.0", *TORCH, code=5, kind="unsupported-target", says=r"7\.0.*12\.9")
    assert "possible here: 7.5" in found["hint"]
    found = fails(project, "--target", "12.0f", code=5, kind="unsupported-target", says="setuptools path")
    assert found["hint"] == "type --target '12.0'"


def test_no_target_and_no_gpu(fails_early: Fails) -> None:
    for words in ((), ("--target", "native")):
        found = fails_early("diso", *TORCH, *words, code=5, kind="no-target", says="no GPU|there is none")
        assert "--target" in found["hint"]


def test_no_cpp_compiler(fails_early: Fails, tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path)}
    found = fails_early("diso", *SM120, *TORCH, code=5, kind="no-compiler", says="none of g\\+\\+", env=env)
    assert "apt-get install g++" in found["hint"]
    fails_early("diso", *SM120, code=5, kind="no-compiler", says="CXX=/no/g", env={"CXX": "/no/g++"})


def test_torches_that_cannot_be_had(fails_early: Fails, tmp_path: Path) -> None:
    project = str(fastcuda(tmp_path / "fastcuda"))
    found = fails_early(
        project, *SM120, "--torch", "1.4.0", code=5, kind="no-torch", says=r"no torch 1\.4\.0 for Python"
    )
    assert "--torch VERSION" in found["hint"]
    says = r"2\.13\.0\+cu139 was asked for, and the index gives 2\.13\.0"
    fails_early(project, *SM120, "--torch", "2.13.0+cu139", code=5, kind="torch-mismatch", says=says)
    fails_early(
        project, *SM120, "--torch", "active", code=5, kind="no-torch", says="no torch in the active environment"
    )


def test_a_torch_without_a_toolkit_is_refused_before_it_is_fetched(fails_early: Fails, tmp_path: Path) -> None:
    words = (str(fastcuda(tmp_path / "fastcuda")), "--target", "8.6", "--torch", "1.13.1+cu117")
    found = fails_early(*words, code=5, kind="no-toolkit", says=r"CUDA 11\.7", env=UNREACHABLE)
    assert "cudabuild toolkit install 11.8" in found["hint"]
    assert "--torch" in found["hint"]


def test_a_folder_that_is_no_toolkit(fails: Fails, tmp_path: Path) -> None:
    words = (str(fastcuda(tmp_path / "fastcuda")), *SM120, "--cuda-home", str(tmp_path))
    fails(*words, code=5, kind="no-toolkit", says="bin/nvcc")


def test_too_little_memory(fails: Fails, tmp_path: Path) -> None:
    words = (str(fastcuda(tmp_path / "fastcuda")), *SM120, "--memory", "100MiB")
    found = fails(*words, code=5, kind="too-little-memory", says="100 MiB is below the 2.5 GiB")
    assert "--memory 2560MiB" in found["hint"]


# The build and its wheel


def test_a_compile_error_shows_its_first_line(fails: Fails, tmp_path: Path) -> None:
    project = fastcuda(tmp_path / "fastcuda", add=("values[index] += 1.0f", "values[index] += nonsense"))
    says = r"add\.cu\(\d+\): error: identifier \"nonsense\""
    found = fails(str(project), *SM120, "--no-canary", code=6, kind="build-failed", says=says)
    assert Path(found["log"]).is_file()
    assert "nonsense" in Path(found["log"]).read_text(encoding="utf-8")


def test_a_cpu_only_wheel_shows_why(fails: Fails, tmp_path: Path) -> None:
    project = fastcuda(tmp_path / "fastcuda", setup=('os.environ.get("FORCE_CUDA") == "1"', "False"))
    says = "fastcuda: not compiling with CUDA"
    found = fails(str(project), *SM120, "--no-canary", code=9, kind="cpu-only-wheel", says=says)
    assert "CPU-only" in found["message"]


ANSWERS = {
    "a path outside": (ANSWER.format('"../../other-1.0-py3-none-any.whl"'), "not the bare name of a wheel"),
    "nothing": (ANSWER.format("None"), "did not answer with the name of a wheel"),
    "a number": (ANSWER.format("7"), "did not answer with the name of a wheel"),
    "what is not there": (ANSWER.format('"other-1.0-py3-none-any.whl"'), "not a regular file"),
    "another name": (OTHER_WHEEL, "a wheel of other, not of wanted"),
    "no requirements": ("def get_requires_for_build_wheel(settings=None):\n    return None\n", "no usable answer"),
    "bad requirements": (
        "def get_requires_for_build_wheel(settings=None):\n    return ['=x=']\n",
        "did not answer with a list of requirements",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_backend_is_not_believed(fails: Fails, tmp_path: Path, case: str) -> None:
    backend, says = ANSWERS[case]
    project = a_package(tmp_path / "wanted", backend, '[project]\nname = "wanted"\nversion = "1.0"\n')
    found = fails(str(project), *CPU, code=6, kind="bad-backend-answer", says=says)
    assert "_PYPROJECT_HOOKS" not in found["evidence"]


def test_a_backend_that_raises(fails: Fails, tmp_path: Path) -> None:
    backend = "def build_wheel(folder, settings=None, metadata=None):\n    raise RuntimeError('this went wrong')\n"
    project = a_package(tmp_path / "wanted", backend)
    fails(str(project), *CPU, code=6, kind="build-failed", says="RuntimeError: this went wrong")


def test_foreign_text_is_shown_and_not_obeyed(cudabuild: Cudabuild, person: dict[str, str], tmp_path: Path) -> None:
    loud = r"print('\x1b[2J\x1b[31m[bold red]loud[/bold red] [link=x]\u202e\x07', flush=True)"
    error = r"print('x.cu(3): error: \x1b[1mexpected[/] a \x1b]0;title\x07', flush=True)"
    backend = (
        f"def build_wheel(folder, settings=None, metadata=None):\n    {loud}\n    {error}\n    raise SystemExit(3)\n"
    )
    project = a_package(tmp_path / "wanted", backend)
    ran = cudabuild(str(project), *CPU, "--verbose", env=person)
    assert ran.code == 6
    assert r"\x1b[2J\x1b[31m[bold red]loud[/bold red] [link=x]\u202e\x07" in ran.err
    assert "  | x.cu(3): error: expected[/] a" in ran.err, "colours and titles are left out where the cause is told"
    assert not set(ran.err) & {"\x1b", "\x07", "\u202e", "\r"}


def test_the_timeouts(fails: Fails, tmp_path: Path) -> None:
    backend = "import time\n\n\ndef build_wheel(folder, settings=None, metadata=None):\n    time.sleep(300)\n"
    project = str(a_package(tmp_path / "sleepy", backend))
    found = fails(project, *CPU, "--timeout", "2s", code=8, kind="timeout", says="ended after 2 s")
    assert "--timeout" in found["hint"]
    fails(project, *CPU, "--stall-timeout", "2s", code=8, kind="stalled", says="printed nothing")


# The disk


def mounting() -> list[str]:
    """The words before ``sh -c`` that let it mount; none where this user may not."""
    for words in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        trial = [*words, "sh", "-c", "mount -t tmpfs none /mnt"]
        if shutil.which("unshare") and subprocess.run(trial, capture_output=True, check=False).returncode == 0:
            return words
    return []


def small_disk(folder: Path) -> list[str]:
    """Words that run a command with 1 MiB of room in ``folder``, or with 512 KiB for each file."""
    folder.mkdir()
    if words := mounting():
        script = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
        return [*words, "sh", "-c", script, str(folder)]
    return small_files()


def small_files() -> list[str]:
    return ["bash", "-c", 'ulimit -f 512 && exec "$@"', "bash"]


def test_no_space_left(fails: Fails, tmp_path: Path) -> None:
    project = fastcuda(tmp_path / "fastcuda")
    project.joinpath("data.bin").write_bytes(os.urandom(2 << 20))
    for number, prefix in enumerate((small_disk(tmp_path / "disk"), small_files())):
        env = {"CUDABUILD_CACHE": str(tmp_path / "disk" / f"cache{number}")}
        found = fails(str(project), *SM120, code=10, kind="disk-full", says="no space left", env=env, prefix=prefix)
        assert "CUDABUILD_CACHE" in found["hint"]


@dataclass(frozen=True)
class Strange:
    """A cache of its own under a path with blanks and other letters, with one wheel built into it."""

    cache: Path
    project: Path
    words: tuple[str, ...]
    built: dict[str, Any]


@pytest.fixture(scope="module")
def strange(
    cudabuild: Cudabuild,
    person: dict[str, str],
    cache: Path,
    toolkit_view: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Strange]:
    folder = tmp_path_factory.mktemp("strange") / "ein Ordner mit Ümlaut"
    folder.joinpath("cache").mkdir(parents=True)
    folder.joinpath("cache", "uv").symlink_to(cache / "uv")  # downloads are shared, nothing else
    project = fastcuda(folder / "mein Päckchen")
    words = (*SM120, "--cuda-home", str(toolkit_view), "--no-canary", "--json")
    env = {**person, "CUDABUILD_CACHE": str(folder / "cache")}
    ran = cudabuild(f"./{project.name}", *words, env=env, cwd=folder)
    assert ran.code == 0, (ran.out, ran.err)
    yield Strange(folder / "cache", project, words[:-1], ran.json)
    shutil.rmtree(Places(folder / "cache").work)


def test_blanks_and_other_letters_in_paths_work(strange: Strange) -> None:
    assert strange.built["cache"] == "miss"
    assert strange.built["verdict"]["grade"] == "imported"
    wheel = Path(strange.built["wheel"]["path"])
    assert wheel.is_relative_to(strange.cache)
    assert wheel.is_file()


def read_only(folder: Path) -> list[str]:
    """Words that run a command for which ``folder`` is read-only."""
    if words := mounting():
        script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
        return [*words, "sh", "-c", script, str(folder)]
    subprocess.run(["chmod", "--recursive", "a-w", str(folder)], check=True)
    return ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []


def test_a_read_only_cache_serves_and_says_so(
    cudabuild: Cudabuild, fails: Fails, person: dict[str, str], strange: Strange, tmp_path: Path
) -> None:
    prefix = read_only(strange.cache)
    env = {"CUDABUILD_CACHE": str(strange.cache)}
    try:
        for number, out in enumerate((("--out", str(tmp_path / "out")), ())):
            ran = cudabuild(str(strange.project), *strange.words, *out, "--json", env={**person, **env}, prefix=prefix)
            assert ran.code == 0, (number, ran.out, ran.err)
            assert ran.json["cache"] == "hit"
            assert Path(ran.json["wheel"]["path"]).is_file()
        words = (str(strange.project), *strange.words[2:], "--target", "8.9")
        found = fails(*words, code=10, kind="read-only-cache", says=str(strange.cache), env=env, prefix=prefix)
        assert "CUDABUILD_CACHE" in found["hint"]
        strange.project.joinpath("changed").write_text("x", encoding="utf-8")
        fails(str(strange.project), *strange.words, code=10, kind="read-only-cache", says="", env=env, prefix=prefix)
    finally:
        subprocess.run(["chmod", "--recursive", "u+w", str(strange.cache)], check=True)


# What is asked of the store


def test_what_is_not_recorded(cudabuild: Cudabuild) -> None:
    for words in (("log", "nowhere"), ("cache", "show", "nowhere"), ("cache", "path", "nowhere")):
        ran = cudabuild(*words)
        assert (ran.code, ran.out) == (10, "")
        assert "nowhere" in ran.err
        assert "\nnext: " in ran.err
