"""Which file of an index is for which cell, by its name: version, torch, CUDA, Python, machine. Pure.

Local versions of other makers are read as far as they are understood: ``+pt2.13.cu130``, ``+pt28cu128``,
``+cu128torch2.8``, ``+cu130``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from packaging.tags import Tag
from packaging.utils import BuildTag, InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from buildkit.machine.compat import cuda_of_torch
from buildkit.machine.variants import torch_label
from buildkit.matrix.cell import Cell

_TORCH = re.compile(r"(?:pt|torch)[._]?(?P<major>\d)\.?(?P<minor>\d{1,2})(?!\d)")
_CUDA = re.compile(r"cu(?P<major>\d{2})(?P<minor>\d?)(?!\d)")


@dataclass(frozen=True)
class Named:
    """What a wheel's name says. ``torch`` (``2.13``) and ``cuda`` (``13.0``, ``13``) are empty where it says nothing;
    ``cuda`` is ``cpu`` where it says that."""

    project: str
    version: Version
    build: BuildTag
    torch: str
    cuda: str
    tags: frozenset[Tag]


def read_name(filename: str) -> Named | None:
    """What a wheel's name says; None where it is no wheel's."""
    try:
        project, version, build, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None
    local = version.local or ""
    torch, cuda = _TORCH.search(local), _CUDA.search(local)
    number = ""
    if cuda:
        number = f"{cuda['major']}.{cuda['minor']}" if cuda["minor"] else cuda["major"]
    elif re.search(r"(^|[._])cpu($|[._])", local):
        number = "cpu"
    return Named(project, version, build, f"{torch['major']}.{torch['minor']}" if torch else "", number, tags)


def misfit(cell: Cell, named: Named) -> str:
    """Why a file is not for a cell (its version apart), in words; empty where it is."""
    series = torch_label(cell.torch.partition("+")[0]).removeprefix("pt") if cell.torch != "active" else ""
    cuda = cell.cuda or cuda_of_torch(cell.torch) or ""
    if cell.device == "cpu":
        cuda = "cpu"
    if named.torch and series and named.torch != series:
        return f"it is for torch {named.torch}"
    if named.cuda and cuda and not f"{cuda}.".startswith(f"{named.cuda}."):
        return f"it is for {'the CPU' if named.cuda == 'cpu' else f'CUDA {named.cuda}'}"
    if not any(_python_fits(tag, cell.python) for tag in named.tags):
        return f"it is for {', '.join(sorted({tag.interpreter for tag in named.tags}))}"
    if not any(_platform_fits(tag, cell.platform) for tag in named.tags):
        return f"it is for {', '.join(sorted({tag.platform for tag in named.tags}))}"
    return ""


def version_of(cell: Cell) -> Version | None:
    """The version that a cell names; None for what a source says itself."""
    return Version(cell.version) if cell.version else None


def newest_first(files: Iterable[Named]) -> list[Named]:
    """By version and build tag; of two that are alike, the one whose name says more."""
    return sorted(files, key=lambda each: (Version(each.version.public), each.build, str(each.version)), reverse=True)


def _python_fits(tag: Tag, python: str) -> bool:
    major, _, minor = python.partition(".")
    if tag.interpreter == f"cp{major}{minor}" and tag.abi in {tag.interpreter, "abi3", "none"}:
        return True
    if tag.abi == "abi3" and (found := re.fullmatch(rf"cp{major}(\d+)", tag.interpreter)):
        return int(found[1]) <= int(minor or 0)
    return tag.abi == "none" and tag.interpreter in {f"py{major}", f"py{major}{minor}"}


def _platform_fits(tag: Tag, platform: str) -> bool:
    machine = platform.removeprefix("linux_")
    return tag.platform == "any" or (
        tag.platform.endswith(f"_{machine}") and tag.platform.startswith(("linux_", "manylinux"))
    )
