"""What an image is to hold: resolved, frozen, complete. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from buildkit.machine.target import Target, torch_arch_list

Origin = Literal["wheelhouse", "index", "build"]
"""Where the wheels come from: the context, an index, or a build in a stage of its own."""

HELPER = "image_steps.py"
"""The script beside the Dockerfile that its steps call."""
MARK = "Written by `cudabuild docker`"
"""Stands among the first lines of each file that may be overwritten."""
WHEELHOUSE = "wheelhouse"
"""The folder beside the Dockerfile that holds the wheels."""
WHEEL_LIST = "wheels.txt"
"""The file inside it that names each wheel with its hash."""


@dataclass(frozen=True)
class Wheel:
    """A wheel of the store. ``manylinux`` is the minor glibc 2 release that it needs; 0: nothing is said of it."""

    filename: str
    sha256: str
    version: str
    manylinux: int = 0


@dataclass(frozen=True)
class Package:
    """A compiled package of the image, and what its recipe says of it.

    ``version`` is the recipe's, without a local part. ``driver``: it cannot be imported without a GPU driver.
    """

    recipe: str
    project: str
    version: str
    imports: tuple[str, ...]
    wheel: Wheel | None = None
    driver: bool = False
    apt: tuple[str, ...] = ()
    """Debian packages that it needs where it runs."""
    build_apt: tuple[str, ...] = ()
    """Debian packages that its compilation needs."""
    own_recipe: bool = False
    """Whether the recipe is not one of those that come with cudabuild: a build inside has to be given it."""


@dataclass(frozen=True)
class Image:
    """All that decides the texts."""

    command: str
    """What was typed, for the first line."""
    origin: Origin
    packages: tuple[Package, ...]
    torch: str
    """torch's own version, ``2.13.0+cu130``; empty where no package is a torch extension."""
    torch_on_index: bool
    """Whether the default index has this torch, and not only PyTorch's own."""
    device: Literal["cuda", "cpu"]
    targets: tuple[Target, ...]
    variant: str
    """``pt2.13-cu130``, as an index path has it."""
    python: str
    base: str
    requirements: tuple[str, ...] = ()
    """Files in the context, those that others name behind the one that was typed."""
    index: str = ""
    toolkit: str = ""
    """The CUDA toolkit that a build inside has to install first; empty where it comes by itself."""
    recipes: str = ""
    """Folder in the context with recipes of one's own, for a build inside."""
    notebook: bool = False
    """Whether the requirements bring a notebook server."""

    @property
    def arch_list(self) -> str:
        """The targets as TORCH_CUDA_ARCH_LIST has them."""
        return torch_arch_list(self.targets)

    @property
    def staged(self) -> bool:
        """Whether the wheels come from a stage before the last."""
        return self.origin != "wheelhouse"

    @property
    def apt(self) -> tuple[str, ...]:
        """The system's libraries that the image needs."""
        return tuple(sorted({name for package in self.packages for name in package.apt}))


@dataclass(frozen=True)
class Text:
    """One file to be written: its path in the context, and what it holds."""

    path: str
    text: str
