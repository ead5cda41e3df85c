"""The solver's rules one by one: a machine on which everything fits, and one thing that is changed on it."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from machines import compiler, toolkit
from uv import find_uv_bin

from buildkit.machine import facts
from buildkit.machine.arch import parse_targets
from buildkit.machine.solver import commands
from buildkit.machine.solver.answer import CAUSES, Advice, Answer, Cause, Kind, Step
from buildkit.machine.solver.examine import examine
from buildkit.machine.solver.host import Host, HostTorch, Place, host_torch
from buildkit.machine.solver.solve import solve
from buildkit.machine.target import Capability, torch_arch_list

FITS = Host(
    python="3.12",
    glibc="2.39",
    torch=host_torch("2.8.0+cu128"),
    gpus=((8, 9),),
    driver="570.86.15",
    toolkits=(toolkit("12.8"),),
    compiler=compiler("gcc 13"),
    setuptools="80.9",
)
THIRTEEN = replace(FITS, torch=host_torch("2.13.0+cu130"), toolkits=(toolkit("13.0"),), driver="580.65.06")

OLDER = replace(
    FITS, torch=host_torch("2.1.2+cu121"), toolkits=(toolkit("12.1"),), python="3.11", compiler=compiler("gcc 12")
)


def with_torch(version: str, cuda: str | None = None) -> Host:
    return replace(FITS, torch=host_torch(version, cuda))


def with_targets(text: str, host: Host = FITS) -> Host:
    return replace(host, targets=parse_targets([text]))


def on(gpu: Capability, host: Host = FITS) -> Host:
    return replace(host, gpus=(gpu,))


def found(host: Host) -> list[tuple[Step, Cause, bool]]:
    return [(problem.step, problem.cause, problem.blocking) for problem in examine(host)]


def test_where_everything_fits_there_is_nothing_to_say() -> None:
    assert solve(FITS) == Answer("works", ())
    assert solve(THIRTEEN) == Answer("works", ())
    assert solve(FITS).first is None


ONE_THING: dict[str, tuple[Host, Step, Cause, str]] = {
    "no torch": (replace(FITS, torch=None), "install", "torch-missing", "no torch"),
    "a CPU-only torch": (with_torch("2.8.0+cpu"), "configure", "torch-cpu", "CPU-only"),
    "a ROCm torch": (with_torch("2.8.0+rocm6.4"), "configure", "torch-rocm", "AMD"),
    "an old Python": (replace(FITS, python="3.8"), "install", "torch-python", "3.9 to 3.13"),
    "a new Python": (replace(FITS, python="3.14"), "install", "torch-python", "Python 3.14"),
    "a free-threaded Python": (
        replace(with_torch("2.6.0+cu126"), python="3.13t", toolkits=(toolkit("12.6"),)),
        "install",
        "torch-python",
        "3.13t",
    ),
    "a CUDA that torch is not built for": (with_torch("2.8.0+cu121"), "install", "torch-variant", "12.6, 12.8, 12.9"),
    "a wheel that is not there for this machine": (
        replace(with_torch("2.6.0+cu118"), machine="aarch64", toolkits=(toolkit("11.8"),), gpus=((9, 0),)),
        "install",
        "torch-variant",
        "on aarch64",
    ),
    "an old C library": (replace(FITS, glibc="2.27"), "install", "torch-glibc", "2.28"),
    "setuptools without pkg_resources": (
        replace(OLDER, setuptools="82.0.1"),
        "configure",
        "setuptools-new",
        "no pkg_resources",
    ),
    "setuptools whose pkg_resources has no packaging": (
        replace(OLDER, setuptools="70.0"),
        "configure",
        "setuptools-new",
        "pkg_resources.packaging",
    ),
    "no toolkit": (replace(FITS, toolkits=()), "configure", "no-toolkit", "CUDA_HOME"),
    "a toolkit of another major": (
        replace(FITS, toolkits=(toolkit("13.0"),)),
        "configure",
        "toolkit-major",
        "CUDA 13.0",
    ),
    "a toolkit without headers": (
        replace(FITS, toolkits=(toolkit("12.8 without headers"),)),
        "compile",
        "toolkit-incomplete",
        "cusparse.h",
    ),
    "a toolkit without libraries": (
        replace(FITS, toolkits=(toolkit("12.8 without libraries"),)),
        "link",
        "toolkit-incomplete",
        "libcudart",
    ),
    "no compiler": (replace(FITS, compiler=None), "configure", "no-compiler", "no C++ compiler"),
    "a gcc that is too new, which nvcc finds": (
        replace(FITS, compiler=compiler("gcc 15")),
        "compile",
        "compiler-new",
        "gcc up to 14",
    ),
    "a gcc that is too new, which torch finds": (
        replace(THIRTEEN, compiler=compiler("gcc 16")),
        "configure",
        "compiler-new",
        "up to 15",
    ),
    "a gcc that is too new, which CMake finds": (
        replace(FITS, compiler=compiler("gcc 15"), project="cmake"),
        "configure",
        "compiler-new",
        "up to 14",
    ),
    "a clang that is too new": (
        replace(THIRTEEN, compiler=compiler("clang 21")),
        "compile",
        "compiler-new",
        "clang up to 20",
    ),
    "a gcc that is too old": (
        replace(THIRTEEN, compiler=compiler("gcc 10")),
        "compile",
        "compiler-old",
        "gcc 11 or newer",
    ),
    "a C++ standard that is too old": (replace(FITS, cxx=14), "compile", "cxx-standard", "below C++17"),
    "glibc 2.41 with CUDA 12": (replace(FITS, glibc="2.41"), "compile", "glibc-math", "cospi"),
    "glibc 2.41 with CUDA 12, in CMake": (
        replace(FITS, glibc="2.41", project="cmake"),
        "configure",
        "glibc-math",
        "cospi",
    ),
    "no target": (replace(FITS, gpus=(), driver=None), "plan", "no-target", "no GPU"),
    "a target that torch raises on": (with_targets("8.9;12.0f", THIRTEEN), "configure", "target-unknown", "12.0f:"),
    "a target that nvcc does not make": (with_targets("7.0;8.9", THIRTEEN), "compile", "target-toolkit", "7.0:"),
    "a target that another chip is": (with_targets("7.5;9.0a"), "run", "wrong-target", "no kernel image"),
    "a driver that is too old": (replace(THIRTEEN, driver="575.51"), "run", "driver-old", "580 or newer"),
    "a GPU that torch dropped": (on((6, 1)), "run", "torch-lacks-gpu", "it holds 7.0"),
    "PTX and a driver older than the toolkit": (
        replace(with_targets("8.0+PTX", on((9, 0))), driver="535.54"),
        "run",
        "ptx-driver",
        "570.26 or newer",
    ),
}


@pytest.mark.parametrize("name", ONE_THING)
def test_one_thing_that_does_not_fit(name: str) -> None:
    host, step, cause, words = ONE_THING[name]
    answer = solve(host)
    assert answer.verdict == "cannot"
    assert answer.first is not None
    assert (answer.first.step, answer.first.cause) == (step, cause)
    assert words in answer.first.sentence
    assert answer.advice


WORTH_KNOWING: dict[str, tuple[Host, Step, Cause, str]] = {
    "another minor": (
        replace(FITS, toolkits=(toolkit("12.9"),)),
        "configure",
        "toolkit-minor",
        "differ in the minor version only",
    ),
    "PTX and a driver that takes it": (with_targets("8.0+PTX", on((9, 0))), "run", "ptx-jit", "at the first start"),
    "a torch that is not in the tables": (with_torch("3.0.0+cu128"), "plan", "unknown-release", "torch 3.0"),
    "one GPU of two": (
        replace(FITS, gpus=((6, 1), (8, 9)), targets=parse_targets(["8.9"])),
        "run",
        "torch-lacks-gpu",
        "6.1",
    ),
    "code for one GPU of two": (
        replace(FITS, gpus=((9, 0), (8, 9)), targets=parse_targets(["8.9"])),
        "run",
        "wrong-target",
        "9.0",
    ),
}


@pytest.mark.parametrize("name", WORTH_KNOWING)
def test_what_works_and_is_worth_knowing(name: str) -> None:
    host, step, cause, words = WORTH_KNOWING[name]
    answer = solve(host)
    assert found(host) == [(step, cause, False)]
    assert words in answer.problems[0].sentence
    assert answer.verdict == "warning"
    assert answer.first == answer.problems[0]
    assert answer.advice == ()


def test_a_toolkit_that_is_not_in_the_tables() -> None:
    host = replace(THIRTEEN, toolkits=(toolkit("13.77"),))
    assert ("plan", "unknown-release", False) in found(host)
    assert "13.5" in examine(host)[0].sentence


def test_every_cause_has_a_case() -> None:
    assert {case[2] for case in (*ONE_THING.values(), *WORTH_KNOWING.values())} == set(CAUSES)


FINE = {
    "12.1 runs code of 12.0": replace(with_targets("12.0", on((12, 1), THIRTEEN)), machine="aarch64"),
    "8.9 runs code of 8.6": with_targets("8.6"),
    "9.0a on 9.0": with_targets("9.0a", on((9, 0))),
    "12.0f on 12.1 in CMake": replace(with_targets("12.0f", on((12, 1), THIRTEEN)), project="cmake"),
    "10.0f on 10.3 in CMake": replace(with_targets("10.0f", on((10, 3), THIRTEEN)), project="cmake"),
    "minor-version compatibility": replace(FITS, driver="525.60.13"),
    "glibc 2.41 with CUDA 13": replace(THIRTEEN, glibc="2.41"),
    "C++17 with torch 2.13": replace(THIRTEEN, cxx=17),
    "setuptools 82 with torch 2.8": replace(FITS, setuptools="82.0"),
    "setuptools 82 with an old torch in CMake": replace(OLDER, setuptools="82.0", project="cmake"),
    "torch's plain version": with_torch("2.8.0"),
    "a torch from source": with_torch("2.9.0a0+gitabc123", "12.8"),
    "without a GPU the driver is nobody's": replace(with_targets("8.6"), gpus=(), driver="470.82"),
    "Windows' driver under WSL2": replace(FITS, place="wsl2", driver="528.33"),
    "the second toolkit is of torch's major": replace(FITS, toolkits=(toolkit("13.0"), toolkit("12.8"))),
    "the second toolkit is the complete one": replace(
        FITS, toolkits=(toolkit("12.4 without headers"), toolkit("12.8"))
    ),
    "clang as new as the toolkit takes": replace(FITS, compiler=compiler("clang 19")),
}


@pytest.mark.parametrize("name", FINE)
def test_what_looks_wrong_and_fits(name: str) -> None:
    assert examine(FINE[name]) == ()


@pytest.mark.parametrize(
    ("place", "driver", "fits"),
    [("linux", "525.60.13", True), ("linux", "525.60.11", False), ("wsl2", "528.33", True), ("wsl2", "527.41", False)],
)
def test_under_wsl2_windows_drivers_count(place: Place, driver: str, fits: bool) -> None:
    assert (examine(replace(FITS, place=place, driver=driver)) == ()) is fits


def test_problems_come_in_the_order_of_a_build() -> None:
    host = replace(
        with_torch("2.6.0+cu124"),
        gpus=((12, 0),),
        glibc="2.41",
        python="3.14",
        driver="470.82",
        compiler=compiler("gcc 15"),
    )
    steps = [step for step, _cause, _blocking in found(host)]
    assert steps[0] == "install"
    assert steps[-1] == "run"
    assert len(set(steps)) == 4


def first_advice(host: Host) -> Advice:
    return solve(host).advice[0]


def lines(advice: Advice, kind: Kind) -> list[str]:
    return [line for change in advice.changes if change.kind == kind for way in change.ways for line in way.lines]


def test_another_torch_by_uv_and_where_it_is_the_default_by_pip() -> None:
    advice = first_advice(on((12, 0), replace(with_torch("2.6.0+cu124"), toolkits=(toolkit("12.8"),))))
    assert lines(advice, "torch")[0] == "uv pip install 'torch==2.7.*' --torch-backend cu128"
    assert not any(line.startswith("pip ") for line in lines(advice, "torch"))
    default = first_advice(with_torch("2.8.0+cpu"))
    assert lines(default, "torch")[:3] == [
        "uv pip install 'torch==2.8.0+cu128' --torch-backend cu128",
        "pip uninstall -y torch",
        "pip install 'torch==2.8.0'",
    ]
    assert default.host.torch == HostTorch("2.8.0+cu128", "12.8")


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("linux", "sudo apt-get install cuda-toolkit-12-8"),
        ("wsl2", "sudo apt-get install cuda-toolkit-12-8"),
        ("container", "apt-get install cuda-toolkit-12-8"),
        ("slurm", "module load cuda/12.8"),
    ],
)
def test_another_toolkit_brings_no_driver(place: Place, line: str) -> None:
    advice = first_advice(replace(FITS, toolkits=(), place=place))
    assert lines(advice, "toolkit")[:2] == ["cudabuild toolkit install 12.8", line]


def test_uv_knows_every_cuda_that_torch_is_built_for() -> None:
    told = subprocess.run(
        [find_uv_bin(), "pip", "install", "--help"], check=True, capture_output=True, text=True
    ).stdout
    for known in facts.torch_releases():
        for cuda in known.cuda_variants:
            assert f" {commands.backend(cuda)}," in " ".join(told.split()), cuda


def test_a_toolkit_that_is_here_is_only_named() -> None:
    host = on((12, 0), replace(FITS, toolkits=(toolkit("12.4"), toolkit("12.8"))))
    advice = first_advice(host)
    assert advice.kinds == ("toolkit",)
    assert lines(advice, "toolkit")[0].endswith("--cuda-home /usr/local/cuda-12.8")
    assert [one.release for one in advice.host.toolkits] == ["12.8", "12.4"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("linux", "sudo apt-get install nvidia-driver-580"),
        ("wsl2", "NVIDIA's Windows driver 580 or newer"),
        ("container", "on the machine that runs the container"),
        ("slurm", "administrators"),
    ],
)
def test_a_driver_is_changed_where_it_is(place: Place, words: str) -> None:
    change = commands.install_driver("580", place)
    (way,) = change.ways
    assert words in way.lines[0]
    assert not any(word in line for line in way.lines for word in ("cuda-drivers", "install cuda"))


@pytest.mark.parametrize("place", ["slurm", "container"])
def test_somebody_elses_driver_comes_last(place: Place) -> None:
    answer = solve(replace(THIRTEEN, driver="570.86", place=place))
    assert answer.advice[0].kinds == ("torch", "toolkit")
    assert answer.advice[-1].kinds == ("driver",)


def test_another_compiler_and_how_it_is_chosen() -> None:
    advice = first_advice(replace(FITS, compiler=compiler("gcc 15")))
    assert lines(advice, "compiler")[:2] == ["sudo apt-get install g++-14", "export CC=gcc-14 CXX=g++-14"]


def test_a_target_list_is_kept_as_far_as_it_can_be_made() -> None:
    advice = first_advice(with_targets("7.0;8.6;12.0f+PTX", THIRTEEN))
    assert torch_arch_list(advice.host.targets) == "8.6;12.0+PTX"
    assert lines(advice, "targets")[0] == "cudabuild build RECIPE --target '8.6;12.0+PTX'"


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [
        ("7.0;8.9", "Build for 8.9, without 7.0."),
        ("7.0", "Build for 8.9 instead of 7.0."),
        ("8.9a", "Build for 8.9."),
    ],
)
def test_what_is_left_out_of_a_list_is_said(targets: str, sentence: str) -> None:
    assert first_advice(with_targets(targets, THIRTEEN)).changes[0].sentence == sentence


def test_who_asks_for_one_chip_is_not_told_to_build_for_others() -> None:
    host = replace(with_targets("11.0", THIRTEEN), torch=host_torch("2.8.0a0+gitba56102", "13.0"), gpus=(), driver=None)
    assert [advice.kinds for advice in solve(host).advice] == [("torch",)]


def test_without_a_gpu_the_list_is_what_torch_has() -> None:
    advice = first_advice(replace(THIRTEEN, gpus=(), driver=None))
    assert torch_arch_list(advice.host.targets) == "7.5;8.0;8.6;9.0;10.0;12.0"


def test_another_python_is_another_environment_with_its_torch() -> None:
    answer = solve(replace(FITS, python="3.14"))
    (advice,) = [one for one in answer.advice if one.kinds == ("python",)]
    assert lines(advice, "python") == [
        "uv venv --python 3.13",
        ". .venv/bin/activate",
        "uv pip install 'torch==2.8.0+cu128' --torch-backend cu128",
    ]


def test_setuptools_is_pinned_from_both_sides() -> None:
    host, *_rest = ONE_THING["setuptools without pkg_resources"]
    assert lines(first_advice(host), "setuptools")[0] == "uv pip install 'setuptools>=71,<82'"


ORIN = replace(
    with_torch("2.5.0a0+872d972e41.nv24.08", "12.6"),
    place="jetson",
    machine="aarch64",
    gpus=((8, 7),),
    driver="540.4.0",
    python="3.10",
    toolkits=(toolkit("12.6"),),
)


def test_a_jetson_gets_nvidias_torch_and_no_toolkit_or_driver() -> None:
    orin = replace(ORIN, torch=host_torch("2.9.1+cu126"))
    answer = solve(orin)
    assert {kind for advice in answer.advice for kind in advice.kinds} == {"torch"}
    (way,) = answer.advice[0].changes[0].ways
    assert way.tool == "by-hand"
    assert "PyTorch for Jetson" in way.lines[0]
    assert solve(replace(orin, torch=None, toolkits=())).advice == ()
    newer = solve(replace(orin, torch=host_torch("2.9.1+cu130"), toolkits=(toolkit("12.6"), toolkit("13.0"))))
    assert "driver-old" in {problem.cause for problem in newer.problems}
    assert {kind for advice in newer.advice for kind in advice.kinds} == {"torch"}


def test_a_jetsons_driver_is_not_changed_by_itself() -> None:
    thor = replace(THIRTEEN, place="jetson", machine="aarch64", gpus=((11, 0),), driver="540.4.0")
    assert found(thor) == [("run", "driver-old", True)]
    assert solve(thor).advice == ()


def test_a_jetsons_driver_belongs_to_its_toolkit() -> None:
    assert found(with_targets("8.0+PTX", ORIN)) == [("run", "ptx-jit", False)]  # 540.4 is what JetPack's 12.6 has


def test_nvidias_torch_has_its_own_python_and_kernels() -> None:
    assert found(ORIN) == []
    assert found(replace(ORIN, python="3.12")) == [("install", "torch-python", True)]
    in_its_container = host_torch("2.6.0a0+ecf3bae40a.nv25.01", "12.8")
    assert found(replace(FITS, torch=in_its_container, gpus=((12, 0),), project="cmake")) == []
    by_hand = host_torch("2.6.0a0+gitecf3bae", "12.8")
    assert found(replace(FITS, torch=by_hand, gpus=((12, 0),), project="cmake")) == [("run", "torch-lacks-gpu", True)]


@pytest.mark.parametrize(("place", "cause"), [("linux", "ptx-jit"), ("wsl2", "ptx-driver")])
def test_under_wsl2_windows_drivers_count_for_ptx(place: Place, cause: Cause) -> None:
    host = replace(with_targets("8.0+PTX", on((9, 0))), driver="570.40", place=place)
    assert [problem.cause for problem in examine(host)] == [cause]


@pytest.mark.parametrize(
    ("host", "torch"),
    [
        (replace(FITS, python="3.14"), "2.9.0+cu128"),
        (on((7, 0), with_torch("2.7.1+cu128")), "2.8.0+cu128"),  # 2.7.1+cu126 is nearer, and brings a warning
        (on((6, 1)), "2.8.0+cu126"),
        (replace(THIRTEEN, compiler=compiler("gcc 10")), "2.11.0+cu130"),
        (replace(FITS, torch=None), "2.11.0+cu128"),
        (replace(FITS, toolkits=(toolkit("12.6"),), torch=host_torch("2.8.0+cpu")), "2.8.0+cu126"),
        (replace(FITS, glibc="2.41", toolkits=(toolkit("12.9"), toolkit("13.0")), driver="580.65"), "2.9.0+cu130"),
    ],
)
def test_the_nearest_torch_that_brings_no_warning(host: Host, torch: str) -> None:
    advice = first_advice(host)
    assert advice.kinds == ("torch",)
    assert advice.host.torch is not None
    assert advice.host.torch.version == torch


def test_a_compiler_that_is_too_old_is_replaced_by_the_oldest_that_will_do() -> None:
    answer = solve(replace(THIRTEEN, compiler=compiler("gcc 10")))
    (advice,) = [one for one in answer.advice if one.kinds == ("compiler",)]
    assert advice.host.compiler == compiler("gcc 11")


def test_what_no_change_can_mend_gets_no_advice() -> None:
    host = on((6, 1), replace(THIRTEEN, glibc="2.41"))
    assert solve(host).verdict == "cannot"
    assert solve(host).advice == ()  # Pascal ends with CUDA 12, which does not compile with this C library
