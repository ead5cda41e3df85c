"""Marching cubes side by side: on one CPU core with scikit-image and PyMCubes, on a GPU with a device-to-device copy.

The others are installed beside the module, in an environment of their own; CUDABUILD_CUDA=ON adds the GPU's part::

    python3 -m venv /tmp/mc && /tmp/mc/bin/pip install ./csrc/mcubes scikit-image PyMCubes   # and torch, for a GPU
    /tmp/mc/bin/python benchmarks/mcubes.py --cpu 128 256 --gpu 256 512

One JSON line a measurement. Each round times everybody once, on the same volume, so that a slow moment of the machine
hits all of them; ``ratio`` is the median over the rounds of (their seconds / ours). On a GPU ``time_ratio`` is
(seconds of a copy of the volume / ours) and ``bandwidth_ratio`` the bytes a second we read over the bytes a second that
the copy reads and writes. All of it is wall time of a call from Python that returns when its result is complete.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

Call = Callable[[], object]


def fields(size: int) -> Iterator[tuple[str, Any]]:
    """Volumes float32 [size, size, size]: smooth, with much surface, with a crossing nearly everywhere."""
    np = importlib.import_module("numpy")
    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    x, y, z = axis[:, None, None], axis[None, :, None], axis[None, None, :]
    yield "sphere", np.sqrt(x * x + y * y + z * z) - np.float32(0.8)
    k = np.float32(size / 16)
    yield "gyroid", np.sin(k * x) * np.cos(k * y) + np.sin(k * y) * np.cos(k * z) + np.sin(k * z) * np.cos(k * x)
    yield "random", np.random.default_rng(0).standard_normal((size, size, size), dtype=np.float32)


def seconds_of(call: Call) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure(calls: Mapping[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, taken in turns, after a call of each that does not count."""
    for call in calls.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(seconds_of(call))
    return found


def show(**values: Any) -> None:
    """One JSON line."""
    print(json.dumps(values), flush=True)


def others(volume: Any) -> dict[str, Call]:
    """The same task for those that are installed."""
    found: dict[str, Call] = {}
    try:
        found["scikit-image"] = partial(importlib.import_module("skimage.measure").marching_cubes, volume, 0.0)
    except ImportError:
        print("scikit-image is not installed", file=sys.stderr)
    try:
        found["PyMCubes"] = partial(importlib.import_module("mcubes").marching_cubes, volume, 0.0)
    except ImportError:
        print("PyMCubes is not installed", file=sys.stderr)
    return found


def on_cpu(module: Any, size: int, rounds: int) -> None:
    """One line for each field and each of the others."""
    for field, volume in fields(size):
        seconds = measure({"ours": partial(module.marching_cubes, volume, 0.0), **others(volume)}, rounds)
        ours = seconds.pop("ours")
        voxels = round(size**3 / statistics.median(ours))
        show(device="cpu", field=field, size=size, seconds=round(statistics.median(ours), 5), voxels_per_second=voxels)
        for name, theirs in seconds.items():
            ratio = statistics.median(one / our for one, our in zip(theirs, ours, strict=True))
            show(device="cpu", field=field, size=size, against=name, ratio=round(ratio, 2))


def on_gpu(module: Any, size: int, rounds: int) -> None:
    """One line for each field, against a copy of the volume on the device."""
    torch = importlib.import_module("torch")
    for field, host in fields(size):
        volume = torch.from_numpy(host).cuda()
        target = torch.empty_like(volume)

        def copy(volume: Any = volume, target: Any = target) -> None:
            target.copy_(volume)
            torch.cuda.synchronize()

        calls: dict[str, Call] = {"ours": partial(module.marching_cubes, volume, 0.0), "copy": copy}
        seconds = {name: statistics.median(values) for name, values in measure(calls, rounds).items()}
        show(
            device=torch.cuda.get_device_name(),
            field=field,
            size=size,
            seconds=round(seconds["ours"], 6),
            gigabytes_per_second=round(host.nbytes / seconds["ours"] / 1e9, 1),
            copy_gigabytes_per_second=round(2 * host.nbytes / seconds["copy"] / 1e9, 1),
            time_ratio=round(seconds["copy"] / seconds["ours"], 3),
            bandwidth_ratio=round(seconds["copy"] / seconds["ours"] / 2, 3),
        )


def load(folder: Path | None) -> Any:
    """The module: from a folder, as installed by itself, or from cudabuild."""
    here = Path(__file__).resolve().parent  # this file has the name of PyMCubes' module
    sys.path = [entry for entry in sys.path if Path(entry).resolve() != here]
    if folder is not None:
        sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("cudabuild_mcubes")
    except ImportError:
        return importlib.import_module("buildkit._native.cudabuild_mcubes")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cpu", type=int, nargs="*", default=[128], metavar="SIZE", help="edges of the volumes, CPU")
    parser.add_argument("--gpu", type=int, nargs="*", default=[512], metavar="SIZE", help="edges of the volumes, GPU")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--module", type=Path, metavar="FOLDER", help="where cudabuild_mcubes lies")
    options = parser.parse_args(arguments)
    module = load(options.module)
    for size in options.cpu:
        on_cpu(module, size, options.rounds)
    if not module.device_count():
        show(device="cuda", outcome="not executed", reason="no GPU" if module.has_cuda else "compiled without CUDA")
        return
    for size in options.gpu:
        on_gpu(module, size, options.rounds)


if __name__ == "__main__":
    main()
