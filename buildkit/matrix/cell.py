"""A cell of a matrix: one wheel to be made, as a value."""

from __future__ import annotations

import re
from dataclasses import dataclass

from buildkit.errors import CudabuildError
from buildkit.machine.arch import parse_targets
from buildkit.machine.variants import cuda_label, target_label, torch_label


@dataclass(frozen=True)
class Cell:
    """One wheel to be made. Two cells of a matrix differ in their ``id``.

    ``recipe`` is what `cudabuild build` takes: a recipe's name, a project's folder, or ``pypi:NAME``.
    """

    id: str
    """Stable, readable, and a file's name: ``NAME-0.1.4-pt2.13-cu130-cp311-sm120``."""
    recipe: str
    version: str
    """Empty: the source's own."""
    torch: str
    """With its CUDA where one is named (``2.13.0+cu130``); ``active``: the active environment's."""
    cuda: str
    """The release of torch's CUDA (``13.0``); empty for the CPU, and where torch is the active environment's."""
    python: str
    """Two numbers (``3.11``)."""
    targets: tuple[str, ...]
    """As they are typed after `--target`; empty for the CPU."""
    device: str
    """``cuda`` or ``cpu``."""
    platform: str
    """As Python names it: ``linux_x86_64``."""
    require: str | None = None
    memory: int | None = None
    """Bytes; None: what the machine has."""
    timeout: float | None = None
    """Seconds; None: what the recipe and history say."""
    gpu: str | None = None
    """A GPU that its proof needs: empty for any, else a type as the cluster names it; None: none."""


def cell_id(
    *, recipe: str, version: str, torch: str, cuda: str, python: str, targets: tuple[str, ...], device: str,
    platform: str, exact: bool = False,
) -> str:  # fmt: skip
    """The id of a cell, of letters, digits and ``.-_``. ``exact``: with torch's whole version, not its series alone.

    The platform is named where it is not ``linux_x86_64``.
    """
    parts = [_name_of(recipe), version]
    if torch and torch != "active":
        parts.append(f"pt{torch.partition('+')[0]}" if exact else torch_label(torch))
    parts.append(cuda_label(cuda) if cuda else "" if device == "cuda" else "cpu")
    parts.append(f"cp{python.replace('.', '')}")
    parts += _targets(targets)
    parts.append("" if platform == "linux_x86_64" else platform)
    return "-".join(part for text in parts if (part := re.sub(r"[^A-Za-z0-9._]+", "_", text).strip("._")))


def _name_of(recipe: str) -> str:
    """A recipe's own name; of a folder the last part, of ``pypi:NAME`` the name."""
    text = recipe.removeprefix("pypi:").rstrip("/").rpartition("/")[2]
    return text.replace("-", "_")


def _targets(targets: tuple[str, ...]) -> list[str]:
    try:
        return [target_label(target) for target in parse_targets(targets)]
    except CudabuildError:  # a name that only a machine can tell: native
        return list(targets)
