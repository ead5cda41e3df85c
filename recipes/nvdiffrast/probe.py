"""nvdiffrast: one triangle over the whole image, one beside it, interpolation, texture, antialiasing, gradients.

Clip space; pixel i of W has its centre at 2 (i + 0.5) / W - 1. Channel 3 of a rasterised image is the triangle's
number, counted from 1, and 0 where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import nvdiffrast.torch as dr
import torch

DEVICES = ("cuda",)
SIZE = 16


def check(name: str, expected: Any, got: torch.Tensor, tolerance: float = 0.0) -> dict[str, Any]:
    right = torch.as_tensor(expected).tolist()
    return {"name": name, "expected": right, "got": got.detach().cpu().tolist(), "tolerance": tolerance}


def triangle(device: str, shift: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Twice the image in both directions, moved to the right by ``shift``: positions and the one face."""
    corners = [[-1.0 + shift, -1, 0, 1], [3 + shift, -1, 0, 1], [-1 + shift, 3, 0, 1]]
    return torch.tensor([corners], device=device), torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """Each of the four operations, and the gradients of two."""
    del tools  # nothing of it is needed
    context = dr.RasterizeCudaContext(device=device)
    position, face = triangle(device)
    image, _ = dr.rasterize(context, position, face, resolution=[SIZE, SIZE])
    yield check("covered: the triangle's number", torch.ones(SIZE, SIZE), image[0, ..., 3])
    beside, _ = dr.rasterize(context, triangle(device, 10.0)[0], face, resolution=[SIZE, SIZE])
    yield check("off the screen: nothing", torch.zeros(SIZE, SIZE, 4), beside[0])

    attribute = position[..., :1].clone().requires_grad_()
    across, _ = dr.interpolate(attribute, image, face)
    centres = (2 * (torch.arange(SIZE) + 0.5) / SIZE - 1).expand(SIZE, SIZE)
    yield check("x, interpolated", centres, across[0, ..., 0], 1e-5)
    across.sum().backward()
    # A pixel's three weights add up to one.
    yield check("x: the gradient's sum", float(SIZE * SIZE), attribute.grad.sum(), 1e-2)

    places = torch.rand(1, SIZE, SIZE, 2, generator=torch.Generator().manual_seed(20)).to(device)
    texture = torch.full((1, 8, 8, 3), 0.25, device=device, requires_grad=True)
    sampled = dr.texture(texture, places, filter_mode="linear")
    yield check("texture of one colour", torch.full((SIZE, SIZE, 3), 0.25), sampled[0], 1e-6)
    sampled.sum().backward()
    yield check("texture: the gradient's sum", 3.0 * SIZE * SIZE, texture.grad.sum(), 1e-2)

    smooth = dr.antialias(across.detach().contiguous(), image, position, face)
    yield check("antialiasing without an edge changes nothing", centres, smooth[0, ..., 0], 1e-5)
