"""pytorch3d: nearest neighbours, areas, chamfer distance, the mesh rasteriser and Pulsar, with known answers.

Distances are squared. An image of 33 pixels has its middle pixel on the axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pytorch3d import _C
from pytorch3d.loss import chamfer_distance
from pytorch3d.ops import knn_points, mesh_face_areas_normals
from pytorch3d.renderer.mesh import rasterize_meshes
from pytorch3d.renderer.points.pulsar import Renderer
from pytorch3d.structures import Meshes

DEVICES = ("cpu", "cuda")
FIXED_SIZES = 4
"""Kernel versions of knn_points, of which only the GPU has any."""
PIXELS = 33
MIDDLE = PIXELS // 2
COLOUR = [1.0, 0.5, 0.25]


def check(name: str, expected: Any, got: torch.Tensor, tolerance: float = 1e-5) -> dict[str, Any]:
    return {"name": name, "expected": expected, "got": got.detach().cpu().tolist(), "tolerance": tolerance}


def neighbours(device: str) -> Iterator[dict[str, Any]]:
    """The origin's three neighbours lie at squared distances 1, 4 and 9; all kernels that take 3-D points say so."""
    origin = torch.zeros(1, 1, 3, device=device)
    cloud = torch.tensor([[[0.0, 0, 3], [1, 0, 0], [0, 2, 0]]], device=device)
    versions = [version for version in range(FIXED_SIZES) if device == "cuda" and _C.knn_check_version(version, 3, 3)]
    for version in [-1, *versions]:
        found = knn_points(origin, cloud, K=3, version=version)
        yield check(f"squared distances, kernel {version}", [[[1.0, 4.0, 9.0]]], found.dists)
        yield check(f"neighbours, kernel {version}", [[[1, 2, 0]]], found.idx, 0)


def surfaces(device: str) -> Iterator[dict[str, Any]]:
    """A 3-4-5 triangle has area 6; a cloud is at no distance from itself, and moved by 1/4 at 1/16 each way."""
    corners = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 4, 0]], device=device, requires_grad=True)
    areas, normals = mesh_face_areas_normals(corners, torch.tensor([[0, 1, 2]], device=device))
    yield check("3-4-5: area", [6.0], areas)
    yield check("3-4-5: normal", [[0.0, 0.0, 1.0]], normals)
    areas.sum().backward()
    yield check("3-4-5: gradient", [[-2.0, -1.5, 0.0], [2.0, 0.0, 0.0], [0.0, 1.5, 0.0]], corners.grad)
    axis = torch.arange(16, dtype=torch.float32, device=device)
    cloud = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(1, -1, 3)
    yield check("chamfer distance to itself", 0.0, chamfer_distance(cloud, cloud)[0])
    moved = cloud + torch.tensor([0.25, 0, 0], device=device)
    yield check("chamfer distance, moved", 0.125, chamfer_distance(cloud, moved)[0])


def rasterised(device: str) -> Iterator[dict[str, Any]]:
    """One triangle over the middle: its number is there, and none in the corner."""
    corners = torch.tensor([[-0.5, -0.5, 1.0], [0.5, -0.5, 1.0], [0.0, 0.5, 1.0]], device=device)
    mesh = Meshes(verts=[corners], faces=[torch.tensor([[0, 1, 2]], device=device)])
    faces, depths, *_ = rasterize_meshes(mesh, image_size=PIXELS, blur_radius=0.0, faces_per_pixel=1)
    yield check("the middle pixel's face", [0], faces[0, MIDDLE, MIDDLE])
    yield check("the middle pixel's depth", [1.0], depths[0, MIDDLE, MIDDLE])
    yield check("the corner's face", [-1], faces[0, 0, 0])


def pulsar(device: str) -> Iterator[dict[str, Any]]:
    """One ball straight ahead: the middle pixel has its colour, but for what the softness mixes in."""
    renderer = Renderer(PIXELS, PIXELS, 1).to(device)
    image = renderer(
        torch.tensor([[0.0, 0, 25]], device=device),
        torch.tensor([COLOUR], device=device),
        torch.tensor([2.0], device=device),
        torch.tensor([0.0, 0, 0, 0, 0, 0, 5, 2], device=device),  # position, rotation, focal length, sensor's width
        1e-2,
        45.0,
    )
    yield check("Pulsar: the ball's colour", COLOUR, image.reshape(PIXELS, PIXELS, -1)[MIDDLE, MIDDLE], 0.05)


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """A kernel of each kind on this device."""
    del tools  # nothing of it is needed
    yield from neighbours(device)
    yield from surfaces(device)
    yield from rasterised(device)
    yield from pulsar(device)
