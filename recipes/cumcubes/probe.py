"""Known answers of cumcubes on the GPU: a plane, a sphere, and the file writer that its patch repairs.

Run with the device as its only argument (cumcubes has CUDA code only). Prints one JSON object; a wrong
value ends it with a message and status 1. Vertices are in index units on a cubic grid without ``scale``,
shared between triangles; faces are int32.
"""

import json
import math
import sys
import tempfile
from pathlib import Path

import cumcubes
import torch

SIZE = 32
CENTRE = (14.5, 15.5, 17.5)  # three different numbers: swapped axes show
RADIUS = 10.0


def expect(holds: bool, text: str) -> None:
    if not holds:
        raise SystemExit(f"cumcubes: {text}")


def area(vertices: torch.Tensor, faces: torch.Tensor) -> float:
    a, b, c = (vertices[faces[:, corner].long()].double() for corner in range(3))
    return torch.linalg.cross(b - a, c - a).norm(dim=1).sum().item() / 2


def check_plane(device: str) -> None:
    """The field x on 8 x 8 x 8 points crosses 3.5 in a square of 7 x 7 cells."""
    field = torch.arange(8, dtype=torch.float32, device=device).view(8, 1, 1).expand(8, 8, 8).contiguous()
    vertices, faces = cumcubes.marching_cubes(field, 3.5)
    expect(len(vertices) == 64 and len(faces) == 98, f"the plane has {len(vertices)} vertices and {len(faces)} faces")
    expect(bool((vertices[:, 0] == 3.5).all()), "a vertex is off the plane x = 3.5")
    expect(abs(area(vertices, faces) - 49) < 1e-3, f"the plane's area is {area(vertices, faces)}, not 49")


def check_sphere(device: str) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
    axis = torch.arange(SIZE, dtype=torch.float32, device=device)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    centre = torch.tensor(CENTRE, device=device)
    vertices, faces = cumcubes.marching_cubes((grid - centre).norm(dim=-1) - RADIUS, 0.0)
    expect(len(vertices) > 1000, f"a sphere of radius 10 has {len(vertices)} vertices")
    worst = ((vertices - centre).norm(dim=1) - RADIUS).abs().max().item()
    # Linear interpolation of a distance field misses a sphere by less than 1 / (8 * RADIUS).
    expect(worst < 0.02, f"a vertex is {worst:.4f} cells off the sphere")
    euler = len(vertices) - len(faces) / 2
    expect(euler == 2, f"the sphere is not closed: Euler characteristic {euler}")
    error = area(vertices, faces) / (4 * math.pi * RADIUS**2) - 1
    expect(abs(error) < 0.02, f"the sphere's area is off by {error:.2%}")
    return vertices, faces, {"vertices": len(vertices), "worst": worst, "area_error": error}


def check_writer(vertices: torch.Tensor, faces: torch.Tensor) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sphere.ply"
        cumcubes.save_mesh(vertices, faces, filename=str(file))
        header, mark, body = file.read_bytes().partition(b"end_header\n")
    expect(header.startswith(b"ply\n") and bool(mark), "save_mesh writes no PLY header")
    # A vertex is three floats and three bytes, a face its count and three indices of four bytes each.
    size = 15 * len(vertices) + 16 * len(faces)
    expect(len(body) == size, f"save_mesh writes {len(body)} bytes after the header, not {size}")


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
    check_plane(device)
    vertices, faces, evidence = check_sphere(device)
    check_writer(vertices, faces)
    torch.cuda.synchronize()
    print(json.dumps(evidence))


main()
