"""How soon a broken toolchain is told: ``python benchmarks/canary.py``.

For each fault of tests/helpers/faults.py, the seconds of the canary in a build of tests/packages/fastcuda that it ends,
and those of the whole command; then a sound toolchain, for which the canary is built once, and served after that.
Exits with 1 if a fault took longer than its bound, or was not told.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import ROOT, TARGET, TORCH, clean_environment, make_context, script, show
from faults import FAULTS, LIES, linked, lying_compiler

from buildkit.build.toolkits import install_wheel_toolkit
from buildkit.machine.interpreter import active_interpreter

LONGEST = 20.0
"""Seconds in which a fault is to be told, on a machine with nothing else to do."""


def canary(package: Path, home: Path, more: Mapping[str, str]) -> tuple[dict[str, Any], float]:
    """What a build says of its canary, and the seconds of the whole command."""
    words = ["build", f"{package}/", "--cuda-home", str(home), "--target", TARGET, "--torch", TORCH, "--json"]
    began = time.monotonic()
    done = subprocess.run(
        [script(), *words], env={**clean_environment(), "CUDA_VISIBLE_DEVICES": "", **more}, cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.monotonic() - began
    stages = (json.loads(done.stdout).get("verdict") or {}).get("stages", ())
    return next((stage for stage in stages if stage["name"] == "canary"), {}), seconds


def main() -> int:
    """Time every fault, then a sound toolchain twice."""
    context = make_context()
    python = active_interpreter(Path(sys.executable), context.environ, context.cwd, context.memo)
    toolkit = install_wheel_toolkit("13.0", python, context)
    folder = Path(tempfile.mkdtemp(prefix="canary-"))
    good = True
    try:
        package = Path(shutil.copytree(ROOT / "tests" / "packages" / "fastcuda", folder / "fastcuda"))
        sound = linked(toolkit, folder / "sound")
        (sound / "include" / "cuda_stamp.h").write_text(f"// {folder} {time.time_ns()}\n", encoding="utf-8")
        cases: list[tuple[str, Path, Mapping[str, str]]] = []
        for number, (name, fault) in enumerate(FAULTS.items()):
            home = linked(toolkit, folder / f"cuda{number}")
            fault.damage(home)
            cases.append((name, home, {}))
        for number, (name, (said, options)) in enumerate(LIES.items()):
            own = folder / f"compiler{number}"
            own.mkdir()
            cases.append((f"a compiler {name}", sound, lying_compiler(own, said, options)))
        for name, home, more in cases:
            stage, whole = canary(package, home, more)
            told = stage.get("outcome") == "failed" and stage["seconds"] <= LONGEST
            good &= told
            show(fault=name, outcome=stage.get("outcome"), canary_s=stage.get("seconds"), bound_s=LONGEST,
                 whole_s=round(whole, 1), passed=told, cpus=os.cpu_count())  # fmt: skip
        for name in ("sound, built", "sound, served"):
            stage, whole = canary(package, sound, {})
            good &= stage.get("outcome") == "passed"
            show(fault=name, outcome=stage.get("outcome"), canary_s=stage.get("seconds"), whole_s=round(whole, 1))
    finally:
        shutil.rmtree(folder)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
