"""The local version of a wheel: which torch, which CUDA, and, where it is narrower than the variant, which targets.

Labels keep the dots (``pt2.10`` sorts above ``pt2.9``, ``pt210`` would not) and only hold what PEP 440 allows
after the plus sign.
"""

from __future__ import annotations

import re
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

_DATA = Path(__file__).with_name("variants.toml")
_CUDA_LOCAL = re.compile(r"\+(?:.*\.)?cu(?P<major>\d{2})(?P<minor>\d)(?:\.|$)")


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


def cuda_of_torch(torch_version: str) -> str | None:
    """The CUDA release that torch's own version names (``13.0`` of ``2.13.0+cu130``); None where it names none."""
    match = _CUDA_LOCAL.search(torch_version)
    return f"{match['major']}.{match['minor']}" if match else None


def target_label(target: Target) -> str:
    """``sm120``, ``sm90a``, ``sm86ptx``."""
    return f"sm{target.number}{'ptx' if target.ptx else ''}"


def torch_label(torch_version: str) -> str:
    """``pt2.13`` for a release; a pre-release keeps its whole version, its ABI is its own (``pt2.14.0.dev1``)."""
    from packaging.version import Version

    version = Version(torch_version)
    return f"pt{version.public}" if version.is_prerelease else f"pt{version.major}.{version.minor}"


def torch_pin(torch_version: str) -> str:
    """The requirement on torch: ``torch==2.13.*`` for a release, the very version for a pre-release; empty for none."""
    from packaging.version import Version

    if not torch_version:
        return ""
    version = Version(torch_version)
    return f"torch=={version.public}" if version.is_prerelease else f"torch=={version.major}.{version.minor}.*"


def local_label(
    *,
    torch_version: str,
    cuda: str | None,
    targets: Sequence[Target],
    variant: Sequence[Target],
    device: Literal["cuda", "cpu"],
) -> str:
    """The label after the plus sign.

    ``cuda`` is torch's CUDA release (without torch, where ``torch_version`` is empty, the toolkit's); ``variant``
    the declared target set (empty: there is none, so targets are named). A wheel for the CPU is ``pt2.13.cpu``.
    """
    torch = [torch_label(torch_version)] if torch_version else []
    if device == "cpu":
        return ".".join([*torch, "cpu"])
    named = [] if variant and covers(targets, variant) else [target_label(target) for target in sorted(targets)]
    return ".".join([*torch, cuda_label(cuda) if cuda else "cuda", *named])


def with_local(version: str, label: str) -> str:
    """The version with the label; one that has a local version already keeps it in front (``1.0+abc.pt2.13``).

    A label that is there already is not added again.
    """
    from packaging.version import Version

    parsed = Version(version)
    if parsed.local is None:
        return str(Version(f"{parsed.public}+{label}"))
    if parsed.local == label or parsed.local.endswith(f".{label}"):
        return str(parsed)
    return str(Version(f"{parsed.public}+{parsed.local}.{label}"))
