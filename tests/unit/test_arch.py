"""Targets as values: what people type, what runs where, and how tools spell it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.errors import BadTarget, NoTarget
from buildkit.machine import facts, names
from buildkit.machine.arch import (
    Capability,
    Target,
    cmake_architectures,
    covers,
    merged,
    parse_targets,
    read_notation,
    runs_on,
    torch_arch_list,
)

TARGETS = st.builds(
    Target,
    major=st.integers(2, 99),
    minor=st.integers(0, 9),
    suffix=st.sampled_from(["", "a", "f"]),
    ptx=st.booleans(),
)
CAPABILITIES = st.tuples(st.integers(2, 20), st.integers(0, 9))


def spelled(*texts: str, native: tuple[Capability, ...] = (), everything: tuple[Target, ...] = ()) -> str:
    return torch_arch_list(parse_targets(texts, native=native, everything=everything))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8.6", "8.6"),
        ("sm_86", "8.6"),
        ("SM_86", "8.6"),
        ("sm86", "8.6"),
        ("86", "8.6"),
        ("120", "12.0"),
        ("90a", "9.0a"),
        ("8.6+PTX", "8.6+PTX"),
        ("8.6+ptx", "8.6+PTX"),
        ("8.6 + PTX", "8.6+PTX"),
        ("9.0a", "9.0a"),
        ("12.0f", "12.0f"),
        ("sm_120f", "12.0f"),
        ("compute_86", "8.6+PTX"),
        ("86-real;120-virtual", "8.6;12.0+PTX"),
        ("rtx4090", "8.9"),
        ("RTX 4090", "8.9"),
        ("rtx-4090", "8.9"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "8.9"),
        ("rtx_a6000", "8.6"),
        ("h100", "9.0"),
        ("h100_80gb", "9.0"),
        ("a100", "8.0"),
        ("A100-SXM4-80GB", "8.0"),
        ("v100", "7.0"),
        ("t4", "7.5"),
        ("quadro_rtx_6000", "7.5"),
        ("RTX 6000 Ada", "8.9"),
        ("rtx_6000_ada_generation", "8.9"),
        ("rtx pro 6000", "12.0"),
        ("RTX PRO 6000 Blackwell Server Edition", "12.0"),
        ("rtx5090", "12.0"),
        ("dgx spark", "12.1"),
        ("orin", "8.7"),
        ("thor", "11.0"),
        ("maxwell", "5.0;5.2"),
        ("pascal", "6.0;6.1"),
        ("volta", "7.0"),
        ("turing", "7.5"),
        ("ampere", "8.0;8.6"),
        ("ada", "8.9"),
        ("ada lovelace", "8.9"),
        ("Hopper", "9.0"),
        ("blackwell", "10.0;10.3;12.0;12.1"),
        ("blackwell+PTX", "10.0;10.3;12.0;12.1+PTX"),
        ("rtx4090+ptx", "8.9+PTX"),
    ],
)
def test_what_people_type(text: str, expected: str) -> None:
    assert spelled(text) == expected


@pytest.mark.parametrize(
    "text", ["8.6,12.0", "8.6;12.0", "8.6|12.0", "8.6 12.0", "8.6; 12.0;", " 8.6\t,12.0 ", ";;12.0||8.6", "12.0,8.6,86"]
)
def test_every_separator(text: str) -> None:
    assert spelled(text) == "8.6;12.0"


def test_names_and_numbers_share_a_blank_separated_list() -> None:
    assert spelled("rtx 3090 ti 12.0 h100") == "8.6;9.0;12.0"
    assert spelled("rtx4090 blackwell") == "8.9;10.0;10.3;12.0;12.1"


def test_several_texts_are_one_list() -> None:
    assert spelled("8.6", "8.9;12.0+PTX") == "8.6;8.9;12.0+PTX"


def test_the_same_capability_with_ptx_wins() -> None:
    assert spelled("8.6;8.6+PTX;sm_86") == "8.6+PTX"


def test_the_order_is_numerical() -> None:
    assert spelled("12.0,9.0a,10.0,9.0,8.6") == "8.6;9.0;9.0a;10.0;12.0"


def test_no_text_is_no_target() -> None:
    assert parse_targets([]) == ()


def test_native_means_the_gpus_here() -> None:
    assert spelled("native", native=((8, 9), (8, 6), (8, 9))) == "8.6;8.9"
    assert spelled("native+PTX", native=((8, 9), (8, 6))) == "8.6;8.9+PTX"


def test_native_without_a_gpu_asks_for_a_name() -> None:
    with pytest.raises(NoTarget, match="none") as caught:
        parse_targets(["native"])
    assert "--target" in caught.value.hint


def test_all_means_what_the_toolkit_makes_without_its_suffixed_targets() -> None:
    assert spelled("all", everything=facts.toolkit_targets("13.0")) == (
        "7.5;8.0;8.6;8.7;8.8;8.9;9.0;10.0;10.3;11.0;12.0;12.1"
    )
    with pytest.raises(NoTarget, match="no toolkit"):
        parse_targets(["all"])


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("rtx6000", ["Quadro RTX 6000 (7.5)", "RTX 6000 Ada (8.9)", "RTX PRO 6000 (12.0)"]),
        ("RTX 5000", ["Quadro RTX 5000 (7.5)", "RTX 5000 Ada (8.9)", "RTX PRO 5000 (12.0)"]),
        ("titanx", ["GeForce GTX TITAN X (5.2)", "TITAN X Pascal (6.1)"]),
        ("a2000", ["RTX A2000 (8.6)", "RTX 2000 Ada (8.9)"]),
        ("nano", ["Jetson Nano (5.3)", "Jetson Orin Nano (8.7)"]),
    ],
)
def test_a_name_of_several_gpus_lists_its_meanings(name: str, listed: list[str]) -> None:
    with pytest.raises(BadTarget) as caught:
        parse_targets([name])
    assert all(meaning in caught.value.message for meaning in listed)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "suggested"),
    [
        ("rtx4900", "rtx4090"),
        ("rtx 4900", "rtx4090"),
        ("hoper", "hopper"),
        ("nativ", "native"),
        ("12", "12.0, 12.1"),
        ("8,6", "8.0, 8.6"),
        ("8.60", "8.6"),
        ("bogus", "--target"),
        ("sm_", "--target"),
        ("8.6b", "8.6"),
    ],
)
def test_what_does_not_parse_gets_a_suggestion(text: str, suggested: str) -> None:
    with pytest.raises(BadTarget) as caught:
        parse_targets([text])
    assert suggested in caught.value.hint


@pytest.mark.parametrize("text", ["", " ", ";", ", |"])
def test_an_empty_list_is_refused(text: str) -> None:
    with pytest.raises(BadTarget, match="no target"):
        parse_targets([text])


@pytest.mark.parametrize("text", ["10.0;10.0f", "sm_120 sm_120f", "12.1f,12.1+PTX"])
def test_family_code_beside_plain_code_is_refused_as_nvcc_would(text: str) -> None:
    with pytest.raises(BadTarget, match="together"):
        parse_targets([text])


@pytest.mark.parametrize("text", ["10.0f;10.3", "9.0;9.0a", "10.0a;10.0f", "12.0f;12.1"])
def test_what_nvcc_does_build_together_passes(text: str) -> None:
    assert spelled(text) == text


@pytest.mark.parametrize("text", ["1.0", "0.0", "100.0", "8.", ".6", "8.6.0", "086", "1200", "8.6a+", "٨.٦"])
def test_numbers_that_are_no_capability(text: str) -> None:
    assert read_notation(text) is None


@given(TARGETS)
def test_what_is_printed_reads_back(target: Target) -> None:
    assert parse_targets([str(target)]) == (target,)
    assert read_notation(f"sm_{target.number}") == target.without_ptx


@given(st.lists(TARGETS.filter(lambda target: target.suffix != "f"), min_size=1), st.randoms(use_true_random=False))
def test_the_order_typed_does_not_matter(targets: list[Target], random: object) -> None:
    expected = parse_targets([",".join(map(str, targets))])
    assert parse_targets([str(target) for target in reversed(targets)]) == expected
    assert list(expected) == sorted(expected)
    assert parse_targets([torch_arch_list(expected)]) == expected


@given(st.lists(TARGETS), st.lists(TARGETS))
def test_a_list_covers_its_parts(some: list[Target], more: list[Target]) -> None:
    assert covers(merged(some + more), some)
    assert covers(some, merged(some))
    assert covers(merged(some), [target.without_ptx for target in some])


def test_covering_needs_the_ptx_too() -> None:
    assert covers(parse_targets(["8.6+PTX;12.0"]), parse_targets(["8.6"]))
    assert not covers(parse_targets(["8.6;12.0"]), parse_targets(["12.0+PTX"]))
    assert not covers(parse_targets(["8.6"]), parse_targets(["8.9"]))
    assert not covers(parse_targets(["9.0a"]), parse_targets(["9.0"]))


@pytest.mark.parametrize(
    ("image", "runs", "does_not"),
    [
        ("8.0", ["8.0", "8.6", "8.9"], ["7.5", "8.7", "9.0", "12.0"]),
        ("8.6", ["8.6", "8.8", "8.9"], ["8.0", "8.7"]),
        ("8.7", ["8.7"], ["8.6", "8.8", "8.9", "9.0"]),
        ("5.0", ["5.0", "5.2"], ["5.3"]),
        ("5.2", ["5.2"], ["5.0", "5.3"]),
        ("5.3", ["5.3"], ["5.2"]),
        ("6.0", ["6.0", "6.1"], ["6.2"]),
        ("6.2", ["6.2"], ["6.1", "7.0"]),
        ("7.0", ["7.0", "7.5"], ["7.2"]),
        ("7.2", ["7.2"], ["7.0", "7.5"]),
        ("9.0", ["9.0"], ["8.9", "10.0"]),
        ("9.0a", ["9.0"], ["8.9", "10.0"]),
        ("10.0", ["10.0", "10.3", "10.7"], ["10.1", "11.0", "12.0"]),
        ("10.1", ["10.1"], ["10.0", "10.3", "11.0"]),
        ("10.0a", ["10.0"], ["10.3"]),
        ("10.0f", ["10.0", "10.3"], ["10.1", "11.0", "12.0"]),
        ("10.3f", ["10.3"], ["10.0", "12.0"]),
        ("12.0", ["12.0", "12.1"], ["10.0", "11.0", "8.9"]),
        ("12.0f", ["12.0", "12.1"], ["10.3"]),
        ("12.1", ["12.1"], ["12.0"]),
        ("7.5+PTX", ["7.5", "8.0", "8.7", "9.0", "12.1"], ["7.0", "7.2"]),
        ("8.7+PTX", ["8.7", "8.9", "9.0"], ["8.6"]),
        ("9.0a+PTX", ["9.0"], ["10.0", "12.0"]),
        ("12.0f+PTX", ["12.0", "12.1"], ["10.0"]),
    ],
)
def test_what_runs_where(image: str, runs: list[str], does_not: list[str]) -> None:
    (target,) = parse_targets([image])
    for device in runs:
        assert runs_on(target, parse_targets([device])[0].capability), device
    for device in does_not:
        assert not runs_on(target, parse_targets([device])[0].capability), device


@given(TARGETS, CAPABILITIES)
def test_ptx_and_family_only_add_devices(target: Target, device: Capability) -> None:
    assert runs_on(target, target.capability)
    assert runs_on(target.with_ptx, device) or not runs_on(target.without_ptx, device)
    only = Target(target.major, target.minor, "a")
    family = Target(target.major, target.minor, "f")
    assert runs_on(family, device) or not runs_on(only, device)


@given(TARGETS.filter(lambda target: target.ptx and not target.suffix), CAPABILITIES, CAPABILITIES)
def test_ptx_runs_on_every_later_device(target: Target, one: Capability, other: Capability) -> None:
    earlier, later = sorted((one, other))
    assert runs_on(target, later) or not runs_on(target, earlier)


def test_how_torch_and_cmake_spell_a_list() -> None:
    targets = parse_targets(["12.0+PTX;8.6;9.0a"])
    assert torch_arch_list(targets) == "8.6;9.0a;12.0+PTX"
    assert cmake_architectures(targets) == "86-real;90a-real;120"
    assert [target.number for target in targets] == ["86", "90a", "120"]
    assert targets[0].capability == (8, 6)


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ("Tesla V100-SXM2-16GB", (7, 0)),
        ("NVIDIA A100-SXM4-80GB", (8, 0)),
        ("GeForce GTX 1060 3GB", (6, 1)),
        ("NVIDIA TITAN X (Pascal)", (6, 1)),
        ("GeForce GTX TITAN X", (5, 2)),
        ("Quadro RTX 6000", (7, 5)),
        ("NVIDIA RTX 6000 Ada Generation", (8, 9)),
        ("NVIDIA RTX A6000", (8, 6)),
        ("GRID T4-16Q", (7, 5)),
        ("NVIDIA GeForce GTX 1660 Ti with Max-Q Design", (7, 5)),
        ("NVIDIA GeForce RTX 2050", (8, 6)),
        ("Graphics Device", None),
        ("Tesla K80", None),
        ("", None),
    ],
)
def test_names_as_drivers_report_them(reported: str, expected: Capability | None) -> None:
    assert names.capability_of_device(reported) == expected
