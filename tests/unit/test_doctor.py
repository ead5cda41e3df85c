"""``cudabuild doctor`` on machines that are not here: what it sees, what it says, and how it ends.

The machines are made by tests/helpers/simulated_hosts.py; the detection itself is what runs on real ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest
from jsonschema import Draft202012Validator
from simulated import GIB, SimulatedHost, compiled_nvml
from simulated_hosts import HOSTS, SCREENS, looked_at, plain, screen

from buildkit.build.doctor import look
from buildkit.build.doctor.subject import MEMORY_PER_UNIT
from buildkit.build.toolkit_place import place_of
from buildkit.cli.doctor_bundle import write_bundle
from buildkit.cli.doctor_command import _styled, exit_code
from buildkit.cli.doctor_page import doctor_lines
from buildkit.cli.doctor_schema import DoctorObject, doctor_answers, doctor_schema_text
from buildkit.cli.main import main
from buildkit.errors import BadTarget, UnknownRecipe, UsageError
from buildkit.machine.manifest import write_manifest
from buildkit.machine.windows import POWERSHELL
from buildkit.recipe.model import BuildSection
from buildkit.source.index_settings import IndexSettings
from buildkit.source.reach import Reach
from buildkit.store.model import Entry
from buildkit.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TORCH = "home/ann/venv/lib/python3.12/site-packages/torch/version.py"
"""Of the machine on which everything fits."""


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that plays a driver's."""
    return compiled_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="module", autouse=True)
def _however_busy_this_machine_is() -> Iterator[None]:
    """The machines' programs are waited for; tests that are about waiting set this themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(look, "LONGEST", 300.0)
        yield


@pytest.fixture(scope="module")
def seen(nvml: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, DoctorObject]:
    """What doctor says of each machine; each is looked at once."""
    folder = tmp_path_factory.mktemp("hosts")
    return {name: looked_at(make(folder / name, nvml)) for name, make in HOSTS.items()}


@pytest.fixture
def host(tmp_path: Path, nvml: Path) -> SimulatedHost:
    """A machine on which everything fits."""
    return plain(tmp_path / "root", nvml)


# the screens


@pytest.mark.parametrize("name", HOSTS)
def test_the_screen_is_the_one_that_is_kept(name: str, seen: dict[str, DoctorObject]) -> None:
    assert screen(seen[name]) == (SCREENS / f"{name}.txt").read_text("utf-8"), "python tests/helpers/simulated_hosts.py"


@pytest.mark.parametrize("name", HOSTS)
def test_the_docs_show_that_screen(name: str) -> None:
    assert (SCREENS / f"{name}.txt").read_text("utf-8") in (DOCS / "reference" / "doctor.md").read_text("utf-8")


def test_the_guide_shows_a_part_of_one() -> None:
    guide = (DOCS / "how-to" / "is-this-machine-able.md").read_text("utf-8")
    (part,) = [block for block in re.findall(r"```\n(.*?)```", guide, re.DOTALL) if block.startswith("verdict")]
    assert part in (SCREENS / "wsl2.txt").read_text("utf-8")


@pytest.mark.parametrize("name", HOSTS)
def test_the_screen_is_one_screen(name: str, seen: dict[str, DoctorObject]) -> None:
    typed = {line for note in seen[name].notes for line in note.lines}
    typed |= {line for one in seen[name].advice for change in one.changes for way in change.ways for line in way.lines}
    lines = screen(seen[name]).splitlines()
    assert len(lines) <= 45
    for line in lines:
        assert len(line) <= 100 or any(text in line for text in typed), line


def test_the_json_holds_to_its_schema(seen: dict[str, DoctorObject]) -> None:
    published = Draft202012Validator(json.loads((DOCS / "reference" / "doctor.schema.json").read_text("utf-8")))
    for found in seen.values():
        value = json.loads(json.dumps(found.model_dump(mode="json", by_alias=True), allow_nan=False))
        published.validate(value)
        assert doctor_answers().validate_python(value) == found
        assert {"schema", "ok", "machine", "problems"} <= value.keys()
        assert {"python", "torch", "toolkits", "compiler", "gpus", "limits", "cache"} <= value["machine"].keys()


def test_the_published_schema_is_the_models(seen: dict[str, DoctorObject]) -> None:
    published = (DOCS / "reference" / "doctor.schema.json").read_text("utf-8")
    assert published == doctor_schema_text(), "python -m buildkit.cli.reference"


def test_no_path_of_the_test_is_told(seen: dict[str, DoctorObject]) -> None:
    assert not [name for name, found in seen.items() if "/hosts" in found.model_dump_json()]


def test_what_each_machine_can_do(seen: dict[str, DoctorObject]) -> None:
    assert {name: found.verdict for name, found in seen.items()} == {
        "plain": "works",
        "wsl2": "cannot",
        "rtx-3080-ti": "warning",
        "slurm": "warning",
        "container": "cannot",
        "jetson": "cannot",
    }
    assert {name: found.machine.system.place for name, found in seen.items()} == {
        "plain": "linux",
        "wsl2": "wsl2",
        "rtx-3080-ti": "linux",
        "slurm": "slurm",
        "container": "container",
        "jetson": "jetson",
    }
    assert {name: found.machine.gpus.source for name, found in seen.items()} == {
        "plain": "nvml",
        "wsl2": "nvml",
        "rtx-3080-ti": "nvml",
        "slurm": "nvidia-smi",
        "container": "none",
        "jetson": "jetson",
    }


def test_colours_are_what_they_are_called(seen: dict[str, DoctorObject]) -> None:
    assert _styled("cannot", "bold red") == "\x1b[31m\x1b[1mcannot\x1b[0m"
    for line in doctor_lines(seen["wsl2"]):
        assert click.unstyle("".join(_styled(*piece) for piece in line)) == "".join(text for text, _ in line)


# WSL2


def test_wsl2_gets_a_wslconfig_from_what_windows_has(seen: dict[str, DoctorObject]) -> None:
    windows = seen["wsl2"].machine.windows
    assert windows is not None
    assert windows.wslconfig == ["[wsl2]", "memory=48GB", "swap=16GB"]
    said = " ".join(note.text for note in seen["wsl2"].notes)
    assert "ceiling" in said
    assert "2 entries of PATH below /mnt" in said
    assert ["wsl --shutdown"] in [note.lines for note in seen["wsl2"].notes]


def test_nothing_is_taken_from_windows_drives(tmp_path: Path, nvml: Path) -> None:
    wsl2 = HOSTS["wsl2"](tmp_path / "root", nvml)
    assert looked_at(wsl2).machine.system.wsl2
    (wsl2.root / "usr/bin/g++").unlink()
    wsl2.environ["PATH"] += f":/mnt/c/../..{wsl2.root}/elsewhere"
    wsl2.gcc("13.2.0")
    (wsl2.root / "elsewhere").mkdir()
    (wsl2.root / "usr/bin/g++").rename(wsl2.root / "elsewhere/g++")
    found = looked_at(wsl2)
    assert found.machine.compiler is None
    assert "no-compiler" in [finding.cause for finding in found.findings]


def test_a_silent_windows_is_asked_by_the_person(tmp_path: Path, nvml: Path) -> None:
    wsl2 = HOSTS["wsl2"](tmp_path / "root", nvml)
    wsl2.program(POWERSHELL, "exit 1")
    found = looked_at(wsl2)
    assert found.machine.windows is not None
    assert (found.machine.windows.memory, found.machine.windows.wslconfig) == (None, [])
    (asks,) = [note for note in found.notes if "--windows-memory" in " ".join(note.lines)]
    assert asks.lines[0].startswith("/mnt/c/Windows/")


def test_a_wslconfig_that_is_not_applied_yet_is_told(tmp_path: Path, nvml: Path) -> None:
    wsl2 = HOSTS["wsl2"](tmp_path / "root", nvml)
    wsl2.write("mnt/c/Users/ann/.wslconfig", "[wsl2]\nmemory=40GB\n")
    (first, *_) = looked_at(wsl2).notes
    assert first.text.endswith("Its .wslconfig says 40.0 GiB, which is not applied yet.")
    assert first.lines == []


# GPUs, drivers


def test_the_library_answers_for_each_gpu(host: SimulatedHost) -> None:
    gpus = "gpu 8 6 GPU-000a NVIDIA A10\ngpu 9 0 GPU-000b NVIDIA H100 PCIe\n"
    host.write("nvml", f"driver 580.65.06\n{gpus}")
    found = looked_at(host)
    assert [gpu.capability for gpu in found.machine.gpus.visible] == ["8.6", "9.0"]
    assert (found.targets, found.machine.gpus.runs) == (["8.6", "9.0"], [11, 12, 13])
    host.environ["CUDA_VISIBLE_DEVICES"] = "GPU-000b"
    assert [gpu.name for gpu in looked_at(host).machine.gpus.visible] == ["NVIDIA H100 PCIe"]


def test_a_driver_that_does_not_answer_is_told(host: SimulatedHost) -> None:
    host.write("nvml", "error 18\n")
    found = looked_at(host)
    assert found.machine.gpus.visible == []
    assert any(note.about == "GPU" and "version mismatch" in note.text for note in found.notes)
    assert "no-target" in [finding.cause for finding in found.findings]


def test_a_driver_that_is_too_old_for_torch(tmp_path: Path, nvml: Path) -> None:
    """Windows' number under WSL2, which is changed in Windows."""
    wsl2 = HOSTS["wsl2"](tmp_path / "root", nvml)
    wsl2.write("home/ann/venv/lib/python3.11/site-packages/torch/version.py", "__version__='2.9.1+cu130'\ncuda='13.0'")
    found = looked_at(wsl2)
    assert [finding.cause for finding in found.findings if finding.blocking] == ["driver-old"]
    ways = [way for advice in found.advice for change in advice.changes for way in change.ways]
    assert any("Windows driver 580" in line for way in ways for line in way.lines if way.tool == "by-hand")


# other places


def test_a_jetson_without_a_toolkit_is_sent_to_jetpack(tmp_path: Path, nvml: Path) -> None:
    jetson = HOSTS["jetson"](tmp_path / "root", nvml)
    (jetson.root / "usr/local/cuda-12.6/bin/nvcc").unlink()
    found = looked_at(jetson)
    assert found.verdict == "cannot"
    assert "nvidia-jetpack" in screen(found)
    assert not any("cuda-toolkit-" in line for line in screen(found).splitlines())


def test_a_login_node_is_no_job(tmp_path: Path, nvml: Path) -> None:
    slurm = HOSTS["slurm"](tmp_path / "root", nvml)
    for name in [name for name in slurm.environ if name.startswith("SLURM_")]:
        del slurm.environ[name]
    slurm.program("usr/bin/sbatch", "exit 1")
    found = looked_at(slurm, "diso")
    assert "This is no job" in screen(found)
    assert ["srun --cpus-per-task=8 --mem=21G --gres=gpu:1 cudabuild build diso"] in [
        note.lines for note in found.notes
    ]
    assert ["cudabuild fetch diso", "cudabuild build diso --offline"] in [note.lines for note in found.notes]


def test_a_cpu_only_torch_is_answered_with_another(host: SimulatedHost) -> None:
    host.write(TORCH, "__version__ = '2.8.0+cpu'\ncuda = None\n")
    found = looked_at(host)
    assert found.findings[0].cause == "torch-cpu"
    assert "uv pip install 'torch==2.8.0+cu128' --torch-backend cu128" in screen(found)


# limits of time


def test_who_does_not_answer_is_not_waited_for(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "LONGEST", 0.0)
    monkeypatch.setattr(look, "_GRACE", 0.0)
    answered = threading.Event()

    def reach(*_: object) -> Reach:
        answered.wait()
        return Reach("answers")

    found = look.Looking(host.context(), None, root=host.root, outside=replace(host.outside(), reach=reach)).seen()
    assert (found.index.reach, answered.is_set()) == (Reach("silent", "no answer within 0 s", slow=True), False)
    answered.set()


def test_who_was_not_waited_for_may_only_be_slow(host: SimulatedHost) -> None:
    host.reach = Reach("silent", "https://index.example/simple: no answer within 0.5 s", slow=True)
    (slow,) = looked_at(host).findings
    assert "It may only be slow" in slow.text
    assert re.search(r"(?m)^index +did not answer in time: ", screen(looked_at(host)))
    host.reach = Reach("silent", "https://index.example/simple: Connection refused")
    (refused,) = looked_at(host).findings
    assert (refused.cause, "slow" in refused.text) == ("index-unreachable", False)


def test_what_is_looked_for_before_the_index_is_asked_counts_for_nothing(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder on a slow disk, the import that knows the default index: reach alone keeps the index's half second."""
    monkeypatch.setattr(look, "PATIENCE", 0.0)
    monkeypatch.setattr(look, "_GRACE", 0.0)
    wanted = threading.Event()

    def described(_settings: IndexSettings) -> str:
        wanted.set()
        return "an index"

    def reach(*_: object) -> Reach:
        wanted.wait()
        return Reach("answers")

    monkeypatch.setattr(IndexSettings, "described", described)
    found = look.Looking(host.context(), None, root=host.root, outside=replace(host.outside(), reach=reach)).seen()
    assert found.index.reach == Reach("answers")


def test_a_driver_that_hangs_is_a_finding(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "LONGEST", 0.0)
    monkeypatch.setattr(look, "_GRACE", 30.0)
    host.write("nvml", "error 18\n")
    os.mkfifo(host.root / "never")
    host.program("usr/bin/nvidia-smi", f"read line <'{host.root}/never'")
    found = looked_at(host)
    (silent,) = [one for one in found.findings if one.cause == "driver-silent"]
    assert (silent.text, silent.blocking) == ("/usr/bin/nvidia-smi did not answer within 0 s.", False)
    assert silent.hint.startswith("nvidia-smi ")
    assert silent.text not in [note.text for note in found.notes]
    assert re.search(r"(?m)^driver +does not answer$", screen(found))


def test_no_program_of_the_machine_is_waited_for_without_end(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "LONGEST", 0.0)
    monkeypatch.setattr(look, "_GRACE", 0.0)
    go_on = threading.Event()
    for part in ("visible_gpus", "look_at_toolkits", "look_at_compiler", "_python"):
        monkeypatch.setattr(look, part, lambda *_args, **_more: go_on.wait())
    found = looked_at(host)
    go_on.set()
    told = {one.text: (one.cause, one.blocking) for one in found.findings if "did not answer within" in one.text}
    assert told == {
        "NVIDIA's driver did not answer within 0 s.": ("driver-silent", False),
        "The Python here did not answer within 0 s.": ("machine", True),
        "An nvcc here did not answer within 0 s.": ("machine", False),
        "The C++ compiler here did not answer within 0 s.": ("machine", True),
    }


# a package


def test_a_named_package_that_cannot_be_built_is_an_exit_code(tmp_path: Path, nvml: Path) -> None:
    container = HOSTS["container"](tmp_path / "root", nvml)
    assert exit_code(looked_at(container)) == 0
    named = looked_at(container, "diso")
    assert exit_code(named) == 5
    lines = [line for advice in named.advice for change in advice.changes for way in change.ways for line in way.lines]
    assert any(line.startswith("cudabuild build diso --target ") for line in lines)
    assert not any("RECIPE" in line for line in lines)
    for_these = looked_at(container, "diso", targets=("8.6;8.9",))
    assert (exit_code(for_these), for_these.verdict, for_these.targets) == (0, "works", ["8.6", "8.9"])
    assert "cudabuild build diso --target '8.6;8.9'" in screen(for_these)


def test_a_package_that_is_none_and_targets_that_are_none(host: SimulatedHost) -> None:
    with pytest.raises(UnknownRecipe):
        looked_at(host, "no-such-recipe")
    with pytest.raises(BadTarget):
        looked_at(host, targets=("rtx9999",))


def project(host: SimulatedHost, **files: str) -> str:
    """A folder of the person's with these files; the path to it."""
    folder = host.root / "home/ann/mine"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text, encoding="utf-8")
    return "./mine"


SETUP = "from torch.utils.cpp_extension import CUDAExtension\nflags = ['-std=c++14']\n"


def test_a_folder_is_read_for_its_standard(host: SimulatedHost) -> None:
    found = looked_at(host, project(host, setup_py=SETUP))
    assert (found.recipe, found.verdict, exit_code(found)) == ("./mine", "cannot", 5)
    assert "C++14" in next(finding.text for finding in found.findings if finding.cause == "cxx-standard")


def test_a_folder_is_read_for_who_builds_it(host: SimulatedHost) -> None:
    """What torch's setuptools path refuses, a CMake project takes."""
    host.toolkit("12.9.86", folder="usr/local/cuda")
    setuptools = looked_at(host, project(host, setup_py="import setuptools"), targets=("12.0f",))
    assert setuptools.verdict == "cannot"
    toml = '[build-system]\nrequires = ["scikit-build-core"]\nbuild-backend = "scikit_build_core.build"\n'
    (host.root / "home/ann/mine/pyproject.toml").write_text(toml, encoding="utf-8")
    cmake = looked_at(host, "./mine", targets=("12.0f",))
    assert "target-unknown" not in [finding.cause for finding in cmake.findings]


RECIPE = """
edition = 1
name = "thing"
summary = "a thing"
license = { spdx = "MIT", redistributable = true }
[[version]]
version = "1.0"
folder = "src"
[[patch]]
rewrite = { files = ["setup.py"], find = '-std=c\\+\\+1[47]', replace = "-std=c++20" }
reason = "it is too old"
[build]
memory-per-unit = "{memory}"
torch = {torch}
[system]
headers = ["thing/needed.h"]
apt = ["libthing-dev"]
"""


def recipe(host: SimulatedHost, *, memory: str = "2 GiB", torch: str = "true") -> None:
    """A recipe whose source sets an old standard, and whose patch mends that."""
    text = RECIPE.replace("{memory}", memory).replace("{torch}", torch)
    host.write("home/ann/recipes/thing/recipe.toml", text)
    host.write("home/ann/recipes/thing/src/setup.py", SETUP)
    host.environ["CUDABUILD_RECIPES"] = str(host.root / "home/ann/recipes")


def test_patches_count_and_missing_headers_are_named(host: SimulatedHost) -> None:
    recipe(host)
    found = looked_at(host, "thing")
    assert [(finding.cause, finding.hint) for finding in found.findings] == [
        ("missing-headers", "apt-get install libthing-dev")
    ]
    host.write("usr/include/thing/needed.h")
    assert looked_at(host, "thing").verdict == "works"


def test_memory_for_not_even_one_compilation(host: SimulatedHost) -> None:
    recipe(host, memory="60 GiB")
    host.write("usr/include/thing/needed.h")
    found = looked_at(host, "thing")
    assert (found.fit.jobs, exit_code(found)) == (0, 5)
    assert [finding.cause for finding in found.findings] == ["too-little-memory"]


def test_a_package_without_torch_needs_none(host: SimulatedHost) -> None:
    recipe(host, torch="false")
    host.write("usr/include/thing/needed.h")
    (host.root / TORCH).unlink()
    found = looked_at(host, "thing")
    assert (found.verdict, found.machine.torch) == ("works", None)


# parts that are missing


def test_without_torch_the_newest_that_fits_is_judged(host: SimulatedHost) -> None:
    (host.root / TORCH).unlink()
    torch = looked_at(host).machine.torch
    assert torch is not None
    assert (torch.at, (torch.cuda or "").partition(".")[0]) == (None, "12"), "driver 570 runs nothing of CUDA 13"


def test_a_torch_of_cuda_13_gets_its_toolkit_from_wheels(host: SimulatedHost) -> None:
    host.write("nvml", "driver 580.65.06\ngpu 8 9 GPU-0001 NVIDIA GeForce RTX 4090\n")
    host.write(TORCH, "__version__ = '2.13.0+cu130'\ncuda = '13.0'\ngit_version = 'abc'\n")
    assert looked_at(host).verdict == "works"


def test_of_a_cuda_that_nobody_offers_as_wheels_no_toolkit_is_promised(host: SimulatedHost) -> None:
    """What can be had as wheels is for doctor what it is for builds."""
    host.write("nvml", "driver 999.65.06\ngpu 8 9 GPU-0001 NVIDIA GeForce RTX 4090\n")
    host.write(TORCH, "__version__ = '2.99.0+cu140'\ncuda = '14.0'\ngit_version = 'abc'\n")
    assert "toolkit-major" in {one.cause for one in looked_at(host).findings if one.blocking}


def test_a_partial_toolkit_of_cuda_12_is_told(host: SimulatedHost) -> None:
    (host.root / "usr/local/cuda-12.8/include/cusparse.h").unlink()
    found = looked_at(host)
    assert found.machine.toolkits[0].missing == ["cusparse.h"]
    assert [(one.step, one.cause) for one in found.findings if one.blocking] == [("compile", "toolkit-incomplete")]


def test_another_minor_version_is_a_note_where_it_can_be_built_and_else_nothing(host: SimulatedHost) -> None:
    host.write(TORCH, "__version__ = '2.7.0+cu126'\ncuda = '12.6'\n")
    found = looked_at(host)
    assert (found.verdict, found.findings) == ("works", [])
    (note,) = found.notes
    assert note.about == "toolkit"
    assert "differ in the minor version only" in note.text
    (host.root / "usr/bin/g++").unlink()
    assert "minor version" not in screen(looked_at(host))


def test_a_toolkit_that_does_not_run_is_none(host: SimulatedHost) -> None:
    host.program("usr/local/cuda-12.8/bin/nvcc", "echo 'cannot execute' >&2; exit 127")
    found = looked_at(host)
    assert found.machine.toolkits == []
    assert [(one.cause, one.blocking) for one in found.findings] == [("no-toolkit", True), ("toolkit-broken", False)]


def test_a_damaged_toolkit_of_ours_is_not_called_complete(host: SimulatedHost) -> None:
    """One whose nvcc runs is told as damaged, and one whose nvcc does not is not passed over in silence."""
    (host.root / "disk").mkdir()
    (host.root / "home/ann/.cache").symlink_to(host.root / "disk")
    for release in ("12.6", "12.8"):
        place = place_of(release, host.context().places.toolkits)
        host.toolkit(f"{release}.68", folder=str(place.final.relative_to(host.root)))
        write_manifest(place.final, place.manifest)
    assert (looked_at(host).verdict, looked_at(host).machine.toolkits[-1].damaged) == ("works", False)
    (host.context().places.toolkits / "cuda-12.8/lib64/libcudart.so").write_text("another")
    (host.context().places.toolkits / "cuda-12.6/bin/nvcc").unlink()
    found = looked_at(host)
    assert [(one.release, one.damaged) for one in found.machine.toolkits] == [("12.8", False), ("12.8", True)]
    assert re.search(r"(?m)^ +CUDA 12\.8\.68 at .*: damaged$", screen(found))
    told = [(one.cause, one.text.rpartition(": ")[2], one.hint.partition("   #")[0]) for one in found.findings]
    assert told == [
        ("toolkit-broken", "lib64/libcudart.so", "cudabuild toolkit install 12.8"),
        ("toolkit-broken", "bin/nvcc", "cudabuild toolkit install 12.6"),
    ]
    assert found.verdict == "warning"


def test_a_toolkit_that_is_here_is_named_by_its_place(host: SimulatedHost) -> None:
    """Modules and administrators put toolkits elsewhere than /usr/local."""
    host.toolkit("12.6.68", folder="apps/cuda/12.6")
    host.toolkit("12.8.93", folder="apps/cuda/12.8")
    host.environ |= {"CUDA_HOME": f"{host.root}/apps/cuda/12.6", "CUDA_PATH": f"{host.root}/apps/cuda/12.8"}
    host.gcc("14.2.0")  # which 12.6 refuses
    found = looked_at(host)
    assert [one.at for one in found.machine.toolkits][:2] == ["/apps/cuda/12.6", "/apps/cuda/12.8"]
    (first, *_), *_ = [change.ways for change in found.advice[0].changes]
    assert first.lines == ["cudabuild build RECIPE --cuda-home /apps/cuda/12.8"]


def test_without_a_toolkit_both_ways_to_one_are_told(host: SimulatedHost) -> None:
    (host.root / "usr/local/cuda-12.8/bin/nvcc").unlink()
    found = looked_at(host)
    assert [one.cause for one in found.findings] == ["no-toolkit"]
    lines = [line for change in found.advice[0].changes for way in change.ways for line in way.lines]
    assert lines[:2] == ["cudabuild toolkit install 12.8", "sudo apt-get install cuda-toolkit-12-8"]
    assert "`cudabuild toolkit install`" in screen(found)


def test_no_headers_no_compiler_no_space(host: SimulatedHost) -> None:
    (host.root / "usr/include/python3.12/Python.h").unlink()
    (host.root / "usr/bin/g++").unlink()
    host.free = 3 * GIB
    found = looked_at(host)
    assert found.verdict == "cannot"
    assert {(one.cause, one.blocking) for one in found.findings} == {
        ("missing-headers", True),
        ("no-compiler", True),
        ("disk-full", False),
    }
    assert any("python3-dev" in problem for problem in found.problems)
    assert any("apt-get install g++" in problem for problem in found.problems)


def test_a_damaged_torch_is_not_a_missing_python(host: SimulatedHost) -> None:
    host.write(TORCH, "__version__ = 3\n")
    found = looked_at(host)
    assert found.machine.python is not None
    assert [(one.step, one.cause) for one in found.findings if one.blocking] == [("install", "no-torch")]
    assert [change.kind for change in found.advice[0].changes] == ["torch"]


def test_an_exported_list_that_misses_the_gpu_is_a_finding(host: SimulatedHost) -> None:
    host.environ["TORCH_CUDA_ARCH_LIST"] = "8.0;9.0"
    assert (looked_at(host).verdict, looked_at(host).targets) == ("works", ["8.0", "9.0"])
    host.environ["TORCH_CUDA_ARCH_LIST"] = "9.0"
    found = looked_at(host)
    assert [one.cause for one in found.findings if one.blocking] == ["targets-disagree"]


def test_a_list_that_cannot_be_read_is_called_by_its_name(tmp_path: Path, nvml: Path) -> None:
    """Where a GPU is, and where none is: then no target is missing, the one there is cannot be read."""
    for name in ("plain", "container"):
        machine = HOSTS[name](tmp_path / name, nvml)
        machine.environ["TORCH_CUDA_ARCH_LIST"] = "banana"
        found = looked_at(machine)
        (finding,) = [one for one in found.findings if one.blocking]
        assert (finding.cause, finding.hint) == ("bad-target", "unset TORCH_CUDA_ARCH_LIST")
        assert finding.text.startswith("TORCH_CUDA_ARCH_LIST=banana: ")


def test_configured_targets_that_cannot_be_read_are_called_so(host: SimulatedHost) -> None:
    host.environ["CUDABUILD_TARGETS"] = "banana"
    (finding,) = looked_at(host).findings
    assert finding.text.startswith("the configured targets (banana): ")


def stored(store: Store, wheel: Path) -> Entry:
    """A wheel, of which only its bytes are of interest."""
    wheel.write_bytes(b"a wheel")
    entry = Entry(
        key="b1-a", family="f1-a", recipe="thing", version="1.0", build="20261121-3f2a", created="2026-11-21T06:00:00Z",
        filename=wheel.name, sha256=hashlib.sha256(b"a wheel").hexdigest(), size=7, inputs={}, verdict={}, plan={},
        seconds=1.0,
    )  # fmt: skip
    return store.put(wheel, entry)


def test_a_stored_wheel_that_is_gone_is_told(host: SimulatedHost, tmp_path: Path) -> None:
    entry = stored(host.context().store, tmp_path / "thing-1.0-py3-none-any.whl")
    assert (looked_at(host).machine.cache.wheels, looked_at(host).machine.cache.damaged) == (1, [])
    host.context().store.wheel(entry).unlink()
    found = looked_at(host)
    assert found.machine.cache.damaged == [entry.filename]
    (finding,) = found.findings
    assert (finding.text, finding.hint) == (f"Not as it was stored: {entry.filename}.", "cudabuild cache verify")
    assert not finding.blocking


def test_a_cache_that_is_a_file_is_in_the_way(host: SimulatedHost) -> None:
    host.write("home/ann/.cache/cudabuild", "a file where a folder should be")
    found = looked_at(host)
    assert (found.verdict, found.machine.cache.writable, found.machine.cache.damaged) == ("cannot", False, [])
    assert [(one.cause, one.text) for one in found.findings] == [
        ("read-only-cache", "The cache /home/ann/.cache/cudabuild cannot be a folder: a file is in its place.")
    ]


def test_a_store_that_cannot_be_read_is_no_damaged_wheel(host: SimulatedHost) -> None:
    host.write("home/ann/.cache/cudabuild/store/entries", "a file where a folder should be")
    found = looked_at(host)
    assert found.machine.cache.damaged == []
    ((cause, text, hint),) = [(one.cause, one.text, one.hint) for one in found.findings if one.blocking]
    assert (cause, text) == ("store", "/home/ann/.cache/cudabuild/store cannot be a folder")
    assert "CUDABUILD_CACHE" in hint


def test_a_recipes_default_memory_is_what_is_taken_without_a_recipe() -> None:
    assert BuildSection.model_fields["memory_per_unit"].default == MEMORY_PER_UNIT


# the bundle


def secret_host(host: SimulatedHost) -> dict[str, str]:
    """A person with secrets, all of which stand in what the bundle is made from."""
    host.environ |= {
        "USER": "annabel",
        "HOSTNAME": "buildbox.lab.example",
        "PIP_INDEX_URL": "https://annabel:s3cr3t-word@index.example/simple",
        "CUDABUILD_TOKEN": "tok-0123456789abcdef",
        "UV_PUBLISH_PASSWORD": "pw1",
        "SLURM_JOB_ACCOUNT": "smithlab",
        "HTTPS_PROXY": "http://proxy.lab.example:3128",
        "SLURM_SUBMIT_HOST": "login7",
    }
    log = host.write(
        "home/ann/.cache/cudabuild/logs/x.log",
        f"in {host.environ['HOME']}/src as annabel on buildbox, login7\n"
        "fetch https://git.lab.example/x.git and git@git.lab.example:x/y.git with tok-0123456789abcdef\n"
        "token: abcdefgh12345 ghp_0123456789abcdefghij mail a.b@lab.example at 10.1.2.3\n"
        "nvcc 13.0.88 gcc 12.2.0 compute_86 error: cusparse.h: No such file or directory\n",
    )
    record = {
        "schema": 1,
        "id": "20261121-3f2a",
        "recipe": "diso",
        "started": "2026-11-21T06:00:00Z",
        "status": "failed",
        "log": str(log),
        "process": {"pid": 1, "start": 1, "boot": "x", "host": "buildbox.lab.example"},
    }
    host.write("home/ann/.cache/cudabuild/store/builds/20261121-3f2a.json", json.dumps(record))
    return host.environ


def test_a_bundle_names_nobody(host: SimulatedHost, tmp_path: Path) -> None:
    environ = secret_host(host)
    settings = IndexSettings(index_url=environ["PIP_INDEX_URL"], proxy=environ["HTTPS_PROXY"])
    write_bundle(tmp_path / "bug.zip", looked_at(host), host.context(settings))
    with zipfile.ZipFile(tmp_path / "bug.zip") as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert {"doctor.json", "doctor.txt", "environment.txt", "version.txt", "build.json", "build.log"} == texts.keys()
    whole = "\n".join(texts.values())
    for secret in ("annabel", "buildbox", "lab.example", "s3cr3t", "tok-0123", "abcdefgh12345", "ghp_", "login7",
                   "10.1.2.3", "a.b@", "home/ann", "index.example", "pw1", "smithlab"):  # fmt: skip
        assert secret not in whole, secret
    assert "nvcc 13.0.88 gcc 12.2.0 compute_86 error: cusparse.h: No such file or directory" in texts["build.log"]
    assert "in ~/src as USER on HOST, HOST" in texts["build.log"]
    assert "CUDABUILD_TOKEN=***" in texts["environment.txt"]
    json.loads(texts["doctor.json"])


@pytest.mark.usefixtures("empty_machine")
def test_a_bundle_is_a_new_zip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.zip").touch()
    for name, hint in (("bug.tar", "--bundle bug.zip"), ("there.zip", "choose another name")):
        assert main(["doctor", "--bundle", name]) == UsageError.exit_code
        printed = capsys.readouterr()
        assert (printed.out, hint in printed.err) == ("", True)
    assert (tmp_path / "there.zip").read_bytes() == b""


# the command itself, here


@pytest.mark.usefixtures("empty_machine")
def test_the_command_here(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On whatever machine this runs; pip is told to ask no index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert main(["doctor", "--json", "--target", "8.6"]) == 0
    found = doctor_answers().validate_json(capsys.readouterr().out)
    assert isinstance(found, DoctorObject)
    assert found.ok is (found.verdict != "cannot")
    assert main(["doctor", "--target", "8.6", "--bundle", "bug.zip"]) == 0
    printed = capsys.readouterr()
    assert re.search(r"(?m)^verdict +(works|works with a warning|cannot): ", printed.out)
    assert "written: bug.zip" in printed.err
    assert (tmp_path / "bug.zip").is_file()
    assert main(["doctor", "no-such-recipe"]) == 3
