"""torch-spline-conv: a basis worked out by hand, and the weighting and its gradients against plain torch.

With open splines of degree 1 and K weights along an axis, the pseudo-coordinate u in [0, 1] lies at u (K - 1): the two
weights beside that place share it linearly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch_spline_conv import spline_basis, spline_conv, spline_weighting

DEVICES = ("cpu", "cuda")
EDGES, INPUTS, OUTPUTS, WEIGHTS = 5_000, 4, 8, 5


def check(name: str, expected: Any, got: torch.Tensor, tolerance: float = 0.0) -> dict[str, Any]:
    right = torch.as_tensor(expected).tolist()
    return {"name": name, "expected": right, "got": got.detach().cpu().tolist(), "tolerance": tolerance}


def apart(name: str, expected: torch.Tensor | None, got: torch.Tensor | None) -> dict[str, Any]:
    """A long result: its largest difference to the expected one; infinite where it has another shape."""
    same = expected is not None and got is not None and got.shape == expected.shape
    worst = (got.detach().cpu().double() - expected).abs().max().item() if same else float("inf")
    return {"name": name, "expected": 0.0, "got": worst, "tolerance": 1e-3}


def splines(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """How many weights there are along the one axis, and that its spline is open."""
    return torch.tensor([WEIGHTS], device=device), torch.tensor([1], dtype=torch.uint8, device=device)


def by_hand(device: str) -> Iterator[dict[str, Any]]:
    """0.375 lies at 1.5, between the second weight and the third; 0.0625 at a quarter of the way to the second."""
    places = torch.tensor([[0.375], [0.0625]], device=device)
    basis, index = spline_basis(places, *splines(device), 1)
    yield check("basis", [[0.5, 0.5], [0.75, 0.25]], basis, 1e-6)
    yield check("basis: which weights", [[1, 2], [0, 1]], index)


def weighting(device: str) -> Iterator[dict[str, Any]]:
    """Many edges, forwards and backwards, with whole numbers and eighths: sums are exact but for their order."""
    order = torch.Generator().manual_seed(20)
    x = torch.randint(-4, 5, (EDGES, INPUTS), generator=order).double().requires_grad_()
    weight = torch.randint(-4, 5, (WEIGHTS, INPUTS, OUTPUTS), generator=order).double().requires_grad_()
    basis = (torch.randint(0, 9, (EDGES, 2), generator=order) / 8).double().requires_grad_()
    index = torch.randint(0, WEIGHTS, (EDGES, 2), generator=order)
    expected = torch.einsum("es,ei,esio->eo", basis, x, weight[index])
    expected.square().sum().backward()
    there = [each.detach().to(device, torch.float64).requires_grad_() for each in (x, weight, basis)]
    out = spline_weighting(there[0], there[1], there[2], index.to(device))
    out.square().sum().backward()
    yield apart("weighting", expected.detach(), out)
    for name, here, other in zip(("x", "weight", "basis"), (x, weight, basis), there, strict=True):
        yield apart(f"weighting: gradient of {name}", here.grad, other.grad)


def convolution(device: str) -> Iterator[dict[str, Any]]:
    """Two nodes that see each other through the third weight, which is the identity times three."""
    weight = torch.zeros(WEIGHTS, 2, 2, device=device)
    weight[2] = 3 * torch.eye(2, device=device)
    x = torch.tensor([[1.0, 2], [5, 7]], device=device)
    edges = torch.tensor([[0, 1], [1, 0]], device=device)
    places = torch.full((2, 1), 0.5, device=device, requires_grad=True)
    out = spline_conv(x, edges, places, weight, *splines(device), 1, False)
    yield check("convolution", [[15.0, 21.0], [3.0, 6.0]], out, 1e-5)
    out.sum().backward()
    yield {"name": "convolution: a gradient for places", "expected": True, "got": places.grad is not None}


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """Both kernels, forwards and backwards, on this device."""
    del tools  # nothing of it is needed
    if device == "cuda":
        with_cuda = torch.ops.torch_spline_conv.cuda_version() > 0
        yield {"name": "the libraries know CUDA", "expected": True, "got": with_cuda}
    yield from by_hand(device)
    yield from weighting(device)
    yield from convolution(device)
