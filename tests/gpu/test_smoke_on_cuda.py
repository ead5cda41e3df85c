"""The smoke test on the GPU: in this process, and as the stage that a build runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from buildkit.machine.gpus import Gpu
from buildkit.verify import smoke
from buildkit.verify.smoke_stage import run_smoke


def test_every_check_passes(kernel: Any, device: str) -> None:
    answer = smoke.run(smoke.kernel(kernel, device), device, twin=smoke.kernel(kernel, "cpu"))
    assert answer["passed"], [check for check in answer["checks"] if not check["passed"]]
    assert sum(check["name"].endswith("of the twin") for check in answer["checks"]) == 18


def test_the_stage_says_on_which_gpu(gpu: Gpu, module_folder: Path, tmp_path: Path) -> None:
    evidence = run_smoke(
        Path(sys.executable), module_path=module_folder, gpu=gpu, env=os.environ, timeout=300, scratch=tmp_path
    )
    assert (evidence["device"], evidence["gpu"], evidence["device_uuid"]) == ("cuda", gpu.name, gpu.uuid)
    assert evidence["cuda_targets"] == f"{gpu.capability[0]}.{gpu.capability[1]}"
