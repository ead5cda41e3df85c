"""The tables of facts: they load, hold together, and say what NVIDIA's and PyTorch's documents say."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.machine import facts, host_facts, names
from buildkit.machine.arch import read_notation, torch_arch_list
from buildkit.machine.facts import release_number, short_release


def test_every_table_names_its_source() -> None:
    for table in (
        facts.gpu_table(),
        facts.toolkit_table(),
        facts.torch_table(),
        host_facts.wheel_table(),
        host_facts.host_table(),
    ):
        assert table.schema == 1
        assert len(table.source) > 50


def test_every_gpu_stands_once() -> None:
    listed = [name for group in facts.gpu_table().gpu for name in group.names]
    assert len(listed) == len(set(listed))


def test_every_gpu_is_found_by_its_own_name() -> None:
    for group in facts.gpu_table().gpu:
        for name in group.names:
            meanings = names.meanings(name)
            assert {str(meaning.target) for meaning in meanings} == {group.capability}, name


def test_ambiguous_names_have_at_least_two_capabilities() -> None:
    for name in facts.gpu_table().ambiguous:
        assert len({meaning.target for meaning in names.meanings(name)}) > 1, name


def test_no_alias_hides_an_ambiguous_name() -> None:
    table = facts.gpu_table()
    assert not {alias.lower() for alias in table.alias} & {name.lower() for name in table.ambiguous}


@pytest.mark.parametrize(
    ("capability", "gpu"),
    [("5.2", "m40"), ("6.0", "p100"), ("6.1", "gtx1080ti"), ("8.6", "rtx3090"), ("10.0", "b200"), ("10.3", "b300")],
)
def test_some_gpus(capability: str, gpu: str) -> None:
    assert str(names.meanings(gpu)[0].target) == capability


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("12.8", "10.0;10.0a;10.1;10.1a;12.0;12.0a"),
        ("12.9", "10.0;10.0a;10.0f;10.1;10.1a;10.1f;10.3;10.3a;10.3f;12.0;12.0a;12.0f;12.1;12.1a;12.1f"),
        ("13.0", "10.0;10.0a;10.0f;10.3;10.3a;10.3f;11.0;11.0a;11.0f;12.0;12.0a;12.0f;12.1;12.1a;12.1f"),
    ],
)
def test_the_newer_targets_of_a_toolkit(release: str, expected: str) -> None:
    newer = [target for target in facts.toolkit_targets(release) if target.major >= 10]
    assert torch_arch_list(newer) == expected


@pytest.mark.parametrize(
    ("release", "oldest", "has", "lacks"),
    [
        ("11.7", "3.5", "8.7", "8.9"),
        ("11.8", "3.5", "9.0", "9.0a"),
        ("12.1", "5.0", "9.0a", "10.0"),
        ("12.6", "5.0", "9.0a", "12.0"),
        ("12.8", "5.0", "10.1", "12.0f"),
        ("13.0", "7.5", "8.8", "10.7"),
        ("13.3", "7.5", "11.0", "10.7"),
        ("13.4", "7.5", "10.7", "10.1"),
        ("13.5", "7.5", "10.7", "7.0"),
    ],
)
def test_what_toolkits_make(release: str, oldest: str, has: str, lacks: str) -> None:
    targets = facts.toolkit_targets(release)
    assert str(targets[0]) == oldest
    assert read_notation(has) in targets
    assert read_notation(lacks) not in targets


@pytest.mark.parametrize(
    ("release", "gcc", "clang"),
    [("11.8", 11, 14), ("12.1", 12, 15), ("12.4", 13, 17), ("12.9", 14, 19), ("13.0", 15, 20), ("13.5", 16, 22)],
)
def test_newest_compilers(release: str, gcc: int, clang: int) -> None:
    assert facts.newest_gcc(release) == gcc
    assert facts.newest_clang(release) == clang


def test_a_release_without_targets_of_its_own_makes_what_its_predecessor_makes() -> None:
    assert facts.toolkit_targets("13.3") == facts.toolkit_targets("13.0")


def test_a_release_after_the_table_is_taken_as_its_predecessor() -> None:
    known = facts.toolkit_release("13.99")
    assert known is not None
    assert known.release == facts.toolkit_releases()[-1]
    assert facts.toolkit_release("14.0") is None
    assert facts.toolkit_targets("14.0") == ()
    assert facts.newest_gcc("11.0") is None
    assert facts.newest_clang("99.0") is None


def test_releases_are_in_order() -> None:
    for releases in (facts.toolkit_releases(), [known.version for known in facts.torch_releases()]):
        assert list(releases) == sorted(releases, key=release_number)


def test_what_the_suffixed_targets_are_of_is_made_too() -> None:
    for known in facts.known_toolkits():
        assert set(known.a) <= set(known.plain)
        assert set(known.f) <= set(known.plain)


def test_torch_releases() -> None:
    torch = facts.torch_release("2.13.0+cu130")
    assert torch is not None
    assert (torch.version, torch.default_cuda, torch.cxx_standard) == ("2.13", "13.0", 20)
    assert torch.cuda_variants == ("12.6", "13.0", "13.2")
    oldest = facts.torch_release("2.1")
    assert oldest is not None
    assert oldest.version == "2.1"  # and not 2.10 to 2.15
    assert facts.torch_release("1.12") is None
    assert facts.torch_release("3.0") is None


@pytest.mark.parametrize(
    ("torch", "python", "expected"),
    [
        ("1.13", "3.7", True),
        ("2.1", "3.12", False),
        ("2.4", "3.8", True),
        ("2.4", "3.13", False),
        ("2.6", "3.13t", False),
        ("2.7", "3.13t", True),
        ("2.9", "3.9", False),
        ("2.13", "3.11.2", True),
        ("2.13", "3.14t", True),
        ("2.13", "3.15", False),
        ("2.15", "3.10", False),
        ("2.15", "3.15t", True),
    ],
)
def test_pythons_of_a_torch(torch: str, python: str, expected: bool) -> None:
    known = facts.torch_release(torch)
    assert known is not None
    assert known.has_python(python) is expected


@pytest.mark.parametrize(
    ("torch", "has", "lacks"),
    [
        ("1.13", "8.6", "8.9"),
        ("2.0", "8.9", "9.0a"),
        ("2.3", "9.0a", "10.0"),
        ("2.6", "10.0", "12.0"),
        ("2.7.1", "10.1", "10.3"),
        ("2.8", "12.1a", "11.0"),
        ("2.9", "11.0", "10.1"),
        ("2.13", "12.1a", "12.0f"),
        ("2.99", "12.1a", "8.8"),
    ],
)
def test_what_the_setuptools_path_takes(torch: str, has: str, lacks: str) -> None:
    accepted = facts.setuptools_targets(torch)
    assert read_notation(has) in accepted
    assert read_notation(lacks) not in accepted


@pytest.mark.parametrize(
    ("torch", "cuda", "machine", "has", "lacks"),
    [
        ("1.13.1", "11.7", "x86_64", "8.6", "9.0"),
        ("2.0.1", "11.8", "x86_64", "9.0", "10.0"),
        ("2.7.1", "12.8", "x86_64", "12.0+PTX", "7.0"),
        ("2.8.0", "12.8", "x86_64", "7.0", "6.0"),
        ("2.11.0", "12.8", "x86_64", "7.5", "7.0"),
        ("2.8.0", "12.6", "x86_64", "5.0", "10.0"),
        ("2.9.1", "12.6", "aarch64", "8.0", "8.6"),
        ("2.13.0", "13.0", "aarch64", "11.0", "8.7"),
    ],
)
def test_what_torchs_wheels_hold(torch: str, cuda: str, machine: str, has: str, lacks: str) -> None:
    held = host_facts.wheel_targets(torch, cuda, machine)
    assert held is not None
    assert read_notation(has) in held
    assert read_notation(lacks) not in held


def test_wheels_that_are_not_there() -> None:
    assert host_facts.wheel_targets("2.5.0", "12.8", "x86_64") is None
    assert host_facts.wheel_targets("2.8.0", "11.8", "aarch64") is None


def test_every_variant_of_every_torch_has_its_row() -> None:
    for known in facts.torch_releases():
        for cuda in known.cuda_variants:
            assert host_facts.wheel_targets(known.version, cuda, "x86_64"), (known.version, cuda)


def test_drivers_of_windows_go_with_those_of_linux() -> None:
    for known in facts.known_toolkits():
        assert known.windows is None or known.driver is not None, known.release


def test_versions() -> None:
    assert release_number("2.13.0+cu130") == (2, 13)
    assert short_release("13.0.88") == "13.0"
    with pytest.raises(ValueError, match="no version"):
        release_number("unknown")


def test_the_tables_travel_with_the_package() -> None:
    folder = Path(facts.__file__).parent / "data"
    assert {path.name for path in folder.glob("*.toml")} >= {"gpus.toml", "toolkits.toml", "torch.toml"}
