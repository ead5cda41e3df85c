"""Known answers of chamferdist: nearest neighbours by every kernel version, distances, one gradient.

Run with the device (``cuda`` or ``cpu``) as its only argument. Prints one JSON object; a wrong value ends
it with a message and status 1. Distances are squared; a cloud is [batch, points, 3], float32.
"""

import json
import sys

import torch
from chamferdist import _C, ChamferDistance
from chamferdist.chamfer import knn_points


def expect(holds: bool, text: str) -> None:
    if not holds:
        raise SystemExit(f"chamferdist: {text}")


def same(what: str, got: torch.Tensor, wanted: object) -> None:
    right = torch.as_tensor(wanted, dtype=got.dtype, device=got.device)
    close = got.shape == right.shape and torch.allclose(got, right, rtol=0, atol=1e-5)
    expect(close, f"{what} gives {got.tolist()}, not {right.tolist()}")


def check_neighbours(device: str) -> list[int]:
    """The origin's three neighbours lie at squared distances 1, 4 and 9; all kernels that take 3-D points say so."""
    origin = torch.zeros(1, 1, 3, device=device)
    cloud = torch.tensor([[[0.0, 0, 3], [1, 0, 0], [0, 2, 0]]], device=device)
    on_gpu = device == "cuda"
    versions = [version for version in range(4) if on_gpu and _C.knn_check_version(version, 3, 3)]
    for version in [-1, *versions]:
        found = knn_points(origin, cloud, K=3, version=version)
        same(f"knn_points, kernel {version}: squared distances", found.dists, [[[1.0, 4, 9]]])
        same(f"knn_points, kernel {version}: neighbours", found.idx, [[[1, 2, 0]]])
    return versions


def check_distances(device: str) -> None:
    distance = ChamferDistance()
    source = torch.zeros(1, 1, 3, device=device, requires_grad=True)
    target = torch.tensor([[[3.0, 4, 0]]], device=device)
    one_way = distance(source, target)
    same("the 3-4-5 triangle", one_way.detach(), 25.0)
    same("the 3-4-5 triangle, both ways", distance(source, target, bidirectional=True).detach(), 50.0)
    one_way.backward()
    same("its gradient", source.grad, [[[-6.0, -8, 0]]])


def check_large(device: str) -> int:
    """A grid of points moved by a quarter of its spacing: each point's nearest is its own image."""
    axis = torch.arange(16, dtype=torch.float32, device=device)
    cloud = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(1, -1, 3)
    distance = ChamferDistance()
    same("a cloud's distance to itself", distance(cloud, cloud, bidirectional=True), 0.0)
    moved = cloud + torch.tensor([0.25, 0, 0], device=device)
    same("a moved cloud's mean distance", distance(cloud, moved, point_reduction="mean"), 0.0625)
    return cloud.shape[1]


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
    versions = check_neighbours(device)
    check_distances(device)
    evidence = {"kernel_versions": versions, "points": check_large(device)}
    if device == "cuda":
        torch.cuda.synchronize()
    print(json.dumps(evidence))


main()
