"""tiny-cuda-nn: encodings with known values, and a network whose weights are zero. Results are in half precision."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import tinycudann as tcnn
import torch

DEVICES = ("cuda",)
ROWS = 256
"""What is encoded at a time has to be a multiple of this."""


def check(name: str, expected: torch.Tensor, got: torch.Tensor, tolerance: float) -> dict[str, Any]:
    right = expected.float().cpu().tolist()
    return {"name": name, "expected": right, "got": got.detach().float().cpu().tolist(), "tolerance": tolerance}


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """Two encodings, and a network of each kind."""
    del tools  # nothing of it is needed
    places = (torch.arange(2 * ROWS, device=device).view(ROWS, 2) % 8) / 8.0
    same = tcnn.Encoding(2, {"otype": "Identity"}).to(device)
    yield check("identity", places, same(places)[:, :2], 0.0)
    waves = tcnn.Encoding(1, {"otype": "Frequency", "n_frequencies": 1}).to(device)(places[:, :1].contiguous())
    angle = math.pi * places[:, :1]
    yield check("frequencies", torch.cat([angle.sin(), angle.cos()], dim=1), waves[:, :2], 2e-3)
    for kind in ("CutlassMLP", "FullyFusedMLP"):
        shape = {
            "otype": kind,
            "activation": "ReLU",
            "output_activation": "None",
            "n_neurons": 64,
            "n_hidden_layers": 2,
        }
        network = tcnn.Network(2, 3, shape).to(device)
        network.params.data.zero_()
        out = network(places)
        yield check(f"{kind} without weights", torch.zeros(ROWS, 3), out, 0.0)
        out.sum().backward()
        yield {"name": f"{kind}: a gradient", "expected": True, "got": network.params.grad is not None}
