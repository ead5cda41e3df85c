"""The GPUs that a CUDA program started here would see.

Asked in this order: NVML, nvidia-smi (in WSL2 that of ``/usr/lib/wsl/lib``: a distribution's own one fails there),
Jetson's files. NVML and nvidia-smi list by PCI bus, CUDA fastest first: GPUs are matched by UUID, never by
position. Nothing is imported or started where no file of a driver is there, so the answer "none" takes a few
milliseconds.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.machine.facts import gpu_table
from buildkit.machine.names import capability_of_device
from buildkit.machine.target import Capability, read_notation
from buildkit.machine.visible_devices import Device, choose
from buildkit.process import ProgramFailed, ProgramTimedOut, run

_SMI_SECONDS = 20.0
_LEAST_SECONDS = 0.05
_DRIVER = re.compile(r"[0-9]{3,4}(\.[0-9]+)+")
_NVML = "libnvidia-ml.so.1"
_SIGNS = ("dev/nvidiactl", "dev/nvidia0", "proc/driver/nvidia/version", "dev/dxg", "usr/lib/wsl/lib/libcuda.so.1")


@dataclass(frozen=True)
class Gpu:
    """One visible GPU. ``index`` is its position in NVML's and nvidia-smi's list; a Jetson's has no UUID."""

    name: str
    uuid: str
    capability: Capability
    index: int


@dataclass(frozen=True)
class Gpus:
    """The visible GPUs in CUDA_VISIBLE_DEVICES' order, the driver's version, and who answered.

    ``source`` is ``nvml``, ``nvidia-smi``, ``jetson`` or ``none``; ``notes`` say what was hidden or not understood.
    ``silent`` is the one of them that says who did not answer in time; empty where everybody did.
    """

    gpus: tuple[Gpu, ...]
    driver: str | None
    source: str
    notes: tuple[str, ...] = ()
    silent: str = ""


@dataclass(frozen=True)
class _Answer:
    devices: tuple[Device, ...]
    driver: str | None = None
    notes: tuple[str, ...] = ()
    silent: str = ""


def visible_gpus(environ: Mapping[str, str], *, root: Path = Path("/"), patience: float = _SMI_SECONDS) -> Gpus:
    """The GPUs here, after CUDA_VISIBLE_DEVICES. Never raises: what does not answer becomes a note.

    ``patience`` in seconds: what NVML leaves of it, nvidia-smi gets for all that it is asked.
    """
    notes: list[str] = []
    driver, silent = None, ""
    for source, answer in _answers(environ, root, patience):
        driver = driver or answer.driver
        if answer.devices:  # why an earlier source did not answer is of no interest then
            return _visible(answer, driver, source, environ)
        notes += answer.notes
        silent = silent or answer.silent
    return Gpus((), driver, "none", tuple(notes), silent)


def driver_here(root: Path = Path("/")) -> bool:
    """Whether a file of NVIDIA's driver is here; without one, nothing need be asked."""
    return any((root / sign).exists() for sign in _SIGNS)


def _answers(environ: Mapping[str, str], root: Path, patience: float) -> Iterator[tuple[str, _Answer]]:
    smi, deadline = _nvidia_smi(environ, root), time.monotonic() + patience
    if smi is not None or driver_here(root):
        yield "nvml", _ask_nvml(root)
    if smi is not None:
        yield "nvidia-smi", _ask_nvidia_smi(smi, environ, patience, deadline)
    yield "jetson", _read_jetson(root)


def _visible(answer: _Answer, driver: str | None, source: str, environ: Mapping[str, str]) -> Gpus:
    devices = answer.devices
    pci_order = environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    positions, hidden = choose(environ.get("CUDA_VISIBLE_DEVICES"), devices, pci_order=pci_order)
    gpus = []
    for position in positions:
        device = devices[position]
        if device.capability is None:
            hidden.append(f"{device.name}: its compute capability is not known; name it with --target.")
        else:
            gpus.append(Gpu(device.name, device.uuid, device.capability, position))
    return Gpus(tuple(gpus), driver, source, (*hidden, *answer.notes))


def _ask_nvml(root: Path) -> _Answer:
    """NVML through nvidia-ml-py, which loads libnvidia-ml.so.1."""
    import pynvml

    _load_nvml(root)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return _Answer((), notes=(f"NVML does not answer: {error}",))
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        count = pynvml.nvmlDeviceGetCount()
        read = [_nvml_device(pynvml, index) for index in range(count)]
    except pynvml.NVMLError as error:
        return _Answer((), notes=(f"NVML does not list the GPUs: {error}",))
    finally:
        pynvml.nvmlShutdown()
    return _Answer(tuple(read), driver)


def _load_nvml(root: Path) -> None:
    """Load WSL2's library, which its linker's settings may miss, or that of a root that is not this system's.

    A loaded library is found again by its name (SONAME) when nvidia-ml-py asks for it.
    """
    places = [root / "usr/lib/wsl/lib" / _NVML]
    if root != Path("/"):
        places += sorted((root / "usr/lib").glob(f"*/{_NVML}"))
    found = next((place for place in places if place.is_file()), None)
    if found is not None:
        import ctypes

        with contextlib.suppress(OSError):  # then NVML says itself why it does not answer
            ctypes.CDLL(str(found))


def _nvml_device(pynvml: Any, index: int) -> Device:
    """One GPU; a lost or forbidden one keeps its place in the list, without a capability."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        name = _text(pynvml.nvmlDeviceGetName(handle))
        uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
    except pynvml.NVMLError as error:
        return Device(f"GPU {index} ({error})", "", None)
    try:
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    except pynvml.NVMLError:
        return Device(name, uuid, capability_of_device(name))
    return Device(name, uuid, (int(major), int(minor)), _nvml_partitions(pynvml, handle))


def _nvml_partitions(pynvml: Any, handle: object) -> tuple[str, ...]:
    """UUIDs of the MIG partitions; empty for GPUs without MIG."""
    try:
        slots = range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    except pynvml.NVMLError:
        return ()
    return tuple(uuid for slot in slots if (uuid := _nvml_partition(pynvml, handle, slot)) is not None)


def _nvml_partition(pynvml: Any, handle: object, slot: int) -> str | None:
    try:
        return _text(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot)))
    except pynvml.NVMLError:  # an empty slot
        return None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _nvidia_smi(environ: Mapping[str, str], root: Path) -> Path | None:
    of_wsl = root / "usr/lib/wsl/lib/nvidia-smi"
    if of_wsl.is_file():
        return of_wsl
    on_path = shutil.which("nvidia-smi", path=environ.get("PATH", ""))
    return Path(on_path) if on_path else None


def _ask_nvidia_smi(smi: Path, environ: Mapping[str, str], patience: float, deadline: float) -> _Answer:
    """One query; 470 drivers refuse ``compute_cap``, so their GPUs are told by name."""
    try:
        try:
            lines = _query(smi, "name,uuid,compute_cap,driver_version", environ, deadline)
        except ProgramTimedOut:  # it would not answer a shorter question either
            raise
        except ProgramFailed as error:
            if "compute_cap" not in error.output:
                raise
            lines = _query(smi, "name,uuid,driver_version", environ, deadline)
        partitions = _listed_partitions(smi, environ, deadline)
    except ProgramTimedOut:
        silent = f"{smi} did not answer within {patience:g} s."
        return _Answer((), notes=(silent,), silent=silent)
    except ProgramFailed as error:
        return _Answer((), notes=(f"{smi} does not answer: {error.evidence or error.message}",))
    rows = [[cell.strip() for cell in line.split(",")] for line in lines if line.count(",") >= 2]
    devices = tuple(Device(row[0], row[1], _row_capability(row), partitions.get(row[1], ())) for row in rows)
    return _Answer(devices, *_told_driver(smi, [row[-1] for row in rows]))


def _told_driver(smi: Path, cells: list[str]) -> tuple[str | None, tuple[str, ...]]:
    """The first that is a driver's version, such as ``570.86.15``; else what is to be said of it."""
    driver = next((cell for cell in cells if _DRIVER.fullmatch(cell)), None)
    if driver is None and cells:
        return None, (f"{smi} tells no version of the driver: it says {cells[0]!r}.",)
    return driver, ()


def _query(smi: Path, fields: str, environ: Mapping[str, str], deadline: float) -> list[str]:
    command = [str(smi), f"--query-gpu={fields}", "--format=csv,noheader"]
    return _smi_says(command, {**environ, "LC_ALL": "C.UTF-8"}, deadline)


def _smi_says(command: list[str], environ: Mapping[str, str], deadline: float) -> list[str]:
    """Its lines, by this time of ``time.monotonic``; raises ProgramFailed."""
    left = max(_LEAST_SECONDS, deadline - time.monotonic())
    return run(command, env=environ, timeout=left).stdout.splitlines()


def _row_capability(row: list[str]) -> Capability | None:
    target = read_notation(row[2]) if len(row) > 3 else None
    return target.capability if target else capability_of_device(row[0])


def _listed_partitions(smi: Path, environ: Mapping[str, str], deadline: float) -> dict[str, tuple[str, ...]]:
    """MIG UUIDs by GPU UUID, asked only where CUDA_VISIBLE_DEVICES names a partition."""
    if "MIG-" not in environ.get("CUDA_VISIBLE_DEVICES", ""):
        return {}
    found: dict[str, tuple[str, ...]] = {}
    gpu = ""
    for line in _smi_says([str(smi), "-L"], environ, deadline):
        match = re.search(r"UUID: ((?:GPU|MIG)-[^)\s]+)", line)
        if match and match[1].startswith("GPU-"):
            gpu = match[1]
        elif match:
            found[gpu] = (*found.get(gpu, ()), match[1])
    return found


def _read_jetson(root: Path) -> _Answer:
    """The integrated GPU of a Jetson, by the chip in the device tree's compatible string (``nvidia,tegra234``)."""
    tree = root / "proc/device-tree"
    chip = re.search(r"nvidia,(tegra\d+)", _file(tree / "compatible"))
    if chip is None:
        if (root / "etc/nv_tegra_release").exists():
            return _Answer((), notes=("this is a Jetson whose device tree cannot be read; name the --target.",))
        return _Answer(())
    known = gpu_table().jetson.get(chip[1])
    target = read_notation(known) if known else None
    name = _file(tree / "model").strip("\0\n ") or chip[1]
    return _Answer((Device(name, "", target.capability if target else None),))


def _file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
