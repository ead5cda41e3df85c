"""chamferdist: nearest neighbours by every kernel version, distances and gradients with known answers.

Distances are squared; a cloud is [batch, points, 3], float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from chamferdist import _C, ChamferDistance
from chamferdist.chamfer import knn_points

DEVICES = ("cpu", "cuda")
FIXED_SIZES = 4
"""Kernel versions of knn_points, of which only the GPU has any."""


def check(name: str, expected: Any, got: torch.Tensor, tolerance: float = 1e-5) -> dict[str, Any]:
    return {"name": name, "expected": expected, "got": got.detach().cpu().tolist(), "tolerance": tolerance}


def neighbours(device: str) -> Iterator[dict[str, Any]]:
    """The origin's three neighbours lie at squared distances 1, 4 and 9; all kernels that take 3-D points say so."""
    origin = torch.zeros(1, 1, 3, device=device)
    cloud = torch.tensor([[[0.0, 0, 3], [1, 0, 0], [0, 2, 0]]], device=device)
    versions = [version for version in range(FIXED_SIZES) if device == "cuda" and _C.knn_check_version(version, 3, 3)]
    if device == "cuda":
        yield {"name": "some kernel version takes three neighbours", "expected": True, "got": bool(versions)}
    for version in [-1, *versions]:
        found = knn_points(origin, cloud, K=3, version=version)
        yield check(f"squared distances, kernel {version}", [[[1.0, 4.0, 9.0]]], found.dists)
        yield check(f"neighbours, kernel {version}", [[[1, 2, 0]]], found.idx, 0)


def triangle(device: str) -> Iterator[dict[str, Any]]:
    """Two points 3, 4 and 5 apart: 25 squared, and its gradient."""
    distance = ChamferDistance()
    source = torch.zeros(1, 1, 3, device=device, requires_grad=True)
    target = torch.tensor([[[3.0, 4, 0]]], device=device)
    one_way = distance(source, target)
    yield check("3-4-5", 25.0, one_way)
    yield check("3-4-5, both ways", 50.0, distance(source, target, bidirectional=True))
    one_way.backward()
    yield check("3-4-5: gradient", [[[-6.0, -8.0, 0.0]]], source.grad)


def grid(device: str) -> Iterator[dict[str, Any]]:
    """A grid of 4096 points moved by a quarter of its spacing: each point's nearest is its own image."""
    axis = torch.arange(16, dtype=torch.float32, device=device)
    cloud = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(1, -1, 3)
    distance = ChamferDistance()
    yield check("a cloud to itself", 0.0, distance(cloud, cloud, bidirectional=True))
    moved = cloud + torch.tensor([0.25, 0, 0], device=device)
    yield check("a moved cloud, mean", 0.0625, distance(cloud, moved, point_reduction="mean"))
    found = knn_points(cloud, moved, K=1)
    yield check("each point's nearest", list(range(cloud.shape[1])), found.idx.reshape(-1), 0)


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """Both kernels, forwards and backwards, on this device."""
    del tools  # nothing of it is needed
    yield from neighbours(device)
    yield from triangle(device)
    yield from grid(device)
