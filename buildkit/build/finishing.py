"""From the wheel that a backend made to the one that is proven, stored and handed out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from buildkit.build.final import finalise
from buildkit.build.prepare import Prepared


def finish(prepared: Prepared, wheel: Path, folder: Path) -> Path:
    """Local version, torch pin and reproducible archive, in ``folder``, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return finalise(
        wheel,
        folder,
        torch_version=prepared.survey.torch.version,
        cuda=_cuda(prepared),
        targets=prepared.survey.targets,
        device=prepared.device,
        requires=prepared.package.loaded.recipe.runtime.requires,
        build_facts=build_facts(prepared),
    )


def build_facts(prepared: Prepared) -> dict[str, Any]:
    """What the wheel says about its own making; the same for the same key."""
    toolkit, license_ = prepared.survey.toolkit, prepared.package.loaded.recipe.license
    return {
        "schema": 1,
        "recipe": prepared.package.name,
        "key": prepared.key,
        "device": prepared.device,
        "targets": [str(target) for target in prepared.survey.targets],
        "torch": prepared.survey.torch.version or None,
        "cuda": _cuda(prepared) if prepared.device == "cuda" else None,
        "toolkit": toolkit.toolkit.version if toolkit else None,
        "source": prepared.source.sha256,
        "patches": [patch.label for patch in prepared.patches],
        "licence": license_.spdx,
        "redistributable": license_.redistributable,
    }


def _cuda(prepared: Prepared) -> str | None:
    """The CUDA release of the label: torch's, or the toolkit's where torch has none."""
    toolkit = prepared.survey.toolkit
    return prepared.survey.torch.cuda or (toolkit.toolkit.release if toolkit else None)
