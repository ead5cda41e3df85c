"""torch-cluster: every kernel on inputs small enough to be worked out by hand, and neighbours in a grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch_cluster as tc

DEVICES = ("cpu", "cuda")


def check(name: str, expected: Any, got: torch.Tensor) -> dict[str, Any]:
    return {"name": name, "expected": expected, "got": got.detach().cpu().tolist(), "tolerance": 0.0}


def neighbours(device: str) -> Iterator[dict[str, Any]]:
    """The origin's three neighbours lie at distances 1, 2 and 3."""
    origin = torch.zeros(1, 3, device=device)
    cloud = torch.tensor([[0.0, 0, 3], [1, 0, 0], [0, 2, 0]], device=device)
    yield check("knn", [[0, 0, 0], [1, 2, 0]], tc.knn(cloud, origin, 3))
    within = tc.radius(cloud, origin, 2.5)[1].sort().values
    yield check("radius 2.5", [1, 2], within)
    yield check("nearest", [0, 1, 0], tc.nearest(cloud, torch.tensor([[0.0, 0, 1], [2, 0, 0]], device=device)))


def grid(device: str) -> Iterator[dict[str, Any]]:
    """4096 points moved by a quarter of their spacing: each one's nearest is its own image."""
    axis = torch.arange(16, dtype=torch.float32, device=device)
    cloud = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
    moved = cloud + torch.tensor([0.25, 0, 0], device=device)
    own = list(range(len(cloud)))
    yield check("a grid: knn", own, tc.knn(cloud, moved, 1)[1])
    yield check("a grid: nearest", own, tc.nearest(moved, cloud))
    edges = tc.radius_graph(cloud, 1.01, max_num_neighbors=64)
    # 3 axes, 15 * 16 * 16 neighbouring pairs along each, both ways.
    yield check("a grid: edges within its spacing", 2 * 3 * 15 * 16 * 16, torch.tensor(edges.shape[1]))


def clusters(device: str) -> Iterator[dict[str, Any]]:
    square = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]], device=device)
    yield check("fps: the opposite corner", [0, 3], tc.fps(square, ratio=0.5, random_start=False))
    points = torch.tensor([[0.0, 0], [11, 9], [2, 8], [2, 2], [8, 3]], device=device)
    cells = tc.grid_cluster(points, torch.tensor([5.0, 5.0], device=device))
    yield check("grid_cluster", [0, 5, 3, 0, 1], cells)
    pair = tc.graclus_cluster(torch.tensor([0, 1], device=device), torch.tensor([1, 0], device=device))
    yield check("graclus: two that are joined", True, pair[0] == pair[1])


def walk(device: str) -> Iterator[dict[str, Any]]:
    """On a ring of one direction there is one way to go."""
    ring = torch.arange(4, device=device)
    found = tc.random_walk(ring, (ring + 1) % 4, start=ring[:1], walk_length=4)
    yield check("random_walk on a ring", [[0, 1, 2, 3, 0]], found)


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """Every operator that has a kernel on this device."""
    del tools  # nothing of it is needed
    if device == "cuda":
        with_cuda = torch.ops.torch_cluster.cuda_version() > 0
        yield {"name": "the libraries know CUDA", "expected": True, "got": with_cuda}
    yield from neighbours(device)
    yield from grid(device)
    yield from clusters(device)
    yield from walk(device)
