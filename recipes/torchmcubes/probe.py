"""torchmcubes: a plane, a sphere as TripoSR asks for it, a field that is crossed nowhere, and interpolation.

Volumes are [z, y, x], contiguous and float32. Vertices are (x, y, z) in index units, faces int32; on CUDA no two
triangles share a vertex, so that only what holds for both is asked: areas, triangles, where vertices lie.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torchmcubes import grid_interp, marching_cubes

DEVICES = ("cpu", "cuda")
SIZE = 32
CENTRE = (14.5, 15.5, 17.5)  # three different numbers: swapped axes show
RADIUS = 10.0
AREA = 4 * math.pi * RADIUS**2


def check(name: str, expected: Any, got: Any, tolerance: float = 0.0) -> dict[str, Any]:
    return {"name": name, "expected": expected, "got": got, "tolerance": tolerance}


def area(vertices: torch.Tensor, faces: torch.Tensor) -> float:
    a, b, c = (vertices[faces[:, corner].long()].double() for corner in range(3))
    return torch.linalg.cross(b - a, c - a).norm(dim=1).sum().item() / 2


def plane(device: str) -> Iterator[dict[str, Any]]:
    """The field x on 8 x 8 x 8 points crosses 3.5 in a square of 7 x 7 cells, two triangles each."""
    field = torch.arange(8, dtype=torch.float32, device=device).expand(8, 8, 8).contiguous()
    vertices, faces = marching_cubes(field, 3.5)
    yield check("plane: triangles", 98, len(faces))
    yield check("plane: every x", [3.5] * len(vertices), vertices[:, 0].tolist(), 1e-6)
    yield check("plane: area", 49.0, area(vertices, faces), 1e-3)


def nowhere(device: str) -> Iterator[dict[str, Any]]:
    """Without a crossing it answers with one triangle without an area, or with none."""
    vertices, faces = marching_cubes(torch.zeros(8, 8, 8, device=device), 1.0)
    yield check("no crossing: at most one triangle", True, len(faces) <= 1)
    yield check("no crossing: area", 0.0, area(vertices, faces))


def distances(device: str) -> torch.Tensor:
    """The signed distance to the sphere on the grid [x, y, z], positive outside."""
    axis = torch.arange(SIZE, dtype=torch.float32, device=device)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    return (points - torch.tensor(CENTRE, device=device)).norm(dim=-1) - RADIUS


def sphere(device: str) -> Iterator[dict[str, Any]]:
    """Passed as it is: what is [x, y, z] for us is [z, y, x] for it, and x and z come back swapped."""
    vertices, faces = marching_cubes(distances(device), 0.0)
    yield check("sphere: has vertices", True, len(vertices) > 1000)
    yield check("sphere: area", AREA, area(vertices, faces), 0.02 * AREA)
    centre = torch.tensor(CENTRE[::-1], device=device)
    # Linear interpolation of a distance field misses a sphere by less than 1 / (8 * RADIUS).
    worst = ((vertices - centre).norm(dim=1) - RADIUS).abs().max().item()
    yield check("sphere: worst distance to it", 0.0, worst, 0.02)


def as_triposr_does(device: str) -> Iterator[dict[str, Any]]:
    """Densities as one column, negated, cut at zero; vertices turned around and scaled to [0, 1]."""
    density = -distances(device).reshape(-1, 1)
    level = -density.view(SIZE, SIZE, SIZE)
    vertices, faces = marching_cubes(level.detach(), 0.0)
    vertices = vertices[..., [2, 1, 0]] / (SIZE - 1.0)
    yield check("TripoSR: indices that are there", True, 0 <= int(faces.min()) <= int(faces.max()) < len(vertices))
    centre = torch.tensor(CENTRE, device=device) / (SIZE - 1.0)
    worst = ((vertices - centre).norm(dim=1) - RADIUS / (SIZE - 1.0)).abs().max().item()
    yield check("TripoSR: worst distance to the sphere", 0.0, worst, 0.02 / (SIZE - 1.0))


def interpolation(device: str) -> Iterator[dict[str, Any]]:
    """A linear field is interpolated exactly: three channels that say x, y and z, at points between the grid's."""
    axis = torch.arange(8, dtype=torch.float32, device=device)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    volume = torch.stack([x, y, z]).contiguous()
    points = torch.tensor([[1.25, 2.5, 3.75], [0.0, 6.5, 2.0], [6.75, 0.125, 5.5]], device=device)
    yield check("grid_interp of x, y and z", points.tolist(), grid_interp(volume, points).tolist(), 1e-5)


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """Every function on this device."""
    del tools  # nothing of it is needed: both meshes have known answers
    yield from plane(device)
    yield from nowhere(device)
    yield from sphere(device)
    yield from as_triposr_does(device)
    yield from interpolation(device)
