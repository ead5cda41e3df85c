"""From the wheel that a backend made to the one that is proven, stored and handed out."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from buildkit.build.final import finalise
from buildkit.build.prepare import Prepared
from buildkit.build.repair import Repaired, repair
from buildkit.build.sbom import materials_of, sbom


@dataclass(frozen=True)
class Finished:
    """A wheel in its final bytes; ``grafted`` maps each library of this machine that is in it to its sha256."""

    wheel: Path
    grafted: dict[str, str]
    notes: tuple[str, ...]
    """What a person should know of it."""


def finish(prepared: Prepared, wheel: Path, folder: Path, *, ours: Path) -> Finished:
    """Repair, local version, torch pin, SBOM and reproducible archive, in ``folder``, which is made anew.

    ``ours`` is the folder of builds and environments: what is copied in from there is told by the key already.
    """
    repaired = _repaired(prepared, wheel, folder / "repaired")
    final = finalise(
        repaired.wheel,
        folder,
        torch_version=prepared.survey.torch.version,
        cuda=_cuda(prepared),
        targets=prepared.survey.targets,
        device=prepared.device,
        requires=prepared.package.loaded.recipe.runtime.requires,
        platforms=repaired.platforms,
        build_facts={**build_facts(prepared), "built_record_sha256": record_sha256(wheel)},
        bill=partial(sbom, materials_of(prepared, repaired.grafted, repaired.wheel)),
    )
    shutil.rmtree(folder / "repaired", ignore_errors=True)
    names = sorted(Path(path).name for path in repaired.grafted)
    notes = [f"copied into the wheel, since not every system has it: {', '.join(names)}"] if names else []
    if repaired.reason:
        notes.append(f"the wheel keeps its platform tag, for this system and those like it: {repaired.reason}")
    grafted = {path: sha256 for path, sha256 in repaired.grafted.items() if not Path(path).is_relative_to(ours)}
    return Finished(final, grafted, tuple(notes))


def _repaired(prepared: Prepared, wheel: Path, folder: Path) -> Repaired:
    """The wheel after repair; the canary's as it is: it never leaves this machine."""
    from buildkit.build.canary import is_canary

    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.parent.mkdir()
    if is_canary(prepared.package.loaded):
        return Repaired(wheel)
    torch = prepared.survey.torch
    return repair(wheel, folder, torch=torch.location if torch.present else None)


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


def record_sha256(wheel: Path) -> str:
    """The hash of what a backend put into a wheel: of RECORD's rows, sorted.

    The archive's own hash is kept in the release: it may change with the time of a build, and would change the bytes
    of a wheel that says it.
    """
    with ZipFile(wheel) as archive:
        record = next(name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        return hashlib.sha256(b"\n".join(sorted(archive.read(record).splitlines()))).hexdigest()


def _cuda(prepared: Prepared) -> str | None:
    """The CUDA release of the label: torch's, or the toolkit's where torch has none."""
    toolkit = prepared.survey.toolkit
    return prepared.survey.torch.cuda or (toolkit.toolkit.release if toolkit else None)
