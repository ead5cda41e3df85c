"""diff-gaussian-rasterization: one Gaussian straight ahead, with its gradients, and what is in sight.

An opacity of 1 is cut down to 0.99 when pixels are mixed. An image of 33 pixels has its middle pixel on the axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diff_gaussian_rasterization import GaussianRasterizationSettings, GaussianRasterizer

DEVICES = ("cuda",)
PIXELS = 33
MIDDLE = PIXELS // 2
COLOUR = [1.0, 0.5, 0.25]
NEAR, FAR = 0.01, 100.0


def check(name: str, expected: Any, got: torch.Tensor, tolerance: float = 1e-5) -> dict[str, Any]:
    return {"name": name, "expected": expected, "got": got.detach().cpu().tolist(), "tolerance": tolerance}


def camera(device: str) -> GaussianRasterizationSettings:
    """At the origin, looking along z, 90 degrees wide. Matrices are for row vectors."""
    depth = FAR / (FAR - NEAR)
    projection = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, depth, 1], [0, 0, -depth * NEAR, 0]])
    known = {
        "image_height": PIXELS,
        "image_width": PIXELS,
        "tanfovx": 1.0,
        "tanfovy": 1.0,
        "bg": torch.zeros(3, device=device),
        "scale_modifier": 1.0,
        "viewmatrix": torch.eye(4, device=device),
        "projmatrix": projection.to(device),
        "sh_degree": 0,
        "campos": torch.zeros(3, device=device),
        "prefiltered": False,
        "debug": False,
        "antialiasing": False,
    }
    # Older versions have fewer of them.
    return GaussianRasterizationSettings(**{name: known[name] for name in GaussianRasterizationSettings._fields})


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """Forwards, backwards, and the test of what is in sight."""
    del tools  # nothing of it is needed
    rasteriser = GaussianRasterizer(camera(device))
    means = torch.tensor([[0.0, 0, 5]], device=device, requires_grad=True)
    colours = torch.tensor([COLOUR], device=device, requires_grad=True)
    image, radii, *_ = rasteriser(
        means3D=means,
        means2D=torch.zeros_like(means, requires_grad=True),
        opacities=torch.ones(1, 1, device=device),
        colors_precomp=colours,
        scales=torch.full((1, 3), 0.5, device=device),
        rotations=torch.tensor([[1.0, 0, 0, 0]], device=device),
    )
    yield check("the middle pixel", [0.99 * part for part in COLOUR], image[:, MIDDLE, MIDDLE], 1e-3)
    yield check("the corner", [0.0, 0.0, 0.0], image[:, 0, 0])
    yield check("it is drawn", True, radii[0] > 0)
    image.sum().backward()
    alpha = image[0].sum().item()  # red is 1, so that its channel is what is covered
    yield check("gradient of the colours", [[alpha] * 3], colours.grad, 1e-3 * alpha)
    behind = torch.tensor([[0.0, 0, 5], [0, 0, -5]], device=device)
    yield check("in sight", [True, False], rasteriser.markVisible(behind))
