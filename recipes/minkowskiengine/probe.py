"""MinkowskiEngine: convolution and pooling on three cells, two of which are neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import MinkowskiEngine as ME  # noqa: N817 - as its documentation writes it
import torch

DEVICES = ("cpu", "cuda")


def check(name: str, expected: Any, got: torch.Tensor, tolerance: float = 0.0) -> dict[str, Any]:
    return {"name": name, "expected": expected, "got": got.detach().cpu().tolist(), "tolerance": tolerance}


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """The cells' order is the library's: what is compared is sorted."""
    del tools  # nothing of it is needed
    cells = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [0, 10, 10, 10]], dtype=torch.int32, device=device)
    values = torch.tensor([[1.0], [2.0], [4.0]], device=device, requires_grad=True)
    tensor = ME.SparseTensor(values, cells, device=device)
    convolution = ME.MinkowskiConvolution(1, 1, kernel_size=3, dimension=3).to(device)
    convolution.kernel.data.fill_(1.0)
    out = convolution(tensor)
    yield check("sums over 3 x 3 x 3 cells", [3.0, 3.0, 4.0], out.F.flatten().sort().values, 1e-6)
    out.F.sum().backward()
    yield check("how often each cell is read", [[2.0], [2.0], [1.0]], values.grad, 1e-6)
    yield check("gradient of the weights: their sum", 10.0, convolution.kernel.grad.sum(), 1e-5)
    largest = ME.MinkowskiMaxPooling(kernel_size=3, stride=1, dimension=3)(tensor)
    yield check("largest of 3 x 3 x 3 cells", [2.0, 2.0, 4.0], largest.F.flatten().sort().values)
    everything = ME.MinkowskiGlobalAvgPooling()(tensor)
    yield check("mean of all", [[7.0 / 3]], everything.F, 1e-6)
    coarse = ME.MinkowskiSumPooling(kernel_size=2, stride=2, dimension=3)(tensor)
    yield check("sums of 2 x 2 x 2 cells", [3.0, 4.0], coarse.F.flatten().sort().values, 1e-6)
