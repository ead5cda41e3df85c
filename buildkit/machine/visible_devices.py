"""CUDA_VISIBLE_DEVICES: which of the GPUs that are here CUDA would show. Pure.

The rules are CUDA's (CUDA C++ Programming Guide, "CUDA Environment Variables"; torch/cuda/__init__.py parses
them the same way): unset shows all, empty none; entries are indices, UUID prefixes (``GPU-``) or MIG ids, never
mixed; the first invalid entry ends the list; a repeated one shows nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from buildkit.machine.target import Capability


@dataclass(frozen=True)
class Device:
    """A GPU as the driver reports it; ``mig`` are the UUIDs of its MIG partitions."""

    name: str
    uuid: str
    capability: Capability | None
    mig: tuple[str, ...] = ()


def choose(variable: str | None, devices: Sequence[Device], *, pci_order: bool = False) -> tuple[list[int], list[str]]:
    """The positions in ``devices`` that CUDA_VISIBLE_DEVICES shows, in its order, and notes.

    ``devices`` are in PCI bus order, as NVML and nvidia-smi list them. CUDA counts fastest first unless
    CUDA_DEVICE_ORDER=PCI_BUS_ID (``pci_order``): where indices could mean other GPUs, a note says so.
    """
    if variable is None:
        return list(range(len(devices))), []
    entries = [entry.strip() for entry in variable.split(",")]
    if entries[0].startswith("GPU-"):
        return _listed(entries, lambda entry: _by_uuid(entry, devices))
    if entries[0].startswith("MIG-"):
        chosen, notes = _listed(entries, lambda entry: _by_mig(entry, devices), repeats=True)
        return list(dict.fromkeys(chosen)), notes
    chosen, notes = _listed(entries, lambda entry: _by_index(entry, len(devices)))
    if chosen and not pci_order and len({device.capability for device in devices}) > 1:
        notes.append(
            f"CUDA_VISIBLE_DEVICES={variable} was read in PCI bus order; CUDA counts the fastest GPU first unless "
            "CUDA_DEVICE_ORDER=PCI_BUS_ID is set, and the GPUs here differ."
        )
    return chosen, notes


def _listed(
    entries: Sequence[str], find: Callable[[str], int | None], *, repeats: bool = False
) -> tuple[list[int], list[str]]:
    chosen: list[int] = []
    for entry in entries:
        position = find(entry)
        if position is None:
            shown = f"{entry!r} in CUDA_VISIBLE_DEVICES names no GPU here: it and what follows it are hidden."
            return chosen, [shown] if entry not in {"", "-1", "NoDevFiles"} else []
        if position in chosen and not repeats:
            return [], [f"{entry!r} stands twice in CUDA_VISIBLE_DEVICES: CUDA then shows no GPU."]
        chosen.append(position)
    return chosen, []


def _by_index(entry: str, count: int) -> int | None:
    """CUDA reads the leading number (``1gpu`` is 1)."""
    match = re.match(r"\+?(\d+)", entry, re.ASCII)
    return int(match[1]) if match and int(match[1]) < count else None


def _by_uuid(entry: str, devices: Sequence[Device]) -> int | None:
    """The one GPU whose UUID begins so; an ambiguous prefix is invalid."""
    if not entry.startswith("GPU-"):
        return None
    fitting = [position for position, device in enumerate(devices) if device.uuid.startswith(entry)]
    return fitting[0] if len(fitting) == 1 else None


def _by_mig(entry: str, devices: Sequence[Device]) -> int | None:
    """The GPU that a partition is on: ``MIG-UUID``, or the older ``MIG-GPU-UUID/GI/CI``."""
    if not entry.startswith("MIG-"):
        return None
    older = entry.removeprefix("MIG-")
    if older.startswith("GPU-"):
        return _by_uuid(older.split("/")[0], devices)
    fitting = [
        position
        for position, device in enumerate(devices)
        if any(partition.startswith(entry) for partition in device.mig)
    ]
    return fitting[0] if len(set(fitting)) == 1 else None
