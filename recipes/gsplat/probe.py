"""gsplat: covariances, spherical harmonics, and one Gaussian in the middle of an image, with its gradients.

The middle of pixel i is at i + 0.5; an opacity of 1 is cut down to 0.999 when pixels are mixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from gsplat import quat_scale_to_covar_preci, rasterization, spherical_harmonics

DEVICES = ("cuda",)
PIXELS = 33
MIDDLE = PIXELS // 2
COLOUR = [1.0, 0.5, 0.25]


def check(name: str, expected: Any, got: torch.Tensor, tolerance: float = 1e-5) -> dict[str, Any]:
    return {"name": name, "expected": expected, "got": got.detach().cpu().tolist(), "tolerance": tolerance}


def covariances(device: str) -> Iterator[dict[str, Any]]:
    """Without a rotation the squares of the scales stand on the diagonal, and their inverses in the precision."""
    quaternion = torch.tensor([[1.0, 0, 0, 0]], device=device)
    scales = torch.tensor([[1.0, 2, 4]], device=device, requires_grad=True)
    covariance, precision = quat_scale_to_covar_preci(quaternion, scales)
    yield check("covariance", [1.0, 4.0, 16.0], covariance[0].diagonal())
    yield check("precision", [1.0, 0.25, 0.0625], precision[0].diagonal())
    covariance.sum().backward()
    yield check("covariance: gradient of the scales", [[2.0, 4.0, 8.0]], scales.grad)


def harmonics(device: str) -> Iterator[dict[str, Any]]:
    """Of degree 0: the constant, in whatever direction."""
    directions = torch.nn.functional.normalize(torch.ones(1, 3, device=device), dim=-1)
    coefficients = torch.tensor([[COLOUR]], device=device)
    constant = 0.5 / math.sqrt(math.pi)
    found = spherical_harmonics(0, directions, coefficients)
    yield check("spherical harmonics", [[constant * part for part in COLOUR]], found)


def image(device: str) -> Iterator[dict[str, Any]]:
    """A Gaussian that is opaque in its middle, straight ahead."""
    colours = torch.tensor([COLOUR], device=device, requires_grad=True)
    means = torch.tensor([[0.0, 0, 5]], device=device, requires_grad=True)
    focal, middle = 30.0, PIXELS / 2
    picture, alphas, _ = rasterization(
        means=means,
        quats=torch.tensor([[1.0, 0, 0, 0]], device=device),
        scales=torch.full((1, 3), 0.25, device=device),
        opacities=torch.ones(1, device=device),
        colors=colours,
        viewmats=torch.eye(4, device=device)[None],
        Ks=torch.tensor([[[focal, 0, middle], [0, focal, middle], [0, 0, 1]]], device=device),
        width=PIXELS,
        height=PIXELS,
    )
    yield check("the middle pixel", COLOUR, picture[0, MIDDLE, MIDDLE], 2e-3)
    yield check("the corner", [0.0, 0.0, 0.0], picture[0, 0, 0])
    yield check("left and right are the same", 0.0, (alphas - alphas.flip(2)).abs().max())
    picture.sum().backward()
    total = alphas.sum().item()
    yield check("gradient of the colours", [[total] * 3], colours.grad, 1e-3 * total)
    yield check("gradient of the place: none sideways", [0.0, 0.0], means.grad[0, :2], 1e-2)


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """What rendering is made of, then rendering."""
    del tools  # nothing of it is needed
    yield from covariances(device)
    yield from harmonics(device)
    yield from image(device)
