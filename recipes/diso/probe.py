"""Known answers of diso on the GPU: a sphere's distance field, both extractors, and one gradient.

Run with the device as its only argument (diso has CUDA code only). Prints one JSON object; a wrong value
ends it with a message and status 1. Documented by diso: vertices are in index units with
``normalize=False`` and in [0, 1] with ``normalize=True``; without deformation the mesh is a watertight
manifold, so a sphere has Euler characteristic 2.
"""

import json
import math
import sys

import torch
from diso import DiffDMC, DiffMC

SIZE = 32
CENTRE = (14.5, 15.5, 17.5)  # three different numbers: swapped axes show
RADIUS = 10.0


def expect(holds: bool, text: str) -> None:
    if not holds:
        raise SystemExit(f"diso: {text}")


def sphere(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The signed distance to the sphere on the grid [x, y, z], and the sphere's centre."""
    axis = torch.arange(SIZE, dtype=torch.float32, device=device)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    centre = torch.tensor(CENTRE, device=device)
    return (grid - centre).norm(dim=-1) - RADIUS, centre


def area_and_volume(vertices: torch.Tensor, triangles: torch.Tensor) -> tuple[float, float]:
    a, b, c = (vertices[triangles[:, corner]].double() for corner in range(3))
    normals = torch.linalg.cross(b - a, c - a)
    return normals.norm(dim=1).sum().item() / 2, (a * normals).sum().abs().item() / 6


def check_marching_cubes(field: torch.Tensor, centre: torch.Tensor) -> dict[str, float]:
    extract = DiffMC(dtype=torch.float32)
    vertices, triangles = extract(field, None, normalize=False)
    expect(len(vertices) > 1000, f"a sphere of radius 10 has {len(vertices)} vertices")
    worst = ((vertices - centre).norm(dim=1) - RADIUS).abs().max().item()
    # Linear interpolation of a distance field misses a sphere by less than 1 / (8 * RADIUS).
    expect(worst < 0.02, f"a vertex is {worst:.4f} cells off the sphere")
    euler = len(vertices) - len(triangles) / 2
    expect(euler == 2, f"the sphere is not closed: Euler characteristic {euler}")
    area, volume = area_and_volume(vertices, triangles)
    area_error = area / (4 * math.pi * RADIUS**2) - 1
    volume_error = volume / (4 / 3 * math.pi * RADIUS**3) - 1
    expect(abs(area_error) < 0.02, f"the sphere's area is off by {area_error:.2%}")
    expect(abs(volume_error) < 0.02, f"the sphere's volume is off by {volume_error:.2%}")
    unit, _ = extract(field, None, normalize=True)
    expect(torch.allclose(unit * (SIZE - 1), vertices, atol=1e-3), "normalize=True is not the same mesh in [0, 1]")
    return {
        "vertices": len(vertices),
        "worst": worst,
        "area_error": area_error,
        "volume_error": volume_error,
    }


def check_dual(field: torch.Tensor, centre: torch.Tensor) -> dict[str, float]:
    vertices, quads = DiffDMC(dtype=torch.float32)(field, None, return_quads=True, normalize=False)
    expect(len(vertices) > 1000, f"a sphere of radius 10 has {len(vertices)} dual vertices")
    worst = ((vertices - centre).norm(dim=1) - RADIUS).abs().max().item()
    expect(worst < 0.2, f"a dual vertex is {worst:.4f} cells off the sphere")
    euler = len(vertices) - len(quads)
    expect(euler == 2, f"the dual sphere is not closed: Euler characteristic {euler}")
    return {"dual_vertices": len(vertices), "dual_worst": worst}


def check_gradient(field: torch.Tensor, centre: torch.Tensor) -> dict[str, float]:
    """A distance field raised by e has its zero set e further inside: d(mean radius) / d(field) sums to -1."""
    field = field.clone().requires_grad_()
    vertices, _ = DiffMC(dtype=torch.float32)(field, None, normalize=False)
    (vertices - centre).norm(dim=1).mean().backward()
    expect(field.grad is not None, "no gradient reaches the field")
    total = field.grad.sum().item()
    expect(abs(total + 1) < 0.05, f"the gradient of the mean radius sums to {total:.4f} instead of -1")
    return {"gradient": total}


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
    field, centre = sphere(device)
    evidence = check_marching_cubes(field, centre) | check_dual(field, centre) | check_gradient(field, centre)
    torch.cuda.synchronize()
    print(json.dumps(evidence))


main()
