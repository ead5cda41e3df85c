"""Run inside the clean environment: ``python -I probe_script.py REQUEST ANSWER`` (two paths of JSON files).

Loads the recipe's probe, runs its ``checks(device, tools)`` and judges every value that comes out: a probe says what
it expected and what it got, never that it passed. On a GPU all kernels that are launched meanwhile are recorded by
CUPTI (through torch.profiler). The answer is written anew after every step: however hard the process dies, what was
reached is known. Standard library and torch only. The one who asked judges the answer again.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import math
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

SCHEMA = 1
KEYS = ("name", "expected", "got", "tolerance")
NODES = ("/dev/nvidia", "/dev/dxg", "/dev/nvhost", "/dev/nvmap", "/dev/nvgpu")
"""Devices of NVIDIA's kernel driver: on PCs and servers, in WSL2, on Jetson."""
GPU_START = "the start of the GPU"
COPIES = ("Memcpy ", "Memset ")
NESTING = 8
"""Deepest list of lists that is compared."""


@dataclass(frozen=True)
class Tools:
    """What a probe may use beside its package: ``mcubes`` is the module ``cudabuild_mcubes``, or None without it."""

    mcubes: ModuleType | None


def difference(expected: Any, got: Any, depth: int = 0) -> float:
    """Largest absolute difference; infinity where type or length differ, NaN where either holds a NaN.

    Numbers are compared with numbers, truth values, texts and None only with their like, lists element by element.
    """
    if depth > NESTING:
        return math.inf
    if isinstance(expected, (list, tuple)) and isinstance(got, (list, tuple)):
        if len(expected) != len(got):
            return math.inf
        found = [difference(one, other, depth + 1) for one, other in zip(expected, got)]  # noqa: B905 - same length
        return math.nan if any(map(math.isnan, found)) else max(found, default=0.0)
    if _is_number(expected) and _is_number(got):
        return 0.0 if expected == got else _distance(expected, got)
    return 0.0 if type(expected) is type(got) and expected == got and not _is_number(expected) else math.inf


def _distance(expected: float, got: float) -> float:
    """NaN for a NaN; infinity for whole numbers beyond any float."""
    try:
        return float(abs(expected - got))
    except OverflowError:
        return math.inf


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_check(raw: object) -> dict[str, Any]:
    """One check as a probe yields it. ValueError for anything but the four keys with plain values."""
    if not isinstance(raw, Mapping) or set(raw) - {"tolerance"} != set(KEYS) - {"tolerance"}:
        raise ValueError(f"a check is a dict with {', '.join(KEYS)} (the last may be left out), not {raw!r:.200}")
    name, tolerance = raw["name"], raw.get("tolerance", 0)
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"a check's name is a text, not {name!r:.200}")
    if not _is_number(tolerance) or not 0 <= tolerance <= sys.float_info.max:
        raise ValueError(f"check {name!r}: the tolerance is a number from 0 on, not {tolerance!r:.200}")
    values = {key: _plain(raw[key], name, key) for key in ("expected", "got")}
    return {"name": name, **values, "tolerance": float(tolerance)}


def _plain(value: Any, name: str, key: str, depth: int = 0) -> Any:
    if isinstance(value, (list, tuple)) and depth < NESTING:
        return [_plain(item, name, key, depth + 1) for item in value]
    if isinstance(value, (bool, str)) or _is_number(value):
        return value
    raise ValueError(
        f"check {name!r}: {key} is a number, a text, a truth value or a list of numbers, not {type(value).__name__} "
        "(a tensor has .tolist(), or .item())"
    )


class Answer:
    """What was reached, on disk after every change."""

    def __init__(self, path: str) -> None:
        """Begin with nothing reached."""
        self.path = path
        self.facts: dict[str, Any] = {
            "schema": SCHEMA,
            "step": "start",
            "done": False,
            "torch": None,
            "mcubes": False,
            "gpu": None,
            "driver": None,
            "checks": [],
            "kernels": [],
            "recorder": "off",
            "error": None,
        }

    def set(self, **facts: Any) -> None:
        """Record facts; the file is replaced, never half written."""
        self.facts.update(facts)
        partial = self.path + ".part"
        with Path(partial).open("w", encoding="utf-8") as stream:
            json.dump(self.facts, stream)
        Path(partial).replace(self.path)

    def add(self, check: dict[str, Any]) -> None:
        """One more check; two of one name would hide each other."""
        if any(other["name"] == check["name"] for other in self.facts["checks"]):
            raise ValueError(f"there are two checks called {check['name']!r}")
        self.set(step=f"after check {check['name']!r}", checks=[*self.facts["checks"], check])


def gpu_facts(torch: Any) -> dict[str, Any]:
    """The GPU that CUDA counts first here, started: name, UUID, compute capability, memory (bytes)."""
    torch.cuda.init()
    free, total = torch.cuda.mem_get_info(0)
    torch.zeros(1 << 20, device="cuda:0").add_(1)
    torch.cuda.synchronize()
    found = torch.cuda.get_device_properties(0)
    return {
        "name": str(found.name),
        "uuid": str(getattr(found, "uuid", "")),
        "capability": f"{found.major}.{found.minor}",
        "free": int(free),
        "total": int(total),
    }


def driver_facts() -> dict[str, Any]:
    """Which libcuda is mapped into this process, and which devices of the kernel's driver it holds open."""
    mapped = {line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text("utf-8").splitlines()}
    nodes = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            place = str(descriptor.readlink())
            if place.startswith(NODES):
                nodes.add(place)
    return {"libraries": sorted(path for path in mapped if "/libcuda.so" in path), "nodes": sorted(nodes)}


class Recorder:
    """The kernels that this process launches, by CUPTI through torch.profiler. Does nothing without a GPU."""

    def __init__(self, torch: Any, device: str) -> None:
        """``state`` tells how it went: ``off``, ``works``, or why nothing was recorded."""
        self.torch = torch
        self.state = "off"
        self._profile: Any = None
        self._wanted = device == "cuda"

    def start(self) -> None:
        """Begin, with one kernel of torch's own: where not even that is seen, nothing else can be."""
        if not self._wanted:
            return
        from torch import profiler

        activity = profiler.ProfilerActivity.CUDA
        if activity not in profiler.supported_activities():
            self.state = "torch.profiler has no CUPTI here"
            return
        try:
            self._profile = profiler.profile(activities=[activity])
            self._profile.start()
        except Exception as error:  # noqa: BLE001 - a probe without a recorder is still a test
            self._profile = None
            self.state = f"torch.profiler does not start: {error}"
            return
        self.torch.ones(8, device="cuda:0").mul_(3)
        self.torch.cuda.synchronize()

    def stop(self) -> list[dict[str, Any]]:
        """End; the kernels by name, with how often and how long (microseconds, all launches) they ran."""
        if not self._wanted:
            return []
        self.torch.cuda.synchronize()
        if self._profile is None:
            return []
        profile, self._profile = self._profile, None
        try:
            profile.stop()
            found = self._kernels(profile.events())
        except Exception as error:  # noqa: BLE001 - every check has passed or failed by now: only the record is lost
            self.state = f"torch.profiler does not end: {error}"
            return []
        self.state = "works" if found else "torch.profiler recorded no kernel at all, not even one of torch's own"
        return [
            {"name": name, "launches": len(times), "microseconds": round(sum(times), 3)}
            for name, times in found.items()
        ]

    def _kernels(self, events: Iterable[Any]) -> dict[str, list[float]]:
        """Times of each kernel by name; what else runs on a GPU there are copies and fills (``Memcpy DtoH ...``)."""
        found: dict[str, list[float]] = {}
        for event in events:
            if event.device_type == self.torch.autograd.DeviceType.CUDA and not event.name.startswith(COPIES):
                found.setdefault(event.name, []).append(float(event.time_range.elapsed_us()))
        return found

    def abandon(self) -> None:
        """End after a failure, which is what counts: a GPU that is in error lets nothing else be recorded."""
        if self._profile is not None:
            with contextlib.suppress(Exception):
                self._profile.stop()


def load_probe(path: str) -> ModuleType:
    """The recipe's probe as a module, with nothing of its folder on the path."""
    spec = importlib.util.spec_from_file_location("cudabuild_probe", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_mcubes(folder: str | None) -> ModuleType | None:
    """The kernel project's module from its folder; None where there is none, or it does not fit this Python."""
    if folder is None:
        return None
    sys.path.append(folder)
    try:
        return importlib.import_module("cudabuild_mcubes")
    except ImportError:
        return None
    finally:
        sys.path.remove(folder)


def memory_facts(torch: Any) -> dict[str, int] | None:
    """The GPU's memory now (bytes): free, and what torch holds of it in this process."""
    try:
        free, _ = torch.cuda.mem_get_info(0)
        return {"free": int(free), "held": int(torch.cuda.memory_reserved(0))}
    except Exception:  # noqa: BLE001 - asked after a failure, which may have left nothing to ask
        return None


def run_checks(found: Iterable[object], answer: Answer) -> None:
    """Take the checks one by one, as they come."""
    for raw in found:
        answer.add(read_check(raw))


def main() -> None:
    """Do what the request asks, step by step."""
    with Path(sys.argv[1]).open(encoding="utf-8") as stream:
        request = json.load(stream)
    answer = Answer(sys.argv[2])
    device, modules = request["device"], dict[str, Any]()

    def unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        last = traceback.format_exception_only(kind, error)[-1].strip()
        memory = memory_facts(modules["torch"]) if device == "cuda" and "torch" in modules else None
        answer.set(error={"type": kind.__name__, "message": str(error), "line": last, "memory": memory})
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = unhandled
    torch: Any = None
    if request["torch"]:
        answer.set(step="import torch")
        torch = modules["torch"] = importlib.import_module("torch")
        answer.set(torch=str(torch.__version__))
    if device == "cuda":
        answer.set(step=GPU_START)
        answer.set(gpu=gpu_facts(torch), driver=driver_facts())
    tools = Tools(load_mcubes(request["mcubes"]))
    answer.set(step="the probe's import", mcubes=tools.mcubes is not None)
    probe = load_probe(request["probe"])
    recorder = Recorder(torch, device)
    recorder.start()
    answer.set(step="the first check", recorder=recorder.state)
    try:
        run_checks(probe.checks(device, tools), answer)
        answer.set(step="the end of the last kernel")
        kernels = recorder.stop()
    except BaseException:
        recorder.abandon()
        raise
    answer.set(step="exit", done=True, kernels=kernels, recorder=recorder.state)


if __name__ == "__main__":
    main()
