"""What goes together: tables of targets, toolkits, torches, compilers and drivers."""

from __future__ import annotations

import pytest

from buildkit.errors import NoCompiler, TorchMismatch, UnsupportedTarget
from buildkit.machine import compat
from buildkit.machine.arch import parse_targets, torch_arch_list
from buildkit.machine.compat import check_targets


def decide(
    targets: str, toolkit: str, torch: str, *, setuptools_path: bool = True, reduce: bool = False
) -> compat.TargetDecision:
    return check_targets(
        parse_targets([targets]), toolkit=toolkit, torch=torch, setuptools_path=setuptools_path, reduce=reduce
    )


@pytest.mark.parametrize(
    ("targets", "toolkit", "torch", "setuptools_path"),
    [
        ("7.5;8.6;12.0+PTX", "13.0", "2.13.0+cu130", True),
        ("9.0a;12.1a+PTX", "13.0", "2.13.0+cu130", True),
        ("12.0f", "13.0", "2.13.0+cu130", False),
        ("8.8", "13.0", "2.13.0+cu130", False),
        ("10.7", "13.4", "2.15.0+cu132", False),
        ("7.0;7.5;12.0", "12.8", "2.7.1+cu128", True),
        ("12.0", "12.8.93", "2.8.0", True),
        ("10.1", "12.8", "2.8.0+cu128", True),
        ("11.0", "13.0", "2.9.0+cu130", True),
        ("3.5", "11.8", "2.4.0+cu118", True),
    ],
)
def test_what_fits_passes_without_a_word(targets: str, toolkit: str, torch: str, setuptools_path: bool) -> None:
    decision = decide(targets, toolkit, torch, setuptools_path=setuptools_path)
    assert torch_arch_list(decision.targets) == targets
    assert decision.notes == ()


@pytest.mark.parametrize(
    ("targets", "toolkit", "torch", "setuptools_path", "sentence"),
    [
        ("7.0", "13.0", "2.13.0+cu130", True, "makes nothing below 7.5 (CUDA 12.9 is the last that makes it)"),
        ("3.5", "12.4", "2.4.0", True, "makes nothing below 5.0 (CUDA 11.8 is the last"),
        ("12.0", "12.6", "2.7.0+cu126", True, "does not know it; it came with CUDA 12.8"),
        ("12.0", "12.8", "2.6.0+cu124", True, "torch 2.7 or newer with CUDA 12.8 has"),
        ("12.0", "12.8", "2.7.0+cu126", True, "torch 2.7 or newer with CUDA 12.8 has"),
        ("12.0", "12.8", "2.6.0+cu124", False, "torch 2.7 or newer with CUDA 12.8 has"),
        ("12.0f", "13.0", "2.13.0+cu130", True, "takes no 'f' targets (a CMake project would)"),
        ("12.0f", "12.8", "2.8.0+cu128", False, "makes 12.0, but no 'f' code for it"),
        ("8.6a", "13.0", "2.13.0+cu130", False, "makes 8.6, but no 'a' code for it"),
        ("10.1", "13.0", "2.13.0+cu130", True, "CUDA 13.0 knows this chip as 11.0"),
        ("10.1", "13.0", "2.13.0+cu130", False, "CUDA 13.0 knows this chip as 11.0"),
        ("11.0", "12.9", "2.8.0+cu129", True, "CUDA 12.9 knows this chip as 10.1"),
        ("8.8", "13.0", "2.13.0+cu130", True, "the setuptools path of torch 2.13 refuses it"),
        ("10.7", "13.0", "2.13.0+cu130", True, "does not know it; it came with CUDA 13.4"),
        ("10.7", "13.4", "2.15.0", True, "the setuptools path of torch 2.15 refuses it"),
        ("9.9", "13.0", "2.13.0+cu130", True, "nor does any CUDA known"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(
    targets: str, toolkit: str, torch: str, setuptools_path: bool, sentence: str
) -> None:
    with pytest.raises(UnsupportedTarget) as caught:
        decide(targets, toolkit, torch, setuptools_path=setuptools_path)
    assert f"{targets}: " in caught.value.message
    assert sentence in caught.value.message
    assert caught.value.exit_code == 5
    assert caught.value.hint


def test_each_target_gets_its_own_sentence_and_the_hint_what_remains() -> None:
    with pytest.raises(UnsupportedTarget) as caught:
        decide("7.0;8.6;12.0f", "13.0", "2.13.0+cu130")
    assert "7.0: CUDA 13.0 makes nothing below" in caught.value.message
    assert "12.0f: the setuptools path" in caught.value.message
    assert "8.6:" not in caught.value.message
    assert caught.value.hint == "type --target '8.6;12.0'"


def test_a_list_from_a_variable_is_reduced_with_a_note_for_each() -> None:
    decision = decide("7.0;8.6;10.1;12.0f+PTX", "13.0", "2.13.0+cu130", reduce=True)
    assert torch_arch_list(decision.targets) == "8.6;11.0;12.0+PTX"
    assert [note.split(":")[0] for note in decision.notes] == [
        "7.0 is left out",
        "10.1 is built as 11.0",
        "12.0f+PTX is built as 12.0+PTX",
    ]


def test_a_renamed_family_target_becomes_the_plain_one() -> None:
    assert torch_arch_list(decide("10.1f", "13.0", "2.13.0+cu130", reduce=True).targets) == "11.0"


def test_a_list_of_which_nothing_is_left_is_refused_even_then() -> None:
    with pytest.raises(UnsupportedTarget, match=r"below 7\.5") as caught:
        decide("6.0;7.0", "13.0", "2.13.0+cu130", reduce=True)
    assert caught.value.hint.startswith("possible here: 7.5;8.0")


def test_what_the_tables_do_not_hold_is_said() -> None:
    assert "13.77" in decide("8.9", "13.77", "2.13.0").notes[0]
    assert "nvcc itself" in decide("8.9", "14.0", "2.13.0").notes[0]
    assert "torch 9.0" in decide("8.9", "13.0", "9.0.1+cu130").notes[0]


def test_the_cuda_of_a_torch_built_from_source_can_be_told() -> None:
    targets = parse_targets(["12.0"])
    assert check_targets(targets, toolkit="13.0", torch="2.9.0a0+git1234", torch_cuda="13.0").targets == targets
    with pytest.raises(UnsupportedTarget, match="no code for it"):
        check_targets(targets, toolkit="12.8", torch="2.9.0a0+git1234", torch_cuda="12.6")


@pytest.mark.parametrize(
    ("torch", "cuda"),
    [("2.13.0+cu130", "13.0"), ("2.4.1+cu118", "11.8"), ("2.13.0", "13.0"), ("2.13.0+cpu", None), ("1.0.0", None)],
)
def test_the_cuda_that_a_torch_version_names(torch: str, cuda: str | None) -> None:
    assert compat.cuda_of_torch(torch) == cuda


def test_all_is_what_toolkit_and_torch_can_do_together() -> None:
    made = compat.makeable_targets(toolkit="13.0", torch="2.13.0+cu130")
    everything = parse_targets(["all"], everything=made)
    assert torch_arch_list(everything) == "7.5;8.0;8.6;8.7;8.9;9.0;10.0;10.3;11.0;12.0;12.1"
    assert check_targets(everything, toolkit="13.0", torch="2.13.0+cu130").notes == ()


def test_torch_and_toolkit_of_one_release_fit() -> None:
    assert compat.check_torch_toolkit("13.0", "13.0.88") == ()


def test_another_minor_is_noted() -> None:
    (note,) = compat.check_torch_toolkit("13.0", "13.2")
    assert "13.0" in note
    assert "13.2" in note


@pytest.mark.parametrize(
    ("cuda", "toolkit", "hip", "message"),
    [
        ("12.8", "13.0", None, "another major"),
        ("13.0", "12.8", None, "another major"),
        (None, "13.0", None, "CPU-only"),
        (None, "13.0", "6.4.1", "ROCm 6.4.1"),
    ],
)
def test_what_torch_cannot_be_extended_by(cuda: str | None, toolkit: str, hip: str | None, message: str) -> None:
    with pytest.raises(TorchMismatch, match=message) as caught:
        compat.check_torch_toolkit(cuda, toolkit, hip=hip)
    assert caught.value.hint


def test_host_compilers() -> None:
    assert compat.check_compiler("15.2.0", "13.0") == ()
    assert compat.check_compiler("12", "13.0") == ()
    assert compat.check_compiler("20.1.8", "13.0", kind="clang") == ()
    assert "may take" in compat.check_compiler("18.1", "13.77")[0]
    assert "nvcc itself" in compat.check_compiler("18.1", "14.0")[0]


@pytest.mark.parametrize(
    ("version", "toolkit", "kind", "fix"),
    [
        ("16.1.0", "13.0", "gcc", "g++-15, then run again with CC=gcc-15 CXX=g++-15"),
        ("14.2", "12.6", "gcc", "g++-13, then run again with CC=gcc-13 CXX=g++-13"),
        ("21.1", "13.0", "clang", "clang-20, then run again with CC=clang-20 CXX=clang++-20"),
    ],
)
def test_a_compiler_that_is_too_new_names_the_one_to_install(version: str, toolkit: str, kind: str, fix: str) -> None:
    with pytest.raises(NoCompiler, match="too new") as caught:
        compat.check_compiler(version, toolkit, kind="gcc" if kind == "gcc" else "clang")
    assert fix in caught.value.hint


@pytest.mark.parametrize(
    ("glibc", "toolkit", "noted"),
    [("2.36", "12.9", False), ("2.41", "12.9", True), ("2.41", "13.0", False), ("2.9", "12.9", False)],
)
def test_glibc_headers_that_clash(glibc: str, toolkit: str, noted: bool) -> None:
    assert bool(compat.check_glibc(glibc, toolkit)) is noted


def test_lowest_drivers() -> None:
    assert compat.lowest_driver(13) == "580"
    assert compat.lowest_driver("12.8") == "525.60.13"
    assert compat.lowest_driver("11") == "450.80.02"
    assert compat.lowest_driver("99") is None


@pytest.mark.parametrize(
    ("driver", "cuda", "expected"),
    [
        ("580.65.06", "13.0", True),
        ("580", 13, True),
        ("575.51.03", "13.0", False),
        ("525.60.13", "12.9", True),
        ("525.60.11", "12.9", False),
        ("610.43", "12.9", True),
        ("999", "99.0", False),
    ],
)
def test_which_driver_runs_which_cuda(driver: str, cuda: str | int, expected: bool) -> None:
    assert compat.driver_runs(driver, cuda) is expected


def test_notes_on_drivers() -> None:
    with_ptx = parse_targets(["8.6;12.0+PTX"])
    assert compat.check_driver(None, "13.0", with_ptx) == ()
    assert "580 or newer" in compat.check_driver("570.26", "13.0")[0]
    assert "PTX of 12.0+PTX" in compat.check_driver("580.65.06", "13.2", with_ptx)[0]
    assert compat.check_driver("580.65.06", "13.2", parse_targets(["8.6"])) == ()
    assert compat.check_driver("610.43", "13.2", with_ptx) == ()
    assert compat.check_driver("610.43", "13.5", with_ptx) == ()  # its driver is in no public table


@pytest.mark.parametrize(
    ("driver", "python", "majors", "newest", "oldest"),
    [
        (None, "3.11.2", (13,), "2.15.0", "2.11.0"),
        (None, "3.10", (13,), "2.14.0", "2.11.0"),
        ("580.65.06", "3.11", (13,), "2.15.0", "2.11.0"),
        ("550.54.14", "3.11", (12, 13), "2.10.0", "2.1.0"),
        ("580.65.06", "3.13", (12,), "2.10.0", "2.5.0"),
        (None, "3.9", (12,), "2.8.0", "2.1.0"),
        (None, "3.15t", (13,), "2.15.0", "2.15.0"),
    ],
)
def test_the_newest_torch_first(
    driver: str | None, python: str, majors: tuple[int, ...], newest: str, oldest: str
) -> None:
    candidates = compat.newest_torch(driver, python, toolkit_majors=majors)
    assert (candidates[0], candidates[-1]) == (newest, oldest)


def test_no_torch_where_the_driver_is_older_than_every_toolkit_there_is() -> None:
    assert compat.newest_torch("550.54.14", "3.11") == []
    assert compat.newest_torch(None, "3.7") == []
