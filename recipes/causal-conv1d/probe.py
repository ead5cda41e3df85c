"""causal-conv1d: against torch's own convolution, forwards and backwards, and one step at a time.

Whole numbers, so that the sums are exact: output t of a channel is the weighted sum of inputs t - WIDTH + 1 to t.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from causal_conv1d import causal_conv1d_fn, causal_conv1d_update

DEVICES = ("cuda",)
BATCH, CHANNELS, LENGTH = 2, 64, 1_000


def apart(name: str, expected: torch.Tensor, got: torch.Tensor, tolerance: float = 0.0) -> dict[str, Any]:
    """The largest difference between two long results; infinite where one has another shape."""
    same = got.shape == expected.shape
    worst = (got.detach().double() - expected.detach().double()).abs().max().item() if same else float("inf")
    return {"name": name, "expected": 0.0, "got": worst, "tolerance": tolerance}


def inputs(device: str, width: int) -> list[torch.Tensor]:
    """Signal, weights and offsets."""
    order = torch.Generator().manual_seed(20)
    shapes = [(BATCH, CHANNELS, LENGTH), (CHANNELS, width), (CHANNELS,)]
    return [torch.randint(-4, 5, shape, generator=order).float().to(device).requires_grad_() for shape in shapes]


def plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The same by torch."""
    width = weight.shape[1]
    out = torch.nn.functional.conv1d(x, weight[:, None], bias, padding=width - 1, groups=CHANNELS)
    return out[..., : x.shape[-1]]


def whole(device: str, width: int) -> Iterator[dict[str, Any]]:
    """The whole signal at once."""
    ours, theirs = inputs(device, width), inputs(device, width)
    expected = plain(*(each.double() for each in ours))
    out = causal_conv1d_fn(*theirs)
    yield apart(f"width {width}", expected, out)
    weight = torch.arange(LENGTH, device=device) % 5 - 2
    (expected * weight).sum().backward()
    (out * weight).sum().backward()
    for name, here, there in zip(("signal", "weights", "offsets"), ours, theirs, strict=True):
        yield apart(f"width {width}: gradient of the {name}", here.grad, there.grad)
    half = causal_conv1d_fn(*(each.detach().half() for each in theirs), activation="silu")
    yield apart(f"width {width}, half precision, SiLU", torch.nn.functional.silu(expected), half, 0.1)


def step_by_step(device: str) -> Iterator[dict[str, Any]]:
    """The first eight outputs, one after the other, with what is remembered of the inputs before."""
    x, weight, bias = (each.detach() for each in inputs(device, 4))
    state = torch.zeros(BATCH, CHANNELS, 4, device=device)
    steps = [causal_conv1d_update(x[..., step].contiguous(), state, weight, bias) for step in range(8)]
    yield apart("step by step", plain(x, weight, bias)[..., :8], torch.stack(steps, dim=-1))


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """The three kernels, for each width that there is."""
    del tools  # nothing of it is needed
    torch.backends.cudnn.allow_tf32 = False
    for width in (2, 3, 4):
        yield from whole(device, width)
    yield from step_by_step(device)
