"""What is known of GPUs, CUDA toolkits and torch releases: typed views of the TOML tables under ``data/``.

Each table names its source. The tables are read once, when first asked for; they are ours, shipped and tested with
the code, so they are plain dataclasses (a store hit reads them, and pydantic models cost it more than the reading).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from buildkit.machine.target import Target, known_notation

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_DATA = Path(__file__).parent / "data"

Release = tuple[int, int]


@cache
def release_number(text: str) -> Release:
    """``13.0``, ``13.0.88`` and ``2.13.0+cu130`` as (major, minor); ValueError where there are no two numbers."""
    match = re.match(r"(\d+)\.(\d+)", text)
    if match is None:
        raise ValueError(f"{text!r} is no version")
    return int(match[1]), int(match[2])


def short_release(version: str) -> str:
    """``13.0`` of ``13.0`` or ``13.0.88``."""
    major, minor = release_number(version)
    return f"{major}.{minor}"


@dataclass(frozen=True)
class GpuGroup:
    """The GPUs of one compute capability."""

    capability: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class GpuTable:
    """``gpus.toml``: names people type and drivers report; families; Jetson chips; examples."""

    schema: int
    source: str
    gpu: tuple[GpuGroup, ...]
    alias: dict[str, str]
    ambiguous: dict[str, tuple[str, ...]]
    family: dict[str, tuple[str, ...]]
    jetson: dict[str, str]
    example: dict[str, str]


@dataclass(frozen=True)
class ToolkitRelease:
    """One CUDA release: what it can make, the newest compilers it takes, the driver shipped with it.

    ``archives``: its versions ("12.8.1"), oldest first, that NVIDIA offers as redistributable archives.
    """

    release: str
    gcc: int
    clang: int
    plain: tuple[str, ...]
    a: tuple[str, ...] = ()
    f: tuple[str, ...] = ()
    driver: str | None = None
    windows: str | None = None
    archives: tuple[str, ...] = ()

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """Everything its nvcc accepts, suffixed ones included, without PTX flags."""
        names = [*self.plain, *(f"{name}a" for name in self.a), *(f"{name}f" for name in self.f)]
        return tuple(sorted(known_notation(name) for name in names))


@dataclass(frozen=True)
class CudaSeries:
    """A CUDA major series and the lowest driver (Linux, Windows) that runs what it makes."""

    major: int
    driver: str
    windows: str


@dataclass(frozen=True)
class Renamed:
    """One chip whose capability got another number with a release."""

    old: str
    new: str
    since: str


@dataclass(frozen=True)
class ToolkitTable:
    """``toolkits.toml``."""

    schema: int
    source: str
    series: tuple[CudaSeries, ...]
    renamed: tuple[Renamed, ...]
    release: tuple[ToolkitRelease, ...]


@dataclass(frozen=True)
class TorchRelease:
    """One torch release series (``2.13`` stands for every 2.13.x).

    ``glibc`` is the oldest that its wheels are for, ``gcc`` the oldest that its headers take, ``cxx_standard`` what
    its extensions get, and below ``oldest_cxx`` the headers are an ``#error`` (0: they are not).
    """

    version: str
    oldest_python: str
    newest_python: str
    default_cuda: str
    cuda_variants: tuple[str, ...]
    cxx_standard: int
    glibc: str
    gcc: int
    oldest_cxx: int = 0
    free_threaded: tuple[str, ...] = ()

    def has_python(self, python: str) -> bool:
        """Whether wheels exist for this Python: ``3.11``, ``3.11.2``, free-threaded ``3.14t``."""
        if python.endswith("t"):
            return python[:-1] in self.free_threaded
        wanted = release_number(python)
        return release_number(self.oldest_python) <= wanted <= release_number(self.newest_python)


@dataclass(frozen=True)
class TorchNeed:
    """The oldest torch, and its CUDA, that holds code for GPUs of these major capabilities."""

    majors: tuple[int, ...]
    torch: str
    cuda: str


@dataclass(frozen=True)
class SetuptoolsTargets:
    """What ``torch.utils.cpp_extension`` lets TORCH_CUDA_ARCH_LIST hold, from a torch release on."""

    since: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class TorchTable:
    """``torch.toml``."""

    schema: int
    source: str
    needs: tuple[TorchNeed, ...]
    setuptools: tuple[SetuptoolsTargets, ...]
    release: tuple[TorchRelease, ...]


def load_table(name: str) -> dict[str, Any]:
    """A file under ``data/``, as it was read."""
    values: dict[str, Any] = tomllib.loads((_DATA / name).read_text(encoding="utf-8"))
    return values


def frozen_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values with lists as tuples; an unknown key then is a TypeError of the dataclass."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}


@cache
def gpu_table() -> GpuTable:
    """GPU names, families and Jetson chips."""
    values = load_table("gpus.toml")
    values["gpu"] = tuple(GpuGroup(**frozen_row(row)) for row in values["gpu"])
    for name in ("ambiguous", "family"):
        values[name] = frozen_row(values[name])
    return GpuTable(**values)


@cache
def toolkit_table() -> ToolkitTable:
    """CUDA releases, oldest first. A release that lists no targets makes what the one before it makes."""
    values = load_table("toolkits.toml")
    values["series"] = tuple(CudaSeries(**row) for row in values["series"])
    values["renamed"] = tuple(Renamed(**row) for row in values["renamed"])
    releases: list[ToolkitRelease] = []
    for row in values["release"]:
        before = {name: getattr(releases[-1], name) for name in ("plain", "a", "f")} if "plain" not in row else {}
        releases.append(ToolkitRelease(**before, **frozen_row(row)))
    values["release"] = tuple(releases)
    return ToolkitTable(**values)


@cache
def torch_table() -> TorchTable:
    """torch releases, oldest first."""
    values = load_table("torch.toml")
    values["needs"] = tuple(TorchNeed(**frozen_row(row)) for row in values["needs"])
    values["release"] = tuple(TorchRelease(**frozen_row(row)) for row in values["release"])
    lists: list[SetuptoolsTargets] = []
    for row in values["setuptools"]:
        before = set(lists[-1].targets) if lists else set()
        lists.append(SetuptoolsTargets(row["since"], tuple((before - set(row["without"])) | set(row["added"]))))
    values["setuptools"] = tuple(lists)
    return TorchTable(**values)


def known_toolkits() -> tuple[ToolkitRelease, ...]:
    """Every known CUDA release, oldest first."""
    return toolkit_table().release


def toolkit_releases() -> tuple[str, ...]:
    """The numbers of every known CUDA release, oldest first: ``11.8`` ... ``13.5``."""
    return tuple(known.release for known in known_toolkits())


def toolkit_release(release: str) -> ToolkitRelease | None:
    """What is known of a CUDA release, or of the newest known one before it in its series; else None.

    A release newer than the table is taken to do at least what its predecessor does: compare ``.release``
    with what was asked to see whether this was assumed.
    """
    wanted = release_number(release)
    known = [
        one
        for one in known_toolkits()
        if release_number(one.release)[0] == wanted[0] and release_number(one.release) <= wanted
    ]
    return known[-1] if known else None


@cache
def toolkit_targets(release: str) -> tuple[Target, ...]:
    """Everything that the nvcc of this CUDA release makes (``13.0``), suffixed targets included; sorted."""
    known = toolkit_release(release)
    return known.targets if known else ()


def newest_gcc(release: str) -> int | None:
    """The newest gcc major that this CUDA release takes."""
    known = toolkit_release(release)
    return known.gcc if known else None


def newest_clang(release: str) -> int | None:
    """The newest clang major that this CUDA release takes."""
    known = toolkit_release(release)
    return known.clang if known else None


def torch_releases() -> tuple[TorchRelease, ...]:
    """Every known torch release series, oldest first."""
    return torch_table().release


def torch_release(version: str) -> TorchRelease | None:
    """The series of a torch version (``2.13``, ``2.13.0+cu130``), or None where it is not in the table."""
    wanted = release_number(version)
    return next((known for known in torch_releases() if release_number(known.version) == wanted), None)


@cache
def setuptools_targets(torch: str) -> tuple[Target, ...]:
    """What this torch's setuptools path accepts (each also with +PTX); the newest list known for later ones."""
    wanted = release_number(torch)
    lists = torch_table().setuptools
    fitting = [one for one in lists if release_number(one.since) <= wanted] or lists[:1]
    return tuple(sorted(known_notation(name) for name in fitting[-1].targets))
