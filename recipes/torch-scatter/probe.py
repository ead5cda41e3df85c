"""torch-scatter: its documentation's examples, and every operator against plain torch, forwards and backwards.

``scatter_sum`` and ``scatter_mean`` are made of torch's own operators and prove nothing: sums and means are those of
``segment_coo`` and ``segment_csr``, which the package's libraries compute. All inputs are whole numbers, so that sums
are exact whatever their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch_scatter as ts

DEVICES = ("cpu", "cuda")
COUNT, GROUPS, WIDTH = 20_000, 500, 3


def check(name: str, expected: Any, got: torch.Tensor, tolerance: float = 0.0) -> dict[str, Any]:
    right = torch.as_tensor(expected).tolist()
    return {"name": name, "expected": right, "got": got.detach().cpu().tolist(), "tolerance": tolerance}


def apart(name: str, expected: torch.Tensor, got: torch.Tensor | None, tolerance: float = 0.0) -> dict[str, Any]:
    """A long result: its largest difference to the expected one; infinite where it has another shape."""
    same = got is not None and got.shape == expected.shape
    worst = (got.detach().cpu().double() - expected).abs().max().item() if same else float("inf")
    return {"name": name, "expected": 0.0, "got": worst, "tolerance": tolerance}


def documented(device: str) -> Iterator[dict[str, Any]]:
    """The example of scatter_max in the package's documentation, and small ones of each other operator."""
    src = torch.tensor([[2.0, 0, 1, 4, 3], [0, 2, 1, 3, 4]], device=device, requires_grad=True)
    index = torch.tensor([[4, 5, 4, 2, 3], [0, 0, 2, 2, 1]], device=device)
    out, arg = ts.scatter_max(src, index, dim=-1)
    yield check("scatter_max", [[0.0, 0, 4, 3, 2, 0], [2, 4, 3, 0, 0, 0]], out)
    yield check("scatter_max: where", [[5, 5, 3, 4, 0, 1], [1, 4, 3, 5, 5, 5]], arg)
    out.sum().backward()
    yield check("scatter_max: gradient", [[1.0, 1, 0, 1, 1], [0, 1, 0, 1, 1]], src.grad)
    values = torch.arange(1.0, 7, device=device)
    groups = torch.tensor([0, 0, 1, 1, 1, 2], device=device)
    yield check("scatter_mul", [2.0, 60, 6], ts.scatter_mul(values, groups))
    yield check("scatter_min", [1.0, 3, 6], ts.scatter_min(values, groups)[0])
    parts = torch.tensor([10.0, 20, 30], device=device)
    pointer = torch.tensor([0, 2, 5, 6], device=device)
    yield check("gather_csr", [10.0, 10, 20, 20, 20, 30], ts.gather_csr(parts, pointer))
    yield check("gather_coo", [10.0, 10, 20, 20, 20, 30], ts.gather_coo(parts, groups))


def against_torch(device: str) -> Iterator[dict[str, Any]]:
    """Many groups of different sizes, forwards; and backwards with another weight for each result."""
    order = torch.Generator().manual_seed(20)
    rows = torch.stack([torch.randperm(COUNT, generator=order) for _ in range(WIDTH)], dim=1)  # no two are equal
    values = (rows - COUNT // 2).to(torch.float32)
    group = torch.randint(GROUPS, (COUNT,), generator=order).sort().values
    group[:GROUPS] = torch.arange(GROUPS)  # no group is empty
    group = group.sort().values
    pointer = torch.nn.functional.pad(torch.bincount(group, minlength=GROUPS).cumsum(0), (1, 0))
    weight = torch.arange(1.0, GROUPS + 1).view(-1, 1) % 7 + 1
    for reduce in ("sum", "mean", "max", "min"):
        expected, slope = plain(reduce, values, group, weight)
        # A mean is rounded once here and once there.
        tolerance = 2e-3 if reduce == "mean" else 0.0
        for name, where in (("segment_coo", group), ("segment_csr", pointer)):
            on = values.clone().to(device).requires_grad_()
            out = getattr(ts, name)(on, where.to(device), reduce=reduce)
            yield apart(f"{name} {reduce}", expected, out, tolerance)
            (out * weight.to(device)).sum().backward()
            yield apart(f"{name} {reduce}: gradient", slope, on.grad, 1e-6 if reduce == "mean" else 0.0)
    mixed = torch.randperm(COUNT, generator=order)
    expected, slope = plain("max", values[mixed], group[mixed], weight)
    on = values[mixed].to(device).requires_grad_()
    out, _ = ts.scatter_max(on, group[mixed].view(-1, 1).expand(-1, WIDTH).to(device), dim=0, dim_size=GROUPS)
    yield apart("scatter_max, not sorted", expected, out)
    (out * weight.to(device)).sum().backward()
    yield apart("scatter_max, not sorted: gradient", slope, on.grad)


def plain(
    reduce: str, values: torch.Tensor, group: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by torch's own scatter_reduce on the CPU in double precision: the result, and the weighted gradient."""
    kind = {"max": "amax", "min": "amin"}.get(reduce, reduce)
    source = values.detach().double().requires_grad_()
    index = group.view(-1, 1).expand_as(source)
    empty = torch.zeros(GROUPS, WIDTH, dtype=torch.float64)
    out = empty.scatter_reduce(0, index, source, kind, include_self=False)
    (out * weight).sum().backward()
    assert source.grad is not None
    return out.detach(), source.grad


def checks(device: str, tools: Any) -> Iterator[dict[str, Any]]:
    """Every operator of the package's libraries on this device."""
    del tools  # nothing of it is needed
    with_cuda = torch.ops.torch_scatter.cuda_version() > 0
    if device == "cuda":
        yield {"name": "the libraries know CUDA", "expected": True, "got": with_cuda}
    yield from documented(device)
    yield from against_torch(device)
