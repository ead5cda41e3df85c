"""What a probe's run proves, judged from its runner's answer. The answers stand for those of a machine with a GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from buildkit.errors import ProbeFailed
from buildkit.machine.arch import parse_targets
from buildkit.machine.gpus import Gpu
from buildkit.verify.device_code import ObjectCode, UnitCode
from buildkit.verify.kernels import OwnKernels
from buildkit.verify.probe_answer import ProbeAnswer
from buildkit.verify.probe_request import probe_devices, probe_environment
from buildkit.verify.probes import Ending, Judged, is_device_file, judge_probe
from buildkit.verify.verdict import Stage, ran_on_gpu

UUID = "11111111-2222-3333-4444-555555555555"
HOPPER = Gpu(name="NVIDIA H200", uuid=f"GPU-{UUID}", capability=(9, 0), index=0)
CHECK = {"name": "sum", "expected": 3.0, "got": 3.0, "tolerance": 0.0}
OWN = "add_one(float*, long)"
TORCHS = "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float> >(int, float)"
GIB = 1 << 30
STARTED = {"name": "NVIDIA H200", "uuid": UUID, "capability": "9.0", "free": 100 * GIB, "total": 140 * GIB}
WELL: dict[str, Any] = {
    "step": "exit",
    "done": True,
    "torch": "2.13.0+cu130",
    "gpu": STARTED,
    "driver": {"libraries": ["/usr/lib/libcuda.so.580.65"], "nodes": ["/dev/nvidiactl", "/dev/nvidia0"]},
    "checks": [CHECK],
    "kernels": [{"name": OWN, "launches": 3, "microseconds": 9.5}, {"name": TORCHS, "launches": 1, "microseconds": 1}],
    "recorder": "works",
}


class FastPackage(OwnKernels):
    """One object with one kernel, and the code that it holds; stands for files that nvcc made (see integration)."""

    def __init__(self, elf: str = "9.0", ptx: str = "") -> None:
        unit = UnitCode("one", parse_targets([elf]) if elf else (), parse_targets([ptx]) if ptx else ())
        self._code = ObjectCode("fast/_C.so", unit.elf, unit.ptx, (unit,))
        self.names = {"fast/_C.so": frozenset(["_Z7add_onePfl"])}
        self.torch_texts = (b"\0_ZN2at6native4fillEv\0",)

    def code(self, shown: str) -> ObjectCode:
        assert shown == "fast/_C.so"
        return self._code


def judged(ending: Ending | None = None, own: OwnKernels | None = None, **changes: Any) -> Judged:
    """The judgement on a run that went well on a GPU, but for what is changed."""
    return judge_probe(
        ProbeAnswer.model_validate({**WELL, **changes}),
        ending or Ending(0),
        gpu=HOPPER,
        driver="580.65",
        own=own or FastPackage(),
        is_device=lambda path: path.startswith("/dev/nvidia"),
    )


def error(message: str, *, kind: str = "RuntimeError", memory: dict[str, int] | None = None) -> dict[str, Any]:
    return {"type": kind, "message": message, "line": f"{kind}: {message}", "memory": memory}


def executed(found: Judged) -> bool:
    """Whether a stage made of it would give the grade."""
    return ran_on_gpu(Stage(name="probe", outcome=found.outcome, seconds=1.0, evidence=found.evidence))


def test_its_own_kernels_on_the_gpu_are_executed() -> None:
    found = judged()
    assert found.failure is None
    assert executed(found)
    assert found.detail == "on NVIDIA H200: by SASS of 9.0"
    assert found.evidence["kernels"] == [{"name": OWN, "object": "fast/_C.so", "launches": 3}]
    assert found.evidence["other_kernels"] == 1
    assert found.evidence["ran"] == [{"object": "fast/_C.so", "by": "sass", "target": "9.0"}]
    assert {k: found.evidence[k] for k in ("device", "device_uuid", "capability", "driver")} == {
        "device": "NVIDIA H200",
        "device_uuid": HOPPER.uuid,
        "capability": "9.0",
        "driver": "580.65",
    }
    json.dumps(found.evidence, allow_nan=False)


def test_a_wheel_for_another_series_ran_by_jit_and_says_so() -> None:
    found = judged(own=FastPackage("8.6", "8.6"))
    assert executed(found)
    assert found.detail == "on NVIDIA H200: by JIT from PTX of 8.6"
    assert found.evidence["ran"] == [{"object": "fast/_C.so", "by": "ptx-jit", "target": "8.6"}]


def test_a_probe_that_calls_torch_only_is_not_executed() -> None:
    found = judged(kernels=[WELL["kernels"][1]])
    assert (found.outcome, found.failure) == ("not-executed", None)
    assert not executed(found)
    assert "none of the 1 kernels recorded is the package's own (void at::native::vectorized" in found.detail


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        # A library can claim a GPU and kernels of any name; it cannot make up a device of the kernel's driver.
        ({"driver": {"libraries": ["/tmp/libcuda.so.1"], "nodes": []}}, "was a library only"),
        ({"driver": {"libraries": ["/tmp/libcuda.so.1"], "nodes": ["/tmp/nvidia0"]}}, "was a library only"),
        ({"driver": None}, "does not say which GPU"),
        ({"gpu": None}, "does not say which GPU"),
        ({"gpu": {**STARTED, "capability": "12.0"}}, "CUDA says that its GPU is a NVIDIA H200 (12.0)"),
        ({"gpu": {**STARTED, "uuid": "99999999-2222-3333-4444-555555555555"}}, "it ran on another GPU"),
        ({"kernels": [], "recorder": "torch.profiler has no CUPTI here"}, "no kernel could be recorded here: torch.pr"),
        ({"kernels": [], "recorder": "works"}, "none of the 0 kernels"),
    ],
)
def test_what_is_not_certain_is_not_executed(changes: dict[str, Any], why: str) -> None:
    found = judged(**changes)
    assert (found.outcome, found.failure) == ("not-executed", None)
    assert not executed(found)
    assert found.detail.startswith("every check holds, but ")
    assert why in found.detail


def test_a_partition_of_a_gpu_has_a_uuid_of_its_own() -> None:
    assert executed(judged(gpu={**STARTED, "uuid": f"MIG-{UUID[::-1]}"}))
    assert executed(judged(gpu={**STARTED, "uuid": ""}))
    assert executed(judged(gpu={**STARTED, "uuid": UUID.upper()}))


def test_files_of_this_machine_are_told_from_devices(tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    assert not is_device_file(str(tmp_path / "nvidia0"))
    assert not is_device_file(str(tmp_path / "nothing"))
    assert not is_device_file("/dev/nvidia\0")
    assert is_device_file("/dev/null")


@pytest.mark.parametrize(
    "changes",
    [
        {"checks": [{**CHECK, "got": 4.0}]},
        {"checks": [CHECK, {**CHECK, "name": "mean", "got": float("nan")}]},
        {"checks": [{**CHECK, "got": "3.0"}]},
        {"checks": [{**CHECK, "expected": [1, 2], "got": [1]}]},
        {"checks": []},
        {"done": False, "step": "after check 'sum'", "error": error("CUDA error: an illegal memory access")},
        {"done": False, "step": "after check 'sum'", "error": error("no kernel image is available for execution")},
        {"done": False, "step": "after check 'sum'"},
    ],
)
def test_wrong_values_and_crashes_fail(changes: dict[str, Any]) -> None:
    found = judged(**changes)
    assert found.outcome == "failed"
    assert not executed(found)
    with pytest.raises(ProbeFailed):
        found.check()


def test_a_wrong_value_is_named_with_both_values() -> None:
    found = judged(checks=[CHECK, {**CHECK, "name": "mean", "got": 3.5, "tolerance": 0.25}])
    assert found.failure is not None
    assert found.failure.message == "the probe failed on NVIDIA H200: mean"
    assert found.failure.evidence == "expected 3.0 (within 0.25), got 3.5"
    assert [check["passed"] for check in found.evidence["checks"]] == [True, False]
    assert found.evidence["checks"][1]["difference"] == 0.5


def test_how_a_process_died_is_said() -> None:
    found = judged(Ending(-11, ("Fatal Python error: Segmentation fault",)), done=False, step="after check 'sum'")
    assert found.failure is not None
    assert found.failure.message == "Python died of SIGSEGV at after check 'sum' on NVIDIA H200"
    late = judged(Ending(-9, (), late="600 s"), done=False, step="after check 'sum'")
    assert late.failure is not None
    assert "did not end within 600 s on NVIDIA H200" in late.failure.message
    ended = judged(Ending(3))
    assert ended.failure is not None
    assert "ended with exit status 3" in ended.failure.message


START = {"step": "the start of the GPU", "done": False, "gpu": None, "driver": None, "checks": [], "kernels": []}
FULL = "CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 has a total capacity of 139 GiB of which 1 MiB is free."
EXCLUSIVE = "CUDA error: CUDA-capable device(s) is/are busy or unavailable"
LATER: dict[str, Any] = {"step": "after check 'sum'", "done": False}


@pytest.mark.parametrize(
    "changes",
    [
        {**START, "error": error(FULL, kind="torch.OutOfMemoryError")},
        {**START, "error": error("CUDA error: all CUDA-capable devices are busy or unavailable")},
        {**START, "error": error(EXCLUSIVE)},
        {**LATER, "error": error(EXCLUSIVE)},
        # Little was free from the beginning.
        {**LATER, "gpu": {**STARTED, "free": GIB}, "error": error("CUDA error: out of memory")},
        # Somebody else took it meanwhile.
        {**LATER, "error": error("CUBLAS_STATUS_ALLOC_FAILED", memory={"free": GIB, "held": GIB})},
    ],
)
def test_a_full_or_exclusive_gpu_is_busy_and_never_failed(changes: dict[str, Any]) -> None:
    found = judged(**changes)
    assert (found.outcome, found.failure) == ("not-executed", None)
    assert found.detail.startswith("busy: ")


def test_a_package_that_eats_an_empty_gpu_fails() -> None:
    memory = {"free": GIB, "held": 99 * GIB}
    found = judged(**LATER, error=error(FULL, kind="torch.OutOfMemoryError", memory=memory))
    assert found.outcome == "failed"
    assert judged(**LATER, error=error(FULL)).outcome == "failed"


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({**START, "error": error("The NVIDIA driver on your system is too old")}, Ending(1)),
        ({**START, "error": error("CUDA unknown error", kind="torch.AcceleratorError")}, Ending(1)),
        (START, Ending(-11)),
        (START, Ending(-9, (), late="600 s")),
    ],
)
def test_what_fails_before_the_package_is_loaded_is_not_its_fault(changes: dict[str, Any], ending: Ending) -> None:
    found = judged(ending, **changes)
    assert (found.outcome, found.failure) == ("not-executed", None)
    assert found.detail.startswith("CUDA does not start here: ")


def test_on_the_cpu_the_checks_decide_and_nothing_is_executed() -> None:
    answer = ProbeAnswer.model_validate({**WELL, "gpu": None, "driver": None, "kernels": [], "recorder": "off"})
    found = judge_probe(answer, Ending(0, peak_memory=5))
    assert (found.outcome, found.evidence["device"], found.evidence["peak_memory"]) == ("passed", "cpu", 5)
    assert not executed(found)
    wrong = answer.model_copy(update={"checks": ({**CHECK, "got": 2.0},)})
    assert judge_probe(wrong, Ending(0)).outcome == "failed"


def test_long_lists_are_shortened_for_the_verdict() -> None:
    values = [float(number) for number in range(1000)]
    found = judged(checks=[{**CHECK, "expected": values, "got": [*values[:-1], float("inf")]}])
    (check,) = found.evidence["checks"]
    assert check["got"][-1] == "and 984 more"
    assert (check["difference"], check["passed"]) == ("inf", False)
    json.dumps(found.evidence, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("", ("cuda",)),
        ('DEVICES = ("cpu", "cuda")\n', ("cpu", "cuda")),
        ('import torch\nDEVICES = ["cpu"]\n', ("cpu",)),
    ],
)
def test_the_devices_of_a_probe_are_read_without_running_it(
    tmp_path: Path, text: str, devices: tuple[str, ...]
) -> None:
    (tmp_path / "probe.py").write_text(text)
    assert probe_devices(tmp_path / "probe.py") == devices


@pytest.mark.parametrize(
    "text", ['DEVICES = "cuda"\n', "DEVICES = ()\n", 'DEVICES = ("tpu",)\n', "DEVICES = f()\n", "((\n"]
)
def test_devices_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "probe.py").write_text(text)
    with pytest.raises(ProbeFailed):
        probe_devices(tmp_path / "probe.py")


def test_the_process_sees_the_gpu_that_is_named_and_nothing_that_changes_what_runs(tmp_path: Path) -> None:
    shell = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "1", "CUDA_FORCE_PTX_JIT": "1", "CUDA_INJECTION64_PATH": "/x.so"}
    found = probe_environment(shell, HOPPER, tmp_path)
    assert found["CUDA_VISIBLE_DEVICES"] == HOPPER.uuid
    assert not {"CUDA_FORCE_PTX_JIT", "CUDA_INJECTION64_PATH"} & found.keys()
    assert (found["PATH"], found["HOME"]) == ("/bin", str(tmp_path))
    assert probe_environment(shell, None, tmp_path)["CUDA_VISIBLE_DEVICES"] == ""
    partition = {**shell, "CUDA_VISIBLE_DEVICES": "MIG-1"}
    assert probe_environment(partition, HOPPER, tmp_path)["CUDA_VISIBLE_DEVICES"] == "MIG-1"
    jetson = Gpu(name="Orin", uuid="", capability=(8, 7), index=0)
    assert probe_environment(shell, jetson, tmp_path)["CUDA_VISIBLE_DEVICES"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in probe_environment({"PATH": "/bin"}, jetson, tmp_path)
