"""What of the machine is in use now: processors, pressure (PSI), GPUs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.machine.cgroups import read_text
from buildkit.machine.gpus import driver_here

_AVERAGE = re.compile(r"^(some|full) avg10=(\d+\.\d+) ", re.MULTILINE)


@dataclass(frozen=True)
class Pressure:
    """Share of the last 10 seconds in percent in which ``some`` tasks, or all (``full``), waited for a resource."""

    some: float
    full: float | None


@dataclass(frozen=True)
class GpuUse:
    """One GPU. ``busy``: percent of the last moments in which a kernel ran; None where the driver does not say.
    Memory in bytes."""

    index: int
    name: str
    uuid: str
    busy: int | None
    memory_used: int | None
    memory_total: int | None


@dataclass(frozen=True)
class GpusUse:
    """All GPUs, whatever CUDA_VISIBLE_DEVICES says; ``note`` says why there are none."""

    gpus: tuple[GpuUse, ...]
    note: str = ""


def read_pressure(root: Path = Path("/")) -> dict[str, Pressure]:
    """``cpu``, ``memory`` and ``io`` of /proc/pressure; empty where the kernel keeps none."""
    found = {}
    for name in ("cpu", "memory", "io"):
        values = {kind: float(number) for kind, number in _AVERAGE.findall(read_text(root / "proc/pressure" / name))}
        if "some" in values:
            found[name] = Pressure(values["some"], values.get("full"))
    return found


class CpuWatch:
    """How busy the processors that this process may run on are, since the look before."""

    def __init__(self) -> None:
        import psutil

        self._percent = psutil.cpu_percent
        self._percent(percpu=True)

    def percent(self) -> float:
        """0 to 100, over all of them."""
        each = self._percent(percpu=True)
        own = [each[number] for number in os.sched_getaffinity(0) if number < len(each)] or each
        return round(sum(own) / len(own), 1)


class GpuWatch:
    """NVML, kept open between two looks."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self.note = "no GPU"
        if not driver_here():
            return
        import pynvml

        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            self.note = f"no GPU can be looked at: NVML does not answer ({error})"
        else:
            self._nvml = pynvml

    def look(self) -> GpusUse:
        """What each is doing now."""
        if self._nvml is None:
            return GpusUse((), self.note)
        try:
            gpus = tuple(self._gpus())
        except self._nvml.NVMLError as error:
            return GpusUse((), f"no GPU can be looked at: {error}")
        return GpusUse(gpus, "" if gpus else "no GPU")

    def _gpus(self) -> Iterator[GpuUse]:
        nvml = self._nvml
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
            rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
            yield GpuUse(
                index=index,
                name=_text(nvml.nvmlDeviceGetName(handle)),
                uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
                busy=None if rates is None else int(rates.gpu),
                memory_used=None if memory is None else int(memory.used),
                memory_total=None if memory is None else int(memory.total),
            )

    def _ask(self, question: Any, handle: object) -> Any:
        """None where this GPU does not support it (MIG, some notebooks)."""
        try:
            return question(handle)
        except self._nvml.NVMLError:
            return None

    def close(self) -> None:
        """Give NVML back."""
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
            self._nvml = None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
