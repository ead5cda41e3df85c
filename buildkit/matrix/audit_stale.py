"""Whether a wheel on an index is of what the recipe says today: its pin, its patches, its checks. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from buildkit.matrix.cell import Cell
from buildkit.verify.verdict import Verdict


@dataclass(frozen=True)
class Pinned:
    """What a recipe says of a version today. ``sdist_sha256`` is empty for other sources, ``sha256`` without a recipe;
    ``patches`` maps labels to hashes."""

    projects: tuple[str, ...]
    sha256: str = ""
    sdist_sha256: str = ""
    patches: Mapping[str, str] = field(default_factory=dict)


def why_stale(pinned: Pinned, cell: Cell, verdict: Verdict | None, materials: Mapping[str, Any] | None) -> list[str]:
    """What changed since the wheel was made, in words; empty for nothing that can be told."""
    if not pinned.sha256:
        return []
    reasons = list(_from_materials(pinned, cell, materials)) if materials else []
    if verdict is not None and verdict.recipe_sha256 and verdict.recipe_sha256 != pinned.sha256 and not reasons:
        reasons.append("the recipe changed since it was proven")
    return reasons


def _from_materials(pinned: Pinned, cell: Cell, materials: Mapping[str, Any]) -> Iterator[str]:
    """From the bill of materials that cudabuild puts into its wheels (:mod:`buildkit.build.sbom`)."""
    components = [each for each in materials.get("components", ()) if isinstance(each, dict)]
    for each in components:
        name, sha256 = str(each.get("name", "")), _sha256(each)
        if name.endswith(" (source)") and sha256 and pinned.sdist_sha256 and sha256 != pinned.sdist_sha256:
            yield "the recipe pins another source now"
        label = name.removeprefix("patch: ")
        if label != name and pinned.patches.get(label) != sha256:
            yield f"the recipe's patch {label} {'changed' if label in pinned.patches else 'is gone'}"
    toolkit = next((str(each.get("version")) for each in components if each.get("name") == "CUDA Toolkit"), "")
    if toolkit and cell.cuda and toolkit.split(".")[0] != cell.cuda.split(".")[0]:
        yield f"it was compiled with CUDA {toolkit}"


def _sha256(component: Mapping[str, Any]) -> str:
    hashes = component.get("hashes")
    known = [each for each in hashes if isinstance(each, dict)] if isinstance(hashes, list) else []
    return next((str(each.get("content", "")) for each in known if each.get("alg") == "SHA-256"), "")
