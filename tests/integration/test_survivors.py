"""A build that is ended while it compiles leaves no process and no temporary folder: counted by a subreaper."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tests" / "packages" / "fastcuda"
SLOW = """
template <int N> __device__ float work(float x) {
#pragma unroll
  for (int i = 1; i < 40; ++i) x = sinf(x * N) + powf(x, i) * cosf(x + N);
  return work<N - 1>(x);
}
template <> __device__ float work<0>(float x) { return x; }
__global__ void slow(float* values) { values[threadIdx.x] = work<200>(values[threadIdx.x]); }
"""
"""A kernel that keeps the device compiler busy for longer than any of these builds is let live."""


def ended(project: Path, cache: Path, script: Path, broker: dict[str, str], *cases: str) -> list[dict[str, Any]]:
    """End builds of the project, each in its own way: what the benchmark found after each."""
    words = [word for case in cases for word in ("--case", case)]
    places = ["--package", str(project), "--cache", str(cache), "--script", str(script)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "survivors.py"), *places, *words],
        env={**os.environ, **broker},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["case"] for each in found] == list(cases), done.stderr
    return found


def test_nothing_is_left(cache: Path, console_script: Path, own_broker: dict[str, str], tmp_path: Path) -> None:
    project = tmp_path / "fastcuda"
    shutil.copytree(PACKAGE, project)
    with (project / "csrc" / "add.cu").open("a", encoding="utf-8") as file:
        file.write(f"{SLOW}// {os.getpid()} {time.time_ns()}\n")
    found = ended(project, cache, console_script, own_broker, "TERM:cicc", "KILL:cicc")
    # However slow this machine is just now: by then it compiles, as it did when the signals were sent.
    enough = math.ceil(max(each["after_s"] for each in found) + 5)
    found += ended(project, cache, console_script, own_broker, f"timeout:{enough}s")
    for each, code in zip(found, (143, -9, 8), strict=True):
        assert each["exit"] == code, each
        assert each["compiling"] > 0, "it was ended before anything was compiled"
        assert (each["survivors"], each["temporary_folders"]) == (0, []), each
        assert each["gone_after_s"] is not None
