"""diso: a sphere by both extractors, its gradient, and the same mesh by cudabuild's own kernel. CUDA code only.

As diso documents: vertices are in index units with ``normalize=False`` and in [0, 1] with ``normalize=True``; without
deformation the mesh is a watertight manifold, so a sphere has Euler characteristic 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from diso import DiffDMC, DiffMC

DEVICES = ("cuda",)
SIZE = 32
CENTRE = (14.5, 15.5, 17.5)  # three different numbers: swapped axes show
RADIUS = 10.0
AREA = 4 * math.pi * RADIUS**2
VOLUME = 4 / 3 * math.pi * RADIUS**3


def check(name: str, expected: Any, got: Any, tolerance: float = 0.0) -> dict[str, Any]:
    return {"name": name, "expected": expected, "got": got, "tolerance": tolerance}


def sphere(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The signed distance to the sphere on the grid [x, y, z], and the sphere's centre."""
    axis = torch.arange(SIZE, dtype=torch.float32, device=device)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    centre = torch.tensor(CENTRE, device=device)
    return (grid - centre).norm(dim=-1) - RADIUS, centre


def area_and_volume(vertices: torch.Tensor, triangles: torch.Tensor) -> tuple[float, float]:
    a, b, c = (vertices[triangles[:, corner].long()].double() for corner in range(3))
    normals = torch.linalg.cross(b - a, c - a)
    return normals.norm(dim=1).sum().item() / 2, abs((a * normals).sum().item()) / 6


def shape(
    field: torch.Tensor, centre: torch.Tensor, vertices: torch.Tensor, triangles: torch.Tensor
) -> Iterator[dict[str, Any]]:
    """Closed, on the sphere, and of its area and volume."""
    # Linear interpolation of a distance field misses a sphere by less than 1 / (8 * RADIUS).
    worst = ((vertices - centre).norm(dim=1) - RADIUS).abs().max().item()
    area, volume = area_and_volume(vertices, triangles)
    yield check("marching cubes: worst distance to the sphere", 0.0, worst, 0.02)
    yield check("marching cubes: Euler characteristic", 2.0, len(vertices) - len(triangles) / 2)
    yield check("marching cubes: area", AREA, area, 0.02 * AREA)
    yield check("marching cubes: volume", VOLUME, volume, 0.02 * VOLUME)
    unit, _ = DiffMC(dtype=torch.float32)(field, None, normalize=True)
    apart = (unit * (SIZE - 1) - vertices).abs().max().item()
    yield check("marching cubes: normalize=True is the same mesh in [0, 1]", 0.0, apart, 1e-3)


def same_as(
    mcubes: Any, field: torch.Tensor, vertices: torch.Tensor, triangles: torch.Tensor
) -> Iterator[dict[str, Any]]:
    """Against cudabuild's kernel: a sphere has no ambiguous face, so any right table gives the very same surface.

    The numbering may be another one: vertices are compared as a set, each with the nearest of the other mesh.
    """
    volume = field if mcubes.has_cuda and field.is_cuda else field.cpu()
    points, cells = (torch.from_dlpack(array).to(field.device) for array in mcubes.marching_cubes(volume, 0.0))
    yield check("beside our kernel: vertices", len(points), len(vertices))
    yield check("beside our kernel: triangles", len(cells), len(triangles))
    apart = torch.cdist(vertices.double(), points.double())
    yield check("beside our kernel: farthest vertex of theirs", 0.0, apart.amin(1).max().item(), 1e-4)
    yield check("beside our kernel: farthest vertex of ours", 0.0, apart.amin(0).max().item(), 1e-4)
    ours, theirs = area_and_volume(points, cells), area_and_volume(vertices, triangles)
    yield check("beside our kernel: area and volume", list(ours), list(theirs), 1e-4 * VOLUME)


def dual(field: torch.Tensor, centre: torch.Tensor) -> Iterator[dict[str, Any]]:
    vertices, quads = DiffDMC(dtype=torch.float32)(field, None, return_quads=True, normalize=False)
    yield check("dual marching cubes: has vertices", True, len(vertices) > 1000)
    worst = ((vertices - centre).norm(dim=1) - RADIUS).abs().max().item()
    yield check("dual marching cubes: worst distance to the sphere", 0.0, worst, 0.2)
    yield check("dual marching cubes: Euler characteristic", 2, len(vertices) - len(quads))


def gradient(field: torch.Tensor, centre: torch.Tensor) -> Iterator[dict[str, Any]]:
    """A distance field raised by e has its zero set e further inside: d(mean radius) / d(field) sums to -1."""
    field = field.clone().requires_grad_()
    vertices, _ = DiffMC(dtype=torch.float32)(field, None, normalize=False)
    (vertices - centre).norm(dim=1).mean().backward()
    yield check("gradient: reaches the field", True, field.grad is not None)
    if field.grad is not None:
        yield check("gradient: its sum", -1.0, field.grad.sum().item(), 0.05)


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """Known answers, then the comparison where the canary's module is at hand."""
    field, centre = sphere(device)
    vertices, triangles = DiffMC(dtype=torch.float32)(field, None, normalize=False)
    yield check("marching cubes: has vertices", True, len(vertices) > 1000)
    yield from shape(field, centre, vertices, triangles)
    if tools.mcubes is not None:
        yield from same_as(tools.mcubes, field, vertices, triangles)
    yield from dual(field, centre)
    yield from gradient(field, centre)
