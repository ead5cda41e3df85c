"""cubvh: distances to a square of triangles, and rays that hit it and miss it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cubvh
import torch

DEVICES = ("cuda",)
SIDE = 8
"""Cells along a side: it takes more than eight triangles."""


def check(name: str, expected: Any, got: torch.Tensor) -> dict[str, Any]:
    return {"name": name, "expected": expected, "got": got.detach().cpu().tolist(), "tolerance": 1e-4}


def square() -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices and triangles of the square from (0, 0, 0) to (SIDE, SIDE, 0)."""
    axis = torch.arange(SIDE + 1, dtype=torch.float32)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    vertices = torch.stack([x, y, torch.zeros_like(x)], dim=-1).reshape(-1, 3)
    corner = (torch.arange(SIDE)[:, None] * (SIDE + 1) + torch.arange(SIDE)).reshape(-1)
    lower = torch.stack([corner, corner + SIDE + 1, corner + 1], dim=1)
    upper = torch.stack([corner + 1, corner + SIDE + 1, corner + SIDE + 2], dim=1)
    return vertices, torch.cat([lower, upper])


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """Points above and beside it; a ray down and one up."""
    del tools  # nothing of it is needed
    vertices, triangles = square()
    tree = cubvh.cuBVH(vertices.numpy(), triangles.numpy())
    points = torch.tensor([[3.3, 4.4, 2.0], [3.3, 4.4, -0.5], [-3.0, 4.4, 4.0]], device=device)
    distances, *_ = tree.unsigned_distance(points)
    yield check("distances", [2.0, 0.5, 5.0], distances)
    origins = torch.tensor([[2.2, 3.3, 5.0], [2.2, 3.3, 5.0]], device=device)
    directions = torch.tensor([[0.0, 0, -1], [0, 0, 1]], device=device)
    hits, faces, depths = tree.ray_trace(origins, directions)
    yield check("a ray that hits: where", [2.2, 3.3, 0.0], hits[0])
    yield check("a ray that hits: how far", 5.0, depths[0])
    yield check("a ray that misses has no face", True, faces[1] < 0)
