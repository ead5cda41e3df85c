"""From what was read for ``cudabuild docker`` to an image: which torch, which wheels, which base."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildkit.build.label import cuda_of_torch, local_label
from buildkit.cli.docker_inputs import Inputs, Wanted
from buildkit.docker.choice import Stored, choose_wheels, default_torch, on_default_index
from buildkit.docker.model import Image, Package, Wheel
from buildkit.docker.requirements import Required, check_against, torch_for
from buildkit.errors import NoSuchBuild, UsageError
from buildkit.machine.compat import newest_torch
from buildkit.machine.facts import torch_release
from buildkit.machine.installable import find_installable, from_wheels, nearest_release
from buildkit.machine.variants import variant_targets
from buildkit.recipe.loader import bundled_recipes

if TYPE_CHECKING:
    from buildkit.store.model import Entry

BOOKWORM_GLIBC = 36
"""The minor glibc 2 release of Debian 12."""


@dataclass(frozen=True)
class Composed:
    """The image, what of the store goes beside it, and what a person should know."""

    image: Image
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]


def compose(inputs: Inputs) -> Composed:
    """Decide everything, before anything is written. Raises NoSuchBuild, DependencyConflict, UsageError."""
    chosen: tuple[Stored, ...] = ()
    if inputs.origin == "wheelhouse":
        pairs = [(each.name, each.version.version) for each in inputs.wanted]
        try:
            chosen = choose_wheels(pairs, inputs.stored, inputs.variant, inputs.python, inputs.targets)
        except NoSuchBuild as error:
            error.evidence = "; ".join(filter(None, (error.evidence, *_left_out(inputs))))
            raise
    torch = _torch(inputs, chosen)
    cuda = cuda_of_torch(torch) or (inputs.variant.cuda if inputs.variant else "")
    packages = _packages(inputs, chosen)
    python = inputs.python or _python_of(chosen)
    variant = variant_name(torch, cuda, inputs)
    image = Image(
        command=inputs.typed,
        origin=inputs.origin,
        packages=packages,
        torch=torch,
        torch_on_index=bool(torch) and on_default_index(torch, torch_release(torch)),
        device="cuda" if inputs.targets else "cpu",
        targets=inputs.targets,
        variant=variant,
        python=python,
        base=inputs.base or _base(python, packages),
        requirements=inputs.required.files,
        index=_page(inputs.index, variant),
        toolkit=_toolkit(cuda) if inputs.origin == "build" and inputs.targets else "",
        recipes=_recipes_folder(inputs) if inputs.origin == "build" else "",
        notebook=inputs.required.notebook,
    )
    notes = tuple(f"{each.name}: {text}" for each in inputs.wanted if (text := each.loaded.recipe.license.notice))
    notes += _left_out(inputs) if inputs.origin == "wheelhouse" else ()
    return Composed(image, tuple(inputs.entries[one.filename] for one in chosen), notes)


def _left_out(inputs: Inputs) -> tuple[str, ...]:
    why = "was uploaded, and no build here vouches for it: an image takes it from the index (--style index --index URL)"
    return tuple(f"{filename} {why}" for filename in inputs.uploaded)


def _torch(inputs: Inputs, chosen: Sequence[Stored]) -> str:
    """That of the wheels, of the variant, of the requirements, else the newest; empty where none is needed."""
    if not any(each.loaded.recipe.build.torch for each in inputs.wanted):
        return ""
    built = next((one.torch for one in chosen if one.torch), "")
    if built:
        return torch_for(inputs.required, built, f"the wheel is for torch {built}: {chosen[0].filename}")
    named = inputs.variant.torch if inputs.variant else ""
    if named:
        return torch_for(inputs.required, named, f"the variant is for torch {named}")
    python = inputs.python or _running_python()
    pinned = inputs.required.exact("torch")
    torch = default_torch([pinned.partition("+")[0]] if pinned else newest_torch(None, python, toolkit_majors=(12, 13)))
    return torch_for(inputs.required, torch, f"the image is for torch {torch}, as no variant was named")


def _packages(inputs: Inputs, chosen: Sequence[Stored]) -> tuple[Package, ...]:
    found = []
    for each, one in itertools.zip_longest(inputs.wanted, chosen):
        package = _package(each, one)
        version = package.wheel.version if package.wheel else package.version
        _check_pin(package, version, inputs.required)
        found.append(package)
    return tuple(found)


def _package(each: Wanted, chosen: Stored | None) -> Package:
    from packaging.utils import canonicalize_name, parse_wheel_filename

    recipe = each.loaded.recipe
    project = canonicalize_name(recipe.name)
    wheel = None
    if chosen is not None:
        project, version, _, tags = parse_wheel_filename(chosen.filename)
        needed = max(
            (int(found[1]) for tag in tags if (found := re.match(r"manylinux_2_(\d+)_", tag.platform))), default=0
        )
        wheel = Wheel(chosen.filename, chosen.sha256, str(version), needed)
    return Package(
        recipe=recipe.name,
        project=project,
        version=each.version.version,
        imports=recipe.verify.imports or (project.replace("-", "_"),),
        wheel=wheel,
        driver=recipe.runtime.driver,
        apt=recipe.runtime.apt or (recipe.system.apt if recipe.system.libraries else ()),
        build_apt=recipe.system.apt,
        own_recipe=not each.loaded.folder.is_relative_to(bundled_recipes()),
    )


def _check_pin(package: Package, version: str, required: Required) -> None:
    check_against(required, package.project, version, f"the image's {package.project} is {version}")


def _python_of(chosen: Sequence[Stored]) -> str:
    tag = next((found for one in chosen if (found := re.fullmatch(r"cp3(\d+)", one.python))), None)
    return f"3.{tag[1]}" if tag else _running_python()


def _running_python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _base(python: str, packages: Sequence[Package]) -> str:
    """One of Python's own images, of the oldest Debian that has the C library the wheels need."""
    newest = max((package.wheel.manylinux for package in packages if package.wheel), default=0)
    return f"python:{python}-slim-{'bookworm' if newest <= BOOKWORM_GLIBC else 'trixie'}"


def variant_name(torch: str, cuda: str, inputs: Inputs) -> str:
    """``pt2.13-cu130``, narrower target sets behind it: the path under which an index serves these wheels."""
    label, alone = (
        local_label(
            torch_version=version,
            cuda=cuda or None,
            targets=inputs.targets,
            variant=variant_targets(cuda),
            device="cuda" if inputs.targets else "cpu",
        )
        for version in (torch, "")
    )
    head = label.removesuffix(alone).rstrip(".")
    return "-".join([*([head] if head else []), *alone.split(".")])


def _page(index: str, variant: str) -> str:
    """The variant's page of an index whose root was named; a page that was named is kept."""
    if not index or re.search(r"/simple/?$", index):
        return index
    return f"{index.rstrip('/')}/{variant}/simple/"


def _toolkit(cuda: str) -> str:
    """What has to be installed first; 13.x is made of wheels by the build itself."""
    if not cuda or from_wheels(cuda):
        return ""
    if find_installable(cuda):
        return cuda
    nearest = nearest_release(cuda)
    if nearest is None:
        raise UsageError(
            f"no CUDA {cuda} toolkit can be installed in an image", hint="give --base an image that has one"
        )
    return nearest


def _recipes_folder(inputs: Inputs) -> str:
    """The folder of recipes of one's own that a build inside needs, as a path in the context."""
    folders = {
        each.loaded.folder.parent for each in inputs.wanted if not each.loaded.folder.is_relative_to(bundled_recipes())
    }
    if not folders:
        return ""
    folder, *others = sorted(folders)
    if others or not folder.is_relative_to(inputs.folder.resolve()):
        raise UsageError(
            f"the recipes in {folder} are not in the image's context {inputs.folder}",
            hint="put them into one folder there, and name it with --recipes",
        )
    return folder.relative_to(inputs.folder.resolve()).as_posix()
