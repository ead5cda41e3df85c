"""``--require executed`` where it cannot be had is refused before anything is built, with what would satisfy it."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit.errors import BelowRequirement
from buildkit.machine.arch import parse_targets
from buildkit.machine.gpus import Gpu
from buildkit.machine.names import gpus_that_run
from buildkit.plan.provable import refuse_unprovable, suitable

AMPERE = Gpu(name="NVIDIA GeForce RTX 3060", uuid="GPU-1", capability=(8, 6), index=0)
WELL: dict[str, Any] = {
    "device": "cuda",
    "targets": parse_targets(["8.6"]),
    "gpus": [AMPERE],
    "has_probe": True,
    "package": "sample",
}


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"device": "cpu"}, "which a CPU build never is", "--device cuda"),
        ({"has_probe": False}, "needs a probe, and sample has none", "write-a-recipe.md"),
        ({"gpus": []}, "needs a GPU that runs 8.6, and no GPU is visible here", "8.6 (A2, A10, A10G, ...) or 8.9 (L2,"),
        (
            {"targets": parse_targets(["9.0;12.0"])},
            "the GPUs here are others: NVIDIA GeForce RTX 3060 (8.6)",
            "9.0 (H20, H100, H200, ...) or 12.0 (GeForce RTX 5050",
        ),
    ],
)
def test_what_cannot_be_shown_is_refused(changes: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(BelowRequirement) as caught:
        refuse_unprovable("executed", **{**WELL, **changes})
    assert caught.value.exit_code == 9
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "--require imported" in caught.value.hint


def test_what_can_be_shown_or_was_not_asked_for_passes() -> None:
    refuse_unprovable("executed", **WELL)
    refuse_unprovable("executed", **{**WELL, "targets": parse_targets(["8.0+PTX"])})
    refuse_unprovable("imported", **{**WELL, "gpus": []})
    refuse_unprovable(None, **{**WELL, "gpus": [], "has_probe": False})


def test_the_gpus_that_would_do_are_named() -> None:
    assert [device for device, _ in gpus_that_run(parse_targets(["12.0"]))] == [(12, 0), (12, 1)]
    assert [device for device, _ in gpus_that_run(parse_targets(["8.7"]))] == [(8, 7)]
    assert (9, 0) in [device for device, _ in gpus_that_run(parse_targets(["8.6+PTX"]))]
    assert suitable(parse_targets(["12.1"])) == "a GPU of compute capability 12.1 (GB10)"
    assert suitable(()) == "a GPU that no table of ours names yet"
