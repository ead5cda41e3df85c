"""cumcubes: a plane, a sphere, and the file writer that its patch repairs. It has code for CUDA only.

Vertices are in index units on a cubic grid without ``scale``, shared between triangles; faces are int32.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cumcubes
import torch

DEVICES = ("cuda",)
SIZE = 32
CENTRE = (14.5, 15.5, 17.5)  # three different numbers: swapped axes show
RADIUS = 10.0


def check(name: str, expected: Any, got: Any, tolerance: float = 0.0) -> dict[str, Any]:
    return {"name": name, "expected": expected, "got": got, "tolerance": tolerance}


def area(vertices: torch.Tensor, faces: torch.Tensor) -> float:
    a, b, c = (vertices[faces[:, corner].long()].double() for corner in range(3))
    return torch.linalg.cross(b - a, c - a).norm(dim=1).sum().item() / 2


def plane(device: str) -> Iterator[dict[str, Any]]:
    """The field x on 8 x 8 x 8 points crosses 3.5 in a square of 7 x 7 cells."""
    field = torch.arange(8, dtype=torch.float32, device=device).view(8, 1, 1).expand(8, 8, 8).contiguous()
    vertices, faces = cumcubes.marching_cubes(field, 3.5)
    yield check("plane: vertices", 64, len(vertices))
    yield check("plane: faces", 98, len(faces))
    yield check("plane: every x", [3.5] * 64, vertices[:, 0].tolist())
    yield check("plane: area", 49.0, area(vertices, faces), 1e-3)


def sphere(device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vertices and faces of a sphere's distance field, and the vertices' distances to its centre."""
    axis = torch.arange(SIZE, dtype=torch.float32, device=device)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    centre = torch.tensor(CENTRE, device=device)
    vertices, faces = cumcubes.marching_cubes((points - centre).norm(dim=-1) - RADIUS, 0.0)
    return vertices, faces, (vertices - centre).norm(dim=1)


def written(vertices: torch.Tensor, faces: torch.Tensor) -> Iterator[dict[str, Any]]:
    """A PLY file: a vertex is three floats and three bytes, a face its count and three indices of four bytes each."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sphere.ply"
        cumcubes.save_mesh(vertices, faces, filename=str(file))
        header, _, body = file.read_bytes().partition(b"end_header\n")
    yield check("save_mesh: a PLY header", "ply", header[:3].decode("ascii", "replace"))
    yield check("save_mesh: bytes after it", 15 * len(vertices) + 16 * len(faces), len(body))


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """A mesh with a known shape, then one that fills many blocks."""
    del tools  # nothing of it is needed
    yield from plane(device)
    vertices, faces, distances = sphere(device)
    yield check("sphere: has vertices", True, len(vertices) > 1000)
    # Linear interpolation of a distance field misses a sphere by less than 1 / (8 * RADIUS).
    yield check("sphere: worst distance to it", 0.0, (distances - RADIUS).abs().max().item(), 0.02)
    yield check("sphere: Euler characteristic", 2.0, len(vertices) - len(faces) / 2)
    yield check("sphere: area", 4 * math.pi * RADIUS**2, area(vertices, faces), 0.02 * 4 * math.pi * RADIUS**2)
    yield from written(vertices, faces)
