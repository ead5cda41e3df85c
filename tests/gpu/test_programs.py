"""Programs around the kernel: compute-sanitizer and the benchmark. ``-rA`` shows what they print."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit.verify import smoke

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
def test_compute_sanitizer_finds_nothing(module_folder: Path, device: str, tool: str, tmp_path: Path) -> None:
    """Over the smoke test, which must pass under it as well."""
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if sanitizer is None:
        pytest.skip("not executed: compute-sanitizer is not here")
    request, answer = tmp_path / "request.json", tmp_path / "answer.json"
    request.write_text(json.dumps({"device": device, "module_path": str(module_folder)}))
    command = [sanitizer, "--tool", tool, "--error-exitcode", "77", "--print-limit", "20"]
    command += [sys.executable, "-I", smoke.__file__, str(request), str(answer)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if "Device not supported" in said:
        pytest.skip("not executed: compute-sanitizer does not support this device")
    assert done.returncode == 0, said[-6000:]
    assert "SUMMARY: 0 " in said, said[-6000:]
    assert json.loads(answer.read_text())["passed"]


@pytest.mark.timeout(1200)
def test_the_benchmark_measures_this_gpu(module_folder: Path, program: Callable[..., str]) -> None:
    """What comes out depends on the machine; a tenth of a copy's bytes a second is below every GPU that was meant."""
    words = ["--module", str(module_folder), "--cpu", "--gpu", "256", "512", "--rounds", "15"]
    printed = program([sys.executable, "-I", str(ROOT / "benchmarks" / "mcubes.py"), *words])
    print(printed)  # noqa: T201
    lines = [json.loads(line) for line in printed.splitlines()]
    assert {(line["field"], line["size"]) for line in lines} == {
        (field, size) for field in ("sphere", "gyroid", "random") for size in (256, 512)
    }
    assert all(line["bandwidth_ratio"] > 0.1 for line in lines if line["field"] == "sphere" and line["size"] == 512)
