"""The local version of a wheel: which torch, which CUDA, and, where it is narrower than the variant, which targets.

Labels (:mod:`buildkit.machine.variants`) only hold what PEP 440 allows after the plus sign.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from buildkit.machine.arch import Target
from buildkit.machine.variants import variant_labels

_CUDA_LOCAL = re.compile(r"\+(?:.*\.)?cu(?P<major>\d{2})(?P<minor>\d)(?:\.|$)")


def cuda_of_torch(torch_version: str) -> str | None:
    """The CUDA release that torch's own version names (``13.0`` of ``2.13.0+cu130``); None where it names none."""
    match = _CUDA_LOCAL.search(torch_version)
    return f"{match['major']}.{match['minor']}" if match else None


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
    """The label after the plus sign; arguments as in :func:`buildkit.machine.variants.variant_labels`.

    A wheel for the CPU is ``pt2.13.cpu``.
    """
    labels = variant_labels(torch_version=torch_version, cuda=cuda, targets=targets, variant=variant, device=device)
    return ".".join(labels)


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
