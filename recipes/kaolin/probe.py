"""kaolin: distances between point clouds and to a triangle, with known answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from kaolin.metrics.pointcloud import chamfer_distance, sided_distance
from kaolin.metrics.trianglemesh import point_to_mesh_distance
from kaolin.ops.mesh import index_vertices_by_faces

DEVICES = ("cuda",)


def check(name: str, expected: Any, got: torch.Tensor) -> dict[str, Any]:
    return {"name": name, "expected": expected, "got": got.detach().cpu().tolist(), "tolerance": 1e-5}


def clouds(device: str) -> Iterator[dict[str, Any]]:
    """Squared distances to the nearest point of another cloud."""
    points = torch.tensor([[[0.0, 0, 0], [5, 0, 0]]], device=device, requires_grad=True)
    others = torch.tensor([[[3.0, 4, 0], [5, 0, 2], [9, 9, 9]]], device=device)
    distances, nearest = sided_distance(points, others)
    yield check("squared distances", [[25.0, 4.0]], distances)
    yield check("which", [[0, 1]], nearest)
    distances.sum().backward()
    yield check("gradient", [[[-6.0, -8.0, 0.0], [0.0, 0.0, -4.0]]], points.grad)
    axis = torch.arange(16, dtype=torch.float32, device=device)
    cloud = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(1, -1, 3)
    yield check("a cloud to itself", [0.0], chamfer_distance(cloud, cloud))


def triangle(device: str) -> Iterator[dict[str, Any]]:
    """A point two above a triangle's inside, and one beside its edge."""
    vertices = torch.tensor([[[0.0, 0, 0], [3, 0, 0], [0, 4, 0]]], device=device)
    faces = torch.tensor([[0, 1, 2]], device=device)
    points = torch.tensor([[[0.5, 0.5, 2.0], [1.0, -3.0, 0.0]]], device=device)
    distances, nearest, _ = point_to_mesh_distance(points, index_vertices_by_faces(vertices, faces))
    yield check("squared distances to a triangle", [[4.0, 9.0]], distances)
    yield check("which triangle", [[0, 0]], nearest)


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """Both kernels, and the gradient of one."""
    del tools  # nothing of it is needed
    yield from clouds(device)
    yield from triangle(device)
