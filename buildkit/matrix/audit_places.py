"""Where on an index a cell's wheels may be listed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from urllib.parse import quote

from buildkit.machine.arch import parse_targets
from buildkit.machine.compat import cuda_of_torch
from buildkit.machine.variants import variant_labels, variant_targets
from buildkit.matrix.cell import Cell

VARIANT = "{variant}"


def places_of(url: str, cell: Cell, projects: Sequence[str]) -> list[list[str]]:
    """The pages of a cell's projects, in groups: a later one is for an index that has nothing under an earlier one.

    An address that ends in ``/simple`` is one index for all cells; one with ``{variant}`` has an index for each; any
    other one is asked as the one, then as the other, as `cudabuild serve` has them.
    """
    base = url.rstrip("/")
    ours = base if VARIANT in base else f"{base}/{VARIANT}/simple"
    groups = [] if VARIANT in base else [[base]]
    if not base.endswith("/simple") or VARIANT in base:
        groups.append([ours.replace(VARIANT, variant) for variant in variants_of(cell)])
    return [[f"{index}/{quote(project)}/" for index in group for project in projects] for group in groups]


def variants_of(cell: Cell) -> list[str]:
    """The paths that an index of ours may have it under: that of its own targets, and the declared one."""
    torch = cell.torch.partition("+")[0] if cell.torch != "active" else ""
    cuda = cell.cuda or cuda_of_torch(cell.torch) or None
    targets = parse_targets(cell.targets) if cell.device == "cuda" else ()
    declared = variant_targets(cuda)
    device: Literal["cuda", "cpu"] = "cpu" if cell.device == "cpu" else "cuda"
    found = []
    for version in dict.fromkeys([torch, ""]):
        for held in (targets, declared):
            labels = variant_labels(
                torch_version=version, cuda=cuda, targets=held, variant=declared, device=device
            )  # fmt: skip
            found.append("-".join(labels))
    return list(dict.fromkeys(label for label in found if label))
