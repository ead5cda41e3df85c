"""NVIDIA's redistributable archives: what of a CUDA release an extension build needs, and where each part lies. Pure.

For each version there is a manifest, ``redistrib_12.8.1.json``: by component its version, and by platform an
archive with ``relative_path``, ``sha256`` and ``size`` (a number as text). NVIDIA describes it under "Tarballs
and Zip Archive Deliverables" in the CUDA installation guide.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buildkit.errors import NotOnIndex, NoToolkit, SourceError

ADDRESS = "https://developer.download.nvidia.com/compute/cuda/redist"
"""Where NVIDIA has them; the setting ``toolkit-archives`` names another place."""

COMPILER = "cuda_nvcc"
RUNTIME = "cuda_cudart"
# The parts of a toolkit made from wheels (buildkit.build.toolkit_wheels), under the names that they have here; and the
# two small programs that show device code. crt and nvvm come with the compiler. Before CUDA 12 there is no
# libnvjitlink.
COMPONENTS = (
    COMPILER,
    RUNTIME,
    "cuda_cccl",
    "cuda_nvrtc",
    "libnvjitlink",
    "cuda_nvtx",
    "cuda_cupti",
    "cuda_nvml_dev",
    "cuda_profiler_api",
    "cuda_cuobjdump",
    "cuda_nvdisasm",
    "libcublas",
    "libcusparse",
    "libcusolver",
    "libcurand",
    "libcufft",
)
_PLATFORMS = {"x86_64": "linux-x86_64", "aarch64": "linux-sbsa"}
_PLAIN_PATH = r"^[A-Za-z0-9_+-][A-Za-z0-9._+-]*(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*$"
_MEANT = {"relative_path": "a plain path below the manifest's folder", "sha256": "a SHA-256: 64 hexadecimal digits"}

_M = TypeVar("_M", bound=BaseModel)


class Archive(BaseModel):
    """One file, as the manifest has it. Its path can lead nowhere but below the manifest's own folder."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    relative_path: Annotated[str, Field(pattern=_PLAIN_PATH)]
    sha256: Annotated[str, Field(pattern="^[0-9A-Fa-f]{64}$")]
    size: int = Field(ge=0)


class Component(BaseModel):
    """A component; each platform that it exists for is a key of its own."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = ""
    version: str = ""


@dataclass(frozen=True)
class Part:
    """What is to be fetched of one component. ``title`` is NVIDIA's name for it; ``size`` in bytes."""

    component: str
    title: str
    version: str
    path: str
    sha256: str
    size: int

    @property
    def filename(self) -> str:
        """``cuda_nvcc-linux-x86_64-12.8.93-archive.tar.xz``."""
        return self.path.rpartition("/")[2]


def manifest_name(version: str) -> str:
    """The manifest of a version ("12.8.1")."""
    return f"redistrib_{version}.json"


def platform_of(machine: str) -> str:
    """What NVIDIA calls this machine (``x86_64``, ``aarch64``). NoToolkit for one that it has no archives for."""
    if machine not in _PLATFORMS:
        raise NoToolkit(
            f"NVIDIA offers no archives of the CUDA toolkit for {machine}",
            hint="install the toolkit that this machine's maker provides, and name it with --cuda-home PATH",
        )
    return _PLATFORMS[machine]


def read_parts(text: bytes, platform: str, where: str) -> tuple[Part, ...]:
    """The parts to fetch for a platform, in the order of :data:`COMPONENTS`. ``where`` is the manifest's address.

    Raises SourceError for what is no manifest, NotOnIndex where it has no compiler for the platform.
    """
    try:
        manifest: Any = json.loads(text)
        if not isinstance(manifest, dict):
            raise TypeError("it is no JSON object")
        found = [_part(name, manifest[name], platform) for name in COMPONENTS if name in manifest]
    except (ValueError, TypeError, RecursionError) as error:
        raise SourceError(
            f"{where} is no manifest of CUDA archives",
            evidence="it is nested too deeply" if isinstance(error, RecursionError) else str(error),
            hint="check the setting `toolkit-archives` (CUDABUILD_TOOLKIT_ARCHIVES): it names the folder "
            "that the manifests lie in",
        ) from error
    parts = tuple(part for part in found if part is not None)
    if not any(part.component == COMPILER for part in parts):
        raise NotOnIndex(
            f"{where} names no CUDA compiler for {platform}",
            evidence=f"no {COMPILER} with the key {platform}",
            hint="see `cudabuild toolkit list` for other versions",
        )
    return parts


def left_out(component: str, name: str) -> bool:
    """Whether a file of a component (by its path in the archive) is of no use to an extension.

    Static libraries, but for the runtime's own: torch links the shared ones, and so must what is loaded beside it.
    They are half of a toolkit, and wheels do without them as well.
    """
    return component != RUNTIME and re.fullmatch(r"lib(64)?/(stubs/)?[^/]+\.a", name) is not None


def _part(component: str, values: object, platform: str) -> Part | None:
    """What the manifest says of a component; None where it does not exist for the platform."""
    described = _read(Component, values, component)
    found = (described.model_extra or {}).get(platform)
    if found is None:
        return None
    archive = _read(Archive, found, f"{component}.{platform}")
    return Part(
        component, described.name, described.version, archive.relative_path, archive.sha256.lower(), archive.size
    )


def _read(model: type[_M], values: object, where: str) -> _M:
    """ValueError that names the first place in the manifest that is not as it should be."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join((where, *(str(part) for part in first["loc"])))
        message = first["msg"]
        if first["type"] == "string_pattern_mismatch":
            message = f"{str(first['input'])[:100]!r} is not {_MEANT[str(first['loc'][-1])]}"
        raise ValueError(f"{place}: {message}") from error
