"""Which GPU runs the device code of an installed package, and by what: machine code or JIT from PTX. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from buildkit.machine.arch import Capability, Target
from buildkit.verify.coverage import image_for
from buildkit.verify.device_code import ObjectCode, UnitCode

By = Literal["sass", "ptx-jit", "none"]


@dataclass(frozen=True)
class Device:
    """A GPU to judge for: visible here, or named by ``--gpu`` (``stated``)."""

    name: str
    capability: Capability
    stated: bool = False

    @property
    def shown(self) -> str:
        """``NVIDIA H200 (9.0)``; ``9.0`` alone where that was typed."""
        return shown_gpu(self.name, "{}.{}".format(*self.capability))


def shown_gpu(name: str, capability: str) -> str:
    """A GPU's name with its compute capability, once where they are the same."""
    return name if name == capability else f"{name} ({capability})"


@dataclass(frozen=True)
class GpuCode:
    """What one GPU makes of a package.

    ``by``: ``sass`` where each part that runs does so by machine code, ``ptx-jit`` where the driver has to compile PTX
    of some part first, ``none`` where nothing runs. ``lacking`` are the parts (object: unit) that hold no code for
    it, ``held`` what the package holds at all.
    """

    gpu: str
    capability: str
    stated: bool
    by: By
    held: str
    lacking: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The GPU in words."""
        return shown_gpu(self.gpu, self.capability)

    def as_dict(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {**asdict(self), "lacking": list(self.lacking)}


def code_for(device: Device, objects: Sequence[ObjectCode]) -> GpuCode | None:
    """How a GPU runs these objects; None where none of them holds device code."""
    ways = [
        (f"{entry.path}: {unit.name}", way_of(unit, device.capability)) for entry in objects for unit in entry.units
    ]
    if not ways:
        return None
    running = {way for _, way in ways} - {"none"}
    by: By = "none" if not running else "ptx-jit" if "ptx-jit" in running else "sass"
    lacking = tuple(name for name, way in ways if way == "none")
    major, minor = device.capability
    return GpuCode(device.name, f"{major}.{minor}", device.stated, by, held(objects), lacking)


def way_of(unit: UnitCode, capability: Capability) -> By:
    """By what a GPU runs one translation unit."""
    image = image_for(unit.elf, unit.ptx, capability)
    return image[0] if image is not None else "none"


def held(objects: Sequence[ObjectCode]) -> str:
    """All images of all units, in words: ``sm_86, sm_120, PTX of 12.0``."""
    units = [unit for entry in objects for unit in entry.units]
    elf = sorted({image.without_ptx for unit in units for image in unit.elf})
    ptx = sorted({image.without_ptx for unit in units for image in unit.ptx})
    return ", ".join([f"sm_{image.number}" for image in elf] + [f"PTX of {image}" for image in ptx])


def targets_for(devices: Sequence[Device]) -> tuple[Target, ...]:
    """What to build so that these GPUs run it by machine code."""
    return tuple(sorted({Target(*device.capability) for device in devices}))
