"""When the smoke test runs, and what it counts for. No GPU is here: a function stands for the process that uses one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from buildkit.build import smoking
from buildkit.build.borrow import NO_LOAN
from buildkit.build.canary import RECIPE, Canary
from buildkit.build.context import Context
from buildkit.build.package import adhoc_recipe
from buildkit.build.places import Places
from buildkit.build.proof import Subject
from buildkit.build.smoking import smoke_stage
from buildkit.errors import NotCached, VerificationFailed
from buildkit.machine.arch import parse_targets
from buildkit.machine.gpus import Gpu
from buildkit.machine.interpreter import Interpreter
from buildkit.machine.torch_identity import NO_TORCH
from buildkit.progress import Silent
from buildkit.verify.smoke_stage import GpuBusy
from buildkit.verify.stages import Recorder
from buildkit.verify.verdict import Stage

GPU = Gpu(name="RTX 5070 Ti", uuid="GPU-1", capability=(12, 0), index=0)
OLD = Gpu(name="RTX 3060", uuid="GPU-0", capability=(8, 6), index=0)
WHEEL = Path("/store/canary.whl")
BUILT = Stage(name="canary", outcome="passed", seconds=1.0)


class Machine:
    """Answers for the CPU and for the GPU, and what was asked of it: the interpreters, by device."""

    def __init__(self, gpu_answer: dict[str, Any] | Exception | None = None) -> None:
        self.gpu_answer = gpu_answer if gpu_answer is not None else {"device": "cuda", "device_uuid": "GPU-1"}
        self.asked: list[tuple[str, str]] = []

    def run_smoke(self, python: Path, *, gpu: Gpu | None, **_rest: Any) -> dict[str, Any]:
        self.asked.append((gpu.uuid if gpu else "cpu", str(python)))
        if gpu is None:
            return {"device": "cpu", "checks": [1, 2, 3]}
        if isinstance(self.gpu_answer, Exception):
            raise self.gpu_answer
        return dict(self.gpu_answer)


def record(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    machine: Machine,
    *,
    recipe: str = "package",
    gpus: tuple[Gpu, ...] = (),
    device: str = "cuda",
    canary: Canary | None = None,
    made: Any = lambda folder, **_rest: folder / "python",
) -> list[Stage]:
    """The stages that are recorded."""
    monkeypatch.setattr(smoking, "run_smoke", machine.run_smoke)
    monkeypatch.setattr(smoking, "make_proof_environment", made)
    context = Context(
        places=Places(tmp_path),
        memo=cast(Any, None),
        store=cast(Any, None),
        index=cast(Any, None),
        reporter=Silent(),
        environ={},
        cwd=tmp_path,
    )
    monkeypatch.setattr(Context, "installer", lambda _self: None)
    subject = Subject(
        loaded=adhoc_recipe(recipe, tmp_path),
        targets=parse_targets(["12.0"]),
        device=cast(Any, device),
        python=cast(Interpreter, None),
        torch=NO_TORCH,
        loan=NO_LOAN,
        gpus=gpus,
        canary=canary,
    )
    recorder = Recorder()
    smoke_stage(subject, Path("/proof/python"), {}, tmp_path, context, recorder)
    return recorder.stages


def test_the_canary_runs_on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine()
    (stage,) = record(monkeypatch, tmp_path, machine, recipe=RECIPE)
    assert (stage.name, stage.outcome, stage.evidence) == ("smoke", "passed", {"device": "cpu", "checks": [1, 2, 3]})
    assert machine.asked == [("cpu", "/proof/python")]


def test_the_canary_runs_on_both_where_a_gpu_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (stage,) = record(monkeypatch, tmp_path, Machine(), recipe=RECIPE, gpus=(OLD, GPU))
    assert (stage.outcome, stage.evidence["device_uuid"]) == ("passed", "GPU-1")
    assert stage.evidence["cpu"]["checks"] == [1, 2, 3]


def test_a_busy_gpu_does_not_take_from_what_the_cpu_showed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    busy = GpuBusy("RTX 5070 Ti is busy", evidence="out of memory")
    (stage,) = record(monkeypatch, tmp_path, Machine(busy), recipe=RECIPE, gpus=(GPU,))
    assert (stage.outcome, stage.detail) == ("passed", "busy")
    assert stage.evidence["cpu"]["checks"] == [1, 2, 3]


def test_a_packages_toolchain_runs_on_the_gpu_in_an_environment_without_torch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine, asked = Machine(), []

    def made(folder: Path, **options: Any) -> Path:
        asked.append((options["wheel"], options["loan"].names))
        return folder / "python"

    canary = Canary(BUILT, "hit", wheel=WHEEL)
    (stage,) = record(monkeypatch, tmp_path, machine, gpus=(OLD, GPU), canary=canary, made=made)
    assert (stage.outcome, stage.evidence["device_uuid"]) == ("passed", "GPU-1")
    assert machine.asked == [("GPU-1", str(tmp_path / "smoke-env" / "python"))]
    assert asked == [(WHEEL, ())]


def test_a_busy_gpu_is_not_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    busy = GpuBusy("RTX 5070 Ti is busy", evidence="all CUDA-capable devices are busy or unavailable")
    canary = Canary(BUILT, "hit", wheel=WHEEL)
    (stage,) = record(monkeypatch, tmp_path, Machine(busy), gpus=(GPU,), canary=canary)
    assert (stage.outcome, stage.detail) == ("not-executed", "busy")
    assert stage.evidence == {"gpu": "RTX 5070 Ti", "line": busy.evidence}


def test_wrong_numbers_on_the_gpu_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    canary = Canary(BUILT, "hit", wheel=WHEEL)
    with pytest.raises(VerificationFailed, match="sphere"):
        record(monkeypatch, tmp_path, Machine(VerificationFailed("sphere: 3")), gpus=(GPU,), canary=canary)


def test_what_it_requires_and_is_not_to_be_had_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def made(_folder: Path, **_options: Any) -> Path:
        raise NotCached("not in the cache: numpy")

    canary = Canary(BUILT, "hit", wheel=WHEEL)
    (stage,) = record(monkeypatch, tmp_path, Machine(), gpus=(GPU,), canary=canary, made=made)
    assert (stage.outcome, stage.detail) == ("not-executed", "not in the cache: numpy")


@pytest.mark.parametrize(
    ("canary", "gpus", "device", "detail"),
    [
        (Canary(BUILT, "hit", wheel=WHEEL), (), "cuda", "no GPU visible"),
        (Canary(BUILT, "hit", wheel=WHEEL), (OLD,), "cuda", "no GPU here runs these targets"),
        (Canary(BUILT, "off"), (GPU,), "cuda", "there is no canary to run"),
        (None, (GPU,), "cuda", None),
        (Canary(BUILT, "hit", wheel=WHEEL), (GPU,), "cpu", None),
    ],
)
def test_where_it_cannot_run(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    canary: Canary | None,
    gpus: tuple[Gpu, ...],
    device: str,
    detail: str | None,
) -> None:
    machine = Machine()
    stages = record(monkeypatch, tmp_path, machine, gpus=gpus, device=device, canary=canary)
    assert [(stage.outcome, stage.detail) for stage in stages] == ([("not-executed", detail)] if detail else [])
    assert machine.asked == []
