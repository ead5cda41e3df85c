"""fused-ssim: equal images, images of one colour, and a gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from fused_ssim import fused_ssim

DEVICES = ("cuda",)
SHAPE = (1, 3, 64, 64)
SMALL = 0.01**2
"""The constant that keeps quotients of dark images finite."""


def check(name: str, expected: Any, got: torch.Tensor, tolerance: float) -> dict[str, Any]:
    return {"name": name, "expected": expected, "got": got.detach().cpu().tolist(), "tolerance": tolerance}


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """Without a border ("valid"), so that images of one colour have no edges."""
    del tools  # nothing of it is needed
    image = torch.rand(SHAPE, generator=torch.Generator().manual_seed(20)).to(device)
    yield check("equal images", 1.0, fused_ssim(image, image, padding="valid"), 1e-4)
    dark, light = torch.full(SHAPE, 0.25, device=device), torch.full(SHAPE, 0.75, device=device)
    # Nothing varies: what is left is the means' part.
    expected = (2 * 0.25 * 0.75 + SMALL) / (0.25**2 + 0.75**2 + SMALL)
    yield check("one colour each", expected, fused_ssim(dark, light, padding="valid"), 1e-3)
    moving = image.flip(3).contiguous().requires_grad_()
    value = fused_ssim(moving, image, padding="valid")
    value.backward()
    with torch.no_grad():
        nearer = fused_ssim(moving + 1e-2 * moving.grad / moving.grad.abs().max(), image, padding="valid")
    yield check("uphill along the gradient", True, nearer > value, 0.0)
