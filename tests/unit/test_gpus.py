"""Finding GPUs: NVML, nvidia-smi, WSL2, Jetson, and CUDA_VISIBLE_DEVICES, each on a made-up machine.

``fake_nvml`` stands for nvidia-ml-py on a machine with these GPUs; the nvidia-smi scripts stand for the programs of the
drivers named in each test and print what those print. The root folder holds the files a driver leaves behind.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from buildkit.machine import visible_devices
from buildkit.machine.gpus import Gpus, visible_gpus
from buildkit.machine.visible_devices import Device


class FakeNvmlError(Exception):
    """Stands for pynvml.NVMLError."""


def fake_nvml(devices: Sequence[Device | None] = (), *, broken: str = "", old: bool = False) -> SimpleNamespace:
    """Stands for the pynvml module: devices in PCI bus order (None: a lost one), or an error when it is initialised.

    ``old``: its driver cannot tell capabilities. ``shut_down`` counts the calls of nvmlShutdown.
    """

    def initialise() -> None:
        if broken:
            raise FakeNvmlError(broken)

    def handle(index: int) -> Device:
        device = devices[index]
        if device is None:
            raise FakeNvmlError("GPU is lost")
        return device

    def capability(device: Device) -> tuple[int, int]:
        if old or device.capability is None:
            raise FakeNvmlError("Function Not Found")
        return device.capability

    def slots(device: Device) -> int:
        if not device.mig:
            raise FakeNvmlError("Not Supported")
        return 4

    def partition(device: Device, slot: int) -> str:
        filled = dict(zip((1, 3), device.mig, strict=False))  # slots 0 and 2 are empty
        if slot not in filled:
            raise FakeNvmlError("Not Found")
        return filled[slot]

    def shut_down() -> None:
        module.shut_down += 1

    module = SimpleNamespace(
        NVMLError=FakeNvmlError,
        shut_down=0,
        nvmlInit=initialise,
        nvmlShutdown=shut_down,
        nvmlSystemGetDriverVersion=lambda: b"580.65.06",
        nvmlDeviceGetCount=lambda: len(devices),
        nvmlDeviceGetHandleByIndex=handle,
        nvmlDeviceGetName=lambda device: device.name.encode(),
        nvmlDeviceGetUUID=lambda device: device if isinstance(device, str) else device.uuid,
        nvmlDeviceGetCudaComputeCapability=capability,
        nvmlDeviceGetMaxMigDeviceCount=slots,
        nvmlDeviceGetMigDeviceHandleByIndex=partition,
    )
    return module


A100 = Device("NVIDIA A100-SXM4-80GB", "GPU-aaaa1111-0000", (8, 0), ("MIG-1111", "MIG-2222"))
RTX = Device("NVIDIA GeForce RTX 4090", "GPU-bbbb2222-0000", (8, 9))
RTX_TOO = Device("NVIDIA GeForce RTX 4090", "GPU-bbbb3333-0000", (8, 9))
NEW = Device("NVIDIA GeForce RTX 5090", "GPU-cccc3333-0000", (12, 0))


@pytest.fixture(autouse=True)
def no_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default NVML's library is not there, whatever machine the tests run on."""
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(broken="NVML Shared Library Not Found"))


def use_nvml(monkeypatch: pytest.MonkeyPatch, root: Path, fake: SimpleNamespace) -> None:
    (root / "dev").mkdir(parents=True)
    (root / "dev/nvidiactl").touch()
    monkeypatch.setitem(sys.modules, "pynvml", fake)


def make_smi(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def seen(gpus: Gpus) -> list[tuple[int, tuple[int, int]]]:
    return [(gpu.index, gpu.capability) for gpu in gpus.gpus]


def test_a_machine_without_a_driver_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pynvml")
    assert visible_gpus({"PATH": str(tmp_path)}, root=tmp_path) == Gpus((), None, "none")
    assert "pynvml" not in sys.modules


def test_nvml_lists_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_nvml([A100, RTX])
    use_nvml(monkeypatch, tmp_path, fake)
    gpus = visible_gpus({}, root=tmp_path)
    assert (gpus.source, gpus.driver, gpus.notes) == ("nvml", "580.65.06", ())
    assert [(gpu.name, gpu.uuid) for gpu in gpus.gpus] == [(A100.name, A100.uuid), (RTX.name, RTX.uuid)]
    assert seen(gpus) == [(0, (8, 0)), (1, (8, 9))]
    assert fake.shut_down == 1


def test_an_nvml_without_capabilities_tells_them_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_nvml(monkeypatch, tmp_path, fake_nvml([A100], old=True))
    assert seen(visible_gpus({}, root=tmp_path)) == [(0, (8, 0))]


def test_a_lost_gpu_keeps_its_place_and_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_nvml(monkeypatch, tmp_path, fake_nvml([None, RTX]))
    gpus = visible_gpus({}, root=tmp_path)
    assert seen(gpus) == [(1, (8, 9))]
    assert "GPU is lost" in gpus.notes[0]


def test_a_driver_that_does_not_answer_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_nvml(monkeypatch, tmp_path, fake_nvml(broken="Driver/library version mismatch"))
    gpus = visible_gpus({}, root=tmp_path)
    assert gpus.gpus == ()
    assert gpus.source == "none"
    assert "version mismatch" in gpus.notes[0]


def test_nvidia_smi_answers_where_nvml_does_not(tmp_path: Path) -> None:
    # stands for the nvidia-smi of driver 580 with two GPUs
    rows = r"NVIDIA A100-SXM4-80GB, GPU-aaaa1111-0000, 8.0, 580.65.06\nNVIDIA B200, GPU-dddd, 10.0, 580.65.06\n"
    make_smi(tmp_path / "bin/nvidia-smi", f"printf '{rows}'")
    gpus = visible_gpus({"PATH": str(tmp_path / "bin")}, root=tmp_path)
    assert (gpus.source, gpus.driver, gpus.notes) == ("nvidia-smi", "580.65.06", ())
    assert seen(gpus) == [(0, (8, 0)), (1, (10, 0))]


def test_a_470_driver_knows_no_compute_cap(tmp_path: Path) -> None:
    # stands for the nvidia-smi of driver 470, which refuses the field
    make_smi(
        tmp_path / "bin/nvidia-smi",
        """case "$1" in
*compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2;;
*) echo 'Tesla V100-SXM2-16GB, GPU-eeee, 470.256.02'; echo 'Graphics Device, GPU-ffff, 470.256.02';;
esac""",
    )
    gpus = visible_gpus({"PATH": str(tmp_path / "bin")}, root=tmp_path)
    assert gpus.driver == "470.256.02"
    assert seen(gpus) == [(0, (7, 0))]
    assert "Graphics Device" in gpus.notes[0]
    assert "--target" in gpus.notes[0]


def test_an_nvidia_smi_without_a_driver_is_a_note(tmp_path: Path) -> None:
    # stands for the nvidia-smi of a CUDA image that was started without GPUs
    make_smi(
        tmp_path / "bin/nvidia-smi",
        "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9",
    )
    gpus = visible_gpus({"PATH": str(tmp_path / "bin")}, root=tmp_path)
    assert (gpus.gpus, gpus.source) == ((), "none")
    assert "communicate with the NVIDIA driver" in " ".join(gpus.notes)


def test_an_nvidia_smi_that_hangs_is_asked_once(tmp_path: Path) -> None:
    # stands for the nvidia-smi of a driver that lost its GPU: it waits for what never comes
    os.mkfifo(tmp_path / "never")
    asked = tmp_path / "asked"
    make_smi(tmp_path / "bin/nvidia-smi", f"echo \"$1\" >>'{asked}'; read line <'{tmp_path}/never'")
    gpus = visible_gpus({"PATH": str(tmp_path / "bin")}, root=tmp_path, patience=0.2)
    assert gpus.silent == f"{tmp_path}/bin/nvidia-smi did not answer within 0.2 s."
    assert gpus.silent in gpus.notes
    assert "name,uuid,driver_version" not in (asked.read_text("utf-8") if asked.exists() else "")


def test_what_is_no_version_of_a_driver_is_passed_over(tmp_path: Path) -> None:
    garbage = r"\377\376, banana, 99.99.99, 1e9\n"
    good = r"NVIDIA A100-SXM4-80GB, GPU-aaaa, 8.0, 580.65.06\n"
    make_smi(tmp_path / "bin/nvidia-smi", f"printf '{garbage}{good}'")
    gpus = visible_gpus({"PATH": str(tmp_path / "bin")}, root=tmp_path)
    assert (gpus.driver, seen(gpus)) == ("580.65.06", [(1, (8, 0))])
    make_smi(tmp_path / "bin/nvidia-smi", "echo 'NVIDIA A100-SXM4-80GB, GPU-aaaa, 8.0, [N/A]'")
    gpus = visible_gpus({"PATH": str(tmp_path / "bin")}, root=tmp_path)
    assert (gpus.driver, seen(gpus)) == (None, [(0, (8, 0))])
    assert "no version of the driver: it says '[N/A]'" in gpus.notes[0]


def test_in_wsl2_its_own_nvidia_smi_wins_over_the_one_on_path(tmp_path: Path) -> None:
    make_smi(tmp_path / "usr/lib/wsl/lib/nvidia-smi", "echo 'NVIDIA GeForce RTX 4090, GPU-bbbb, 8.9, 581.15'")
    make_smi(tmp_path / "bin/nvidia-smi", "exit 9")  # stands for a distribution's own, which fails in WSL2
    gpus = visible_gpus({"PATH": str(tmp_path / "bin")}, root=tmp_path)
    assert (gpus.source, gpus.driver) == ("nvidia-smi", "581.15")
    assert seen(gpus) == [(0, (8, 9))]


@pytest.mark.parametrize(
    ("compatible", "capability"),
    [
        ("nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0", (8, 7)),
        ("nvidia,p3834-0008\0nvidia,tegra264\0", (11, 0)),
        ("nvidia,jetson-xavier\0nvidia,tegra194\0", (7, 2)),
        ("nvidia,p3450-0000\0nvidia,tegra210\0", (5, 3)),
    ],
)
def test_a_jetson_is_told_by_its_device_tree(tmp_path: Path, compatible: str, capability: tuple[int, int]) -> None:
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_text(compatible, encoding="utf-8")
    (tree / "model").write_text("NVIDIA Jetson Developer Kit\0", encoding="utf-8")
    gpus = visible_gpus({}, root=tmp_path)
    assert gpus.source == "jetson"
    assert (gpus.gpus[0].name, gpus.gpus[0].uuid) == ("NVIDIA Jetson Developer Kit", "")
    assert seen(gpus) == [(0, capability)]


def test_a_jetson_that_cannot_be_told_asks_for_the_target(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.0\n", encoding="utf-8")
    gpus = visible_gpus({}, root=tmp_path)
    assert gpus.gpus == ()
    assert "--target" in gpus.notes[0]
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_text("nvidia,tegra999\0", encoding="utf-8")
    assert "not known" in visible_gpus({}, root=tmp_path).notes[0]


@pytest.mark.parametrize(
    ("variable", "positions"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("0", [0]),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("1,7,0", [1]),
        ("0,-1,1", [0]),
        ("NoDevFiles", []),
        ("1gpu,2", [1, 2]),
        ("1,1", []),
        ("GPU-aaaa", [0]),
        ("GPU-cccc,GPU-aaaa1111-0000", [2, 0]),
        ("GPU-", []),
        ("GPU-zzzz,GPU-aaaa", []),
        ("GPU-aaaa,0", [0]),
        ("0,GPU-aaaa", [0]),
        ("GPU-aaaa,GPU-aaaa1", []),
        ("MIG-2222", [0]),
        ("MIG-1111,MIG-2222", [0]),
        ("MIG-GPU-aaaa1111-0000/1/0", [0]),
        ("MIG-9999", []),
        ("MIG-1111,GPU-aaaa", [0]),
    ],
)
def test_cuda_visible_devices(variable: str | None, positions: list[int]) -> None:
    assert visible_devices.choose(variable, [A100, RTX, NEW])[0] == positions


def test_a_uuid_prefix_of_two_gpus_is_invalid() -> None:
    chosen, notes = visible_devices.choose("GPU-bbbb", [RTX, RTX_TOO])
    assert chosen == []
    assert "'GPU-bbbb'" in notes[0]


def test_hidden_gpus_are_explained() -> None:
    assert "'7'" in visible_devices.choose("0,7", [RTX])[1][0]
    assert "twice" in visible_devices.choose("0,0", [RTX])[1][0]
    assert visible_devices.choose("", [RTX])[1] == []


def test_indices_are_doubted_only_where_the_order_matters() -> None:
    assert "CUDA_DEVICE_ORDER" in visible_devices.choose("0", [A100, RTX])[1][0]
    assert visible_devices.choose("0", [A100, RTX], pci_order=True)[1] == []
    assert visible_devices.choose("0", [RTX, RTX_TOO])[1] == []
    assert visible_devices.choose("GPU-aaaa", [A100, RTX])[1] == []


def test_the_variables_are_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_nvml(monkeypatch, tmp_path, fake_nvml([A100, RTX, NEW]))
    chosen = visible_gpus({"CUDA_VISIBLE_DEVICES": "2,0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, root=tmp_path)
    assert seen(chosen) == [(2, (12, 0)), (0, (8, 0))]
    assert chosen.notes == ()
    hidden = visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, root=tmp_path)
    assert (hidden.gpus, hidden.source, hidden.driver) == ((), "nvml", "580.65.06")
    assert seen(visible_gpus({"CUDA_VISIBLE_DEVICES": "MIG-2222"}, root=tmp_path)) == [(0, (8, 0))]


def test_mig_partitions_by_nvidia_smi(tmp_path: Path) -> None:
    # stands for the nvidia-smi of driver 580 with an A100 cut in two and an A30
    make_smi(
        tmp_path / "bin/nvidia-smi",
        """if [ "$1" = -L ]; then
cat <<'TEXT'
GPU 0: NVIDIA A30 (UUID: GPU-dddd)
GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-aaaa)
  MIG 3g.40gb     Device  0: (UUID: MIG-1111)
  MIG 3g.40gb     Device  1: (UUID: MIG-2222)
TEXT
else
echo 'NVIDIA A30, GPU-dddd, 8.0, 580.65.06'
echo 'NVIDIA A100-SXM4-80GB, GPU-aaaa, 8.0, 580.65.06'
fi""",
    )
    environ = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": "MIG-2222"}
    assert seen(visible_gpus(environ, root=tmp_path)) == [(1, (8, 0))]
