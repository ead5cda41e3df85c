"""``cudabuild monitor`` on a machine with a GPU: NVML says what it is and how much of it is in use."""

from __future__ import annotations

import pytest

from buildkit.machine.usage import GpuWatch


def test_each_gpu_is_looked_at() -> None:
    watch = GpuWatch()
    use = watch.look()
    watch.close()
    if not use.gpus:
        pytest.skip(f"not executed: {use.note}")
    for gpu in use.gpus:
        assert gpu.uuid.startswith("GPU-")
        assert gpu.name
        assert gpu.memory_total is not None
        assert gpu.memory_used is not None
        assert 0 < gpu.memory_used < gpu.memory_total
        assert gpu.busy is None or 0 <= gpu.busy <= 100
