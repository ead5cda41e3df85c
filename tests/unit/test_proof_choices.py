"""Which GPU proves a wheel, and which grade counts where a GPU or its driver is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.build.borrow import sound_distributions
from buildkit.build.probing import gpu_for
from buildkit.build.proof import required_here
from buildkit.build.verification import _device
from buildkit.machine.arch import parse_targets
from buildkit.machine.gpus import Gpu
from buildkit.plan.request import Request
from buildkit.verify.verdict import Grade

OLD = Gpu(name="RTX 3060", uuid="GPU-old", capability=(8, 6), index=0)
NEW = Gpu(name="RTX 5070 Ti", uuid="GPU-new", capability=(12, 0), index=1)


@pytest.mark.parametrize(
    ("targets", "gpus", "expected"),
    [
        (["12.0"], [OLD, NEW], NEW),
        (["8.6"], [NEW, OLD], OLD),
        (["8.6+PTX"], [NEW], NEW),
        (["12.0"], [OLD], None),
        (["12.0"], [], None),
        ([], [OLD, NEW], OLD),
    ],
)
def test_the_probe_runs_on_a_gpu_that_the_wheel_is_for(
    targets: list[str], gpus: list[Gpu], expected: Gpu | None
) -> None:
    assert gpu_for(parse_targets(targets) if targets else (), gpus) == expected


@pytest.mark.parametrize(
    ("require", "asked", "missing", "expected"),
    [
        ("imported", None, True, "audited"),
        ("imported", None, False, "imported"),
        ("imported", "imported", True, "imported"),
        ("executed", None, True, "executed"),
    ],
)
def test_a_missing_driver_lowers_only_what_was_not_typed(
    require: Grade, asked: Grade | None, missing: bool, expected: Grade
) -> None:
    assert required_here(require, asked, missing=missing) == expected


@pytest.mark.parametrize(
    ("device", "targets", "facts", "expected"),
    [
        ("auto", (), {"device": "cpu"}, "cpu"),
        ("auto", ("12.0",), {"device": "cpu"}, "cuda"),
        ("cuda", (), {"device": "cpu"}, "cuda"),
        ("cpu", (), {"device": "cuda"}, "cpu"),
        ("auto", (), {}, "cuda"),
    ],
)
def test_a_wheel_is_not_cpu_only_because_it_says_so(
    device: str, targets: tuple[str, ...], facts: dict[str, str], expected: str
) -> None:
    request = Request("wheel", device=device, targets=targets)  # type: ignore[arg-type]
    assert _device(request, facts) == expected


def test_leftovers_of_an_uninstall_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "numpy-1.2.dist-info").mkdir()
    (tmp_path / "sound-1.0.dist-info").mkdir()
    (tmp_path / "sound-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: sound\nVersion: 1.0\n")
    assert [found.name for found in sound_distributions([tmp_path])] == ["sound"]
