"""The rules of a plan, as tables: which targets, which grade, how long."""

from __future__ import annotations

import pytest

from buildkit.errors import NoTarget, TargetsDisagree
from buildkit.machine.arch import parse_targets
from buildkit.plan.decide import choose_deadline, choose_targets, expected_seconds, required_grade
from buildkit.plan.request import Requirement

BLACKWELL, AMPERE = (12, 0), (8, 6)
EVERYTHING = parse_targets(["8.6;9.0;12.0"])


@pytest.mark.parametrize(
    ("typed", "configured", "exported", "visible", "expected", "origin", "is_typed"),
    [
        (["12.0"], ["8.6"], "9.0", [AMPERE], "12.0", "--target", True),
        (["8.9;12.0+PTX"], [], None, [], "8.9;12.0+PTX", "--target", True),
        (["native"], [], "9.0", [BLACKWELL], "12.0", "--target", True),
        (["all"], [], None, [], "8.6;9.0;12.0", "--target", True),
        ([], ["8.6"], "9.0", [BLACKWELL], "8.6", "the configuration", True),
        ([], [], "8.6 12.0", [], "8.6;12.0", "TORCH_CUDA_ARCH_LIST", False),
        ([], [], "8.6+PTX", [BLACKWELL], "8.6+PTX", "TORCH_CUDA_ARCH_LIST", False),
        ([], [], "12.0;8.6", [BLACKWELL, AMPERE], "8.6;12.0", "TORCH_CUDA_ARCH_LIST", False),
        ([], [], "", [BLACKWELL, BLACKWELL], "12.0", "the GPUs here", True),
        ([], [], "  ", [AMPERE, BLACKWELL], "8.6;12.0", "the GPUs here", True),
        ([], [], None, [AMPERE], "8.6", "the GPUs here", True),
    ],
)
def test_targets_in_their_order(
    typed: list[str],
    configured: list[str],
    exported: str | None,
    visible: list[tuple[int, int]],
    expected: str,
    origin: str,
    is_typed: bool,
) -> None:
    choice = choose_targets(typed, configured, exported, visible, EVERYTHING)
    assert ";".join(map(str, choice.targets)) == expected
    assert (choice.origin, choice.typed) == (origin, is_typed)


@pytest.mark.parametrize(
    ("exported", "visible"), [("8.6", [BLACKWELL]), ("9.0a", [AMPERE]), ("12.0", [AMPERE, BLACKWELL])]
)
def test_an_exported_list_that_misses_the_gpu_is_a_question(exported: str, visible: list[tuple[int, int]]) -> None:
    with pytest.raises(TargetsDisagree) as caught:
        choose_targets([], [], exported, visible, EVERYTHING)
    gpus = ";".join(f"{major}.{minor}" for major, minor in visible)
    assert caught.value.exit_code == 2
    assert exported in caught.value.message
    assert gpus in caught.value.message
    assert caught.value.hint == f"say which one you mean: --target '{gpus}' or --target '{exported}'"


def test_a_typed_target_need_not_run_here() -> None:
    assert choose_targets(["9.0"], [], "8.6", [BLACKWELL], EVERYTHING).typed


def test_nothing_to_go_by() -> None:
    with pytest.raises(NoTarget) as caught:
        choose_targets([], [], None, [], EVERYTHING)
    assert caught.value.exit_code == 5
    assert "--target 12.0" in caught.value.hint


@pytest.mark.parametrize(
    ("asked", "gpu", "probe", "device", "expected"),
    [
        (None, True, True, "cuda", "executed"),
        (None, True, False, "cuda", "imported"),
        (None, False, True, "cuda", "imported"),
        (None, True, True, "cpu", "imported"),
        ("built", True, True, "cuda", "built"),
        ("executed", False, False, "cuda", "executed"),
    ],
)
def test_required_grade(asked: Requirement | None, gpu: bool, probe: bool, device: str, expected: str) -> None:
    assert required_grade(asked, gpu_visible=gpu, has_probe=probe, device=device) == expected


@pytest.mark.parametrize(
    ("asked", "recipe", "expected", "seconds", "reason"),
    [
        (90.0, 1800, 4000.0, 90.0, "as asked for"),
        (None, 1800, None, 1800.0, "the recipe's"),
        (None, 1800, 600.0, 1800.0, "the recipe's"),
        (None, 1800, 700.4, 2101.0, "three times the expected 700 s"),
    ],
)
def test_deadline(asked: float | None, recipe: float, expected: float | None, seconds: float, reason: str) -> None:
    found = choose_deadline(asked, recipe, expected)
    assert (found.seconds, found.reason) == (seconds, reason)


@pytest.mark.parametrize(
    ("history", "targets", "units", "jobs", "expected"),
    [
        ([(1, 100.0)], 1, 9, 1, 100.0),
        ([(1, 100.0)], 3, 9, 1, 200.0),
        ([(3, 200.0), (1, 5.0)], 1, 9, 4, 100.0),
        ([], 1, 6, 2, 120.0),
        ([], 4, 6, 2, 300.0),
        ([], 1, 6, 0, 240.0),
        ([], 2, 0, 2, None),
    ],
)
def test_expected_time(
    history: list[tuple[int, float]], targets: int, units: int, jobs: int, expected: float | None
) -> None:
    assert expected_seconds(history, targets, units=units, seconds_per_unit=40.0, jobs=jobs) == expected
