"""Variants: a torch with a CUDA release, the target set that goes with it, and the labels that name them.

Labels keep the dots (``pt2.10`` sorts above ``pt2.9``, ``pt210`` would not). Joined by dots they are a wheel's local
version (``pt2.13.cu130.sm120``), joined by dashes an index path (``pt2.13-cu130-sm120``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, RootModel

from buildkit.machine.arch import Target, covers, parse_targets

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_DATA = Path(__file__).parent / "data" / "variants.toml"


class Variant(BaseModel):
    """One variant's declared targets, as a list that people could type, and where the list is from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: str
    source: str


class _Variants(RootModel[dict[str, Variant]]):
    pass


def variant_targets(cuda: str | None) -> tuple[Target, ...]:
    """The declared target set of the variant of a CUDA release (``"13.0"``); empty where there is none."""
    variant = load_variants().get(cuda_label(cuda)) if cuda else None
    return parse_targets([variant.targets]) if variant is not None else ()


@lru_cache(maxsize=1)
def load_variants() -> dict[str, Variant]:
    """The table of variants by label (``cu130``)."""
    data = tomllib.loads(_DATA.read_text(encoding="utf-8"))
    data.pop("edition")
    return _Variants.model_validate(data).root


def cuda_label(cuda: str) -> str:
    """``cu130`` for the CUDA release ``13.0``."""
    return "cu" + "".join(cuda.split(".")[:2])


def target_label(target: Target) -> str:
    """``sm120``, ``sm90a``, ``sm86ptx``."""
    return f"sm{target.number}{'ptx' if target.ptx else ''}"


def torch_label(torch_version: str) -> str:
    """``pt2.13`` for a release; a pre-release keeps its whole version, its ABI is its own (``pt2.14.0.dev1``)."""
    from packaging.version import Version

    version = Version(torch_version)
    return f"pt{version.public}" if version.is_prerelease else f"pt{version.major}.{version.minor}"


def variant_labels(
    *,
    torch_version: str,
    cuda: str | None,
    targets: Sequence[Target],
    variant: Sequence[Target],
    device: Literal["cuda", "cpu"],
) -> tuple[str, ...]:
    """The labels of a wheel: its torch, its CUDA (or ``cpu``), and its targets where they are not the variant's.

    ``cuda`` is torch's CUDA release (without torch, where ``torch_version`` is empty, the toolkit's); ``variant``
    the declared target set (empty: there is none, so targets are named).
    """
    torch = (torch_label(torch_version),) if torch_version else ()
    if device == "cpu":
        return (*torch, "cpu")
    named = () if variant and covers(targets, variant) else tuple(target_label(target) for target in sorted(targets))
    return (*torch, cuda_label(cuda) if cuda else "cuda", *named)
