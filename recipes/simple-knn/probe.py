"""simple-knn: four points whose distances are known, and a large grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from simple_knn._C import distCUDA2

DEVICES = ("cuda",)
SIDE = 24


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """Means of the squared distances to the three nearest."""
    del tools  # nothing of it is needed
    four = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]], device=device)
    expected = [14 / 3, 16 / 3, 22 / 3, 32 / 3]
    yield {"name": "four points", "expected": expected, "got": distCUDA2(four).tolist(), "tolerance": 1e-5}
    axis = torch.arange(SIDE, dtype=torch.float32, device=device)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
    # Each has at least three neighbours at distance 1, those in the corners too.
    apart = (distCUDA2(grid) - 1).abs().max().item()
    yield {"name": "a grid", "expected": 0.0, "got": apart, "tolerance": 1e-5}
