"""Known answers of torch-scatter: every family of operators, forwards and backwards, small and large.

Run with the device (``cuda`` or ``cpu``) as its only argument. Prints one JSON object; a wrong value ends
it with a message and status 1. ``scatter_sum`` is torch's own code and proves nothing: the operators here
are those of the package's libraries. The example of scatter_max is the one of its documentation.
"""

import json
import sys

import torch
import torch_scatter as ts


def expect(holds: bool, text: str) -> None:
    if not holds:
        raise SystemExit(f"torch_scatter: {text}")


def same(what: str, got: torch.Tensor, wanted: object) -> None:
    right = torch.as_tensor(wanted, dtype=got.dtype, device=got.device)
    expect(got.shape == right.shape and torch.equal(got, right), f"{what} gives {got.tolist()}, not {right.tolist()}")


def check_scatter(device: str) -> None:
    src = torch.tensor([[2.0, 0, 1, 4, 3], [0, 2, 1, 3, 4]], device=device, requires_grad=True)
    index = torch.tensor([[4, 5, 4, 2, 3], [0, 0, 2, 2, 1]], device=device)
    out, arg = ts.scatter_max(src, index, dim=-1)
    same("scatter_max", out.detach(), [[0, 0, 4, 3, 2, 0], [2, 4, 3, 0, 0, 0]])
    same("scatter_max's argmax", arg, [[5, 5, 3, 4, 0, 1], [1, 4, 3, 5, 5, 5]])
    out.sum().backward()
    same("scatter_max's gradient", src.grad, [[1, 1, 0, 1, 1], [0, 1, 0, 1, 1]])
    values = torch.arange(1.0, 7, device=device)
    groups = torch.tensor([0, 0, 1, 1, 1, 2], device=device)
    same("scatter_mul", ts.scatter_mul(values, groups), [2, 60, 6])
    same("scatter_min", ts.scatter_min(values, groups)[0], [1, 3, 6])


def check_segments(device: str) -> None:
    values = torch.arange(1.0, 7, device=device, requires_grad=True)
    pointer = torch.tensor([0, 2, 5, 6], device=device)
    groups = torch.tensor([0, 0, 1, 1, 1, 2], device=device)
    for reduce, wanted in {"sum": [3, 12, 6], "mean": [1.5, 4, 6], "min": [1, 3, 6], "max": [2, 5, 6]}.items():
        same(f"segment_csr {reduce}", ts.segment_csr(values, pointer, reduce=reduce).detach(), wanted)
        same(f"segment_coo {reduce}", ts.segment_coo(values, groups, reduce=reduce).detach(), wanted)
    parts = torch.tensor([10.0, 20, 30], device=device)
    same("gather_csr", ts.gather_csr(parts, pointer), [10, 10, 20, 20, 20, 30])
    same("gather_coo", ts.gather_coo(parts, groups), [10, 10, 20, 20, 20, 30])
    (ts.segment_csr(values, pointer, reduce="sum") * parts).sum().backward()
    same("segment_csr's gradient", values.grad, [10, 10, 20, 20, 20, 30])


def check_large(device: str) -> int:
    """100,000 small whole numbers in 1,000 groups: sums and maxima are exact in float32."""
    count, groups = 100_000, 1_000
    position = torch.arange(count)
    values = ((position * 7919) % 101).to(torch.float32)
    group = position * groups // count  # sorted, 100 in each
    pointer = torch.arange(0, count + 1, count // groups)
    table = values.view(groups, -1)
    on = values.to(device)
    same("segment_csr on 100,000 values", ts.segment_csr(on, pointer.to(device), reduce="sum").cpu(), table.sum(1))
    same("segment_coo on 100,000 values", ts.segment_coo(on, group.to(device), reduce="sum").cpu(), table.sum(1))
    same("scatter_max on 100,000 values", ts.scatter_max(on, group.to(device))[0].cpu(), table.amax(1))
    return count


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
    built_with = torch.ops.torch_scatter.cuda_version()
    expect(device != "cuda" or built_with > 0, f"the libraries were built without CUDA (cuda_version {built_with})")
    check_scatter(device)
    check_segments(device)
    evidence = {"cuda_version": built_with, "values": check_large(device)}
    if device == "cuda":
        torch.cuda.synchronize()
    print(json.dumps(evidence))


main()
