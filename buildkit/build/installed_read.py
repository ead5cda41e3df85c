"""Reading one installed package: its device code, linkage, RECORD, what it was built for, where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.build.environment import unmet
from buildkit.build.installed_scan import Installation, local_path, readable
from buildkit.build.package import normalised
from buildkit.machine.arch import Target
from buildkit.machine.interpreter import Interpreter
from buildkit.machine.torch_identity import TorchIdentity
from buildkit.plan.request import BuiltFor
from buildkit.recipe.loader import LoadedRecipe
from buildkit.verify.device_code import ObjectCode, find_cuobjdump, inspect_object
from buildkit.verify.installed import Package
from buildkit.verify.installed_code import Device, code_for, targets_for
from buildkit.verify.installed_mend import Mender, Origin
from buildkit.verify.installed_record import RecordCheck, check_installed_record, read_rows
from buildkit.verify.installed_torch import claims_of
from buildkit.verify.judge import held_by_all
from buildkit.verify.linkage import inspect_objects


@dataclass(frozen=True)
class Surroundings:
    """What packages are judged against.

    ``recipes`` maps names to folders, ``unsaid`` are the recipes' folders that need no option to be found, ``uv`` is
    the installer to name in commands, ``versions`` what is installed here.
    """

    python: Interpreter
    torch: TorchIdentity
    devices: tuple[Device, ...]
    recipes: Mapping[str, Path]
    unsaid: tuple[Path, ...]
    uv: str
    versions: dict[str, str]


def recipe_name(each: Installation, recipes: Mapping[str, Path]) -> str:
    """The recipe that a package was built by, or could be built by; empty where there is none."""
    names = (str(each.facts.get("recipe") or ""), each.name)
    return next((name for name in names if name in recipes), "")


def read_package(
    each: Installation,
    loaded: LoadedRecipe | None,
    around: Surroundings,
    *,
    device: BuiltFor,
    targets: tuple[Target, ...],
) -> Package:
    """Everything about it that files show. ``targets`` are those that have to be in it, ``device`` what to expect."""
    named = {path: shown for path, shown in each.objects.items() if readable(path)}
    cuobjdump = find_cuobjdump()
    objects = tuple(inspect_object(path, shown, cuobjdump) for path, shown in named.items())
    folders = [around.torch.location, *around.python.site_packages]
    requires = tuple(each.distribution.requires or ())
    code = (code_for(each_device, objects) for each_device in around.devices) if device == "cuda" else ()
    return Package(
        name=each.name,
        version=each.version,
        facts=each.facts,
        claims=claims_of(each.version, requires, each.facts),
        objects=objects,
        linkage=inspect_objects(
            named, site_packages=folders, interpreter=around.python.base_executable, installed=True
        ),
        record=_record(each),
        mender=_mender(each, loaded, around, targets, objects),
        expects_cuda=_expectation(each, loaded) if device == "cuda" else "",
        strict=bool(each.facts) or loaded is not None,
        targets=targets if device == "cuda" else (),
        code=tuple(found for found in code if found is not None),
        unmet=_unmet(requires, around),
    )


def _expectation(each: Installation, loaded: LoadedRecipe | None) -> str:
    if each.facts.get("device") == "cuda":
        return "cudabuild built it for CUDA"
    return f"the recipe {loaded.recipe.name} builds it for CUDA" if loaded is not None else ""


def _record(each: Installation) -> RecordCheck:
    text = each.distribution.read_text("RECORD") if each.info.suffix == ".dist-info" else None
    if text is None:
        return RecordCheck(absent=f"there is no RECORD in {each.info}")
    return check_installed_record(read_rows(text), each.site, each.info.name)


def _mender(
    each: Installation,
    loaded: LoadedRecipe | None,
    around: Surroundings,
    targets: tuple[Target, ...],
    objects: Sequence[ObjectCode],
) -> Mender:
    """Built anew, it should run on the GPUs that it is judged for; without any, on what it was for."""
    held = held_by_all([entry for entry in objects if entry.units])
    wanted = targets_for(around.devices) or targets or held
    return Mender(_origin(each, loaded, around), str(around.python.prefix), around.uv, wanted)


def _origin(each: Installation, loaded: LoadedRecipe | None, around: Surroundings) -> Origin:
    url, place = each.direct_url, local_path(each.direct_url)
    vcs = url.get("vcs_info")
    wheel = str(place) if place is not None and place.suffix == ".whl" else ""
    folder = str(place) if place is not None and place.is_dir() else ""
    if not folder and each.facts and loaded is None:
        folder = f"./{each.name}"  # cudabuild built it from a folder: an index may hold another project of this name
    parent = loaded.folder.parent if loaded is not None else None
    return Origin(
        name=each.name,
        version=each.version,
        recipe=loaded.recipe.name if loaded is not None else "",
        recipes=str(parent) if parent is not None and parent.resolve() not in around.unsaid else "",
        wheel=wheel,
        folder=folder,
        git=(str(url.get("url", "")), str(vcs.get("commit_id", ""))) if isinstance(vcs, dict) else ("", ""),
    )


def _unmet(requires: Sequence[str], around: Surroundings) -> tuple[str, ...]:
    """Requirements that are not met, torch's left out: that one has its own finding."""
    from packaging.requirements import InvalidRequirement, Requirement

    def counts(text: str) -> bool:
        try:
            return normalised(Requirement(text).name) != "torch"
        except InvalidRequirement:
            return False

    wanted = [text for text in requires if counts(text)]
    return tuple(unmet(wanted, around.versions, around.python))
