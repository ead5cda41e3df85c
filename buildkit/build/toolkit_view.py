"""A toolkit as a build sees it: real folders of links, the same shape whatever the toolkit's own shape is.

nvcc takes its root from the path by which it is started, so started as ``VIEW/bin/nvcc`` it, and CMake,
which asks it, see the view. A linked ``bin`` folder would leave the view at ``bin/..``: hence real folders.
The view adds what wheels lack (``lib64``, ``libX.so`` beside ``libX.so.N``, a libcuda to link against), and
fills what the toolkit lacks from others of its release.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from buildkit.build.cuda_names import HEADER, LIBRARY, TOOL
from buildkit.build.driver_stub import make_driver_stub
from buildkit.guard.shim import MARKER
from buildkit.machine.toolkit import Toolkit

_VERSIONED = re.compile(r"(?P<plain>lib.+?\.so)\.(?P<version>[\d.]+)")
# CUDA's C++ core libraries depend on each other: they come from one toolkit, all of them or none.
_CORE_LIBRARIES = ("thrust", "cub", "cuda", "nv")
_CORE_SIGN = "cub/cub.cuh"
_STUB = "lib64/stubs/libcuda.so"

# nvcc.profile as toolkits in folders of their own have it. Debian's and conda's name folders outside the view.
_PROFILE = """
TOP              = $(_HERE_)/..

CICC_PATH        = $(TOP)/nvvm/bin
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice

LD_LIBRARY_PATH += $(TOP)/lib:
PATH            += $(CICC_PATH):$(_HERE_):

INCLUDES        +=  "-I$(TOP)/include" $(_SPACE_)
SYSTEM_INCLUDES +=  "-isystem" "$(TOP)/include/cccl" $(_SPACE_)

LIBRARIES        =+ $(_SPACE_) "-L$(TOP)/lib64/stubs" "-L$(TOP)/lib64"

CUDAFE_FLAGS    +=
PTXAS_FLAGS     +=
"""


class _Tree:
    """What a folder shall hold, by path relative to it: a link's target, or a file's bytes. The first one stays."""

    def __init__(self) -> None:
        self.places: dict[str, str | bytes] = {}
        self.programs: set[str] = set()
        """Those of the files that can be started."""

    def put(self, place: str, content: str | bytes) -> None:
        """A link (text: its target) or a file (bytes), unless something is there."""
        self.places.setdefault(place, content)

    def link(self, place: str, target: Path) -> None:
        """A link to ``target`` if that exists."""
        if os.path.lexists(target):
            self.put(place, str(target))

    def link_all(self, place: str, folder: Path, wanted: re.Pattern[str] | None, *, skip: Sequence[str] = ()) -> None:
        """Links to every entry of ``folder``, or to those whose names are wanted."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name not in skip and (wanted is None or wanted.fullmatch(entry.name)):
                    self.put(f"{place}/{entry.name}", entry.path)

    def write(self, folder: Path) -> None:
        """Make it all below ``folder``."""
        for place, content in self.places.items():
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
                path.chmod(0o755 if place in self.programs else 0o644)
            else:
                path.symlink_to(content)


def make_view(
    toolkit: Toolkit,
    fill: Sequence[Toolkit],
    destination: Path,
    *,
    compiler: Path | None = None,
    shim: Path | None = None,
) -> Path:
    """Make the view of ``toolkit`` at ``destination``, what it lacks taken from ``fill``, and return its path.

    ``compiler`` (the host's C or C++ compiler) makes a libcuda to link against where no toolkit brings one. ``shim``
    (a program, :mod:`buildkit.guard.shim`) stands in front of nvcc. A view that is there and holds the same is left
    as it is; another one is replaced in one rename.
    """
    tree = _plan([toolkit, *fill], compiler, shim)
    if not destination.is_symlink() and dict(_contents(destination)) == tree.places:
        return destination
    destination.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=destination.parent, prefix=f".{destination.name}-"))
    try:
        (scratch / "new").mkdir()
        tree.write(scratch / "new")
        if os.path.lexists(destination):
            destination.rename(scratch / "old")
        (scratch / "new").rename(destination)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return destination


def _contents(folder: Path, prefix: str = "") -> Iterator[tuple[str, str | bytes]]:
    """Every link and file below ``folder``, as :class:`_Tree` has them."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                yield from _contents(path, f"{prefix}{entry.name}/")
            else:
                yield f"{prefix}{entry.name}", str(path.readlink()) if entry.is_symlink() else path.read_bytes()


def _plan(toolkits: Sequence[Toolkit], compiler: Path | None, shim: Path | None) -> _Tree:
    tree = _Tree()
    if shim is not None:
        _plan_shim(tree, toolkits[0].layout.tool("nvcc"), shim)
    _plan_compiler(tree, toolkits[0])
    _plan_headers(tree, toolkits)
    _plan_libraries(tree, toolkits)
    tree.put("lib", "lib64")
    header = tree.places.get("include/cuda.h")
    if compiler is not None and isinstance(header, str) and _STUB not in tree.places:
        tree.put(_STUB, make_driver_stub(Path(header), compiler))
    return tree


def _plan_shim(tree: _Tree, nvcc: Path, shim: Path) -> None:
    """The shim as nvcc, and beside it what it starts. A copy: CMake resolves links to find a compiler's folder."""
    tree.link(f"bin/{MARKER}/nvcc", nvcc)
    tree.put("bin/nvcc", shim.read_bytes())
    tree.programs.add("bin/nvcc")


def _plan_compiler(tree: _Tree, toolkit: Toolkit) -> None:
    layout = toolkit.layout
    profile = layout.tool("nvcc.profile")
    if profile.is_file() and _is_relative(profile.read_text(encoding="utf-8", errors="replace")):
        tree.link("bin/nvcc.profile", profile)
    else:
        tree.put("bin/nvcc.profile", _PROFILE.encode())
    for name in ("crt/link.stub", "crt/prelink.stub"):
        tree.link(f"bin/{name}", layout.tool(name))
    for folder in layout.binaries:
        if folder != layout.cicc or layout.shared:
            tree.link_all("bin", folder, TOOL if layout.shared else None, skip=("crt", "nvcc.profile"))
    tree.link("nvvm/bin/cicc", layout.cicc / "cicc")
    tree.link_all("nvvm/libdevice", layout.libdevice, None)
    tree.link_all("nvvm", layout.root / "nvvm", None, skip=("bin", "libdevice"))


def _is_relative(profile: str) -> bool:
    """Whether a profile names everything relative to nvcc's own folder, as NVIDIA's does."""
    top = re.search(r"^TOP\s*=\s*(\S+)\s*$", profile, re.MULTILINE)
    return top is not None and top[1] == "$(_HERE_)/.." and "$(TOP)/$(_TARGET_DIR_)/include" in profile


def _plan_headers(tree: _Tree, toolkits: Sequence[Toolkit]) -> None:
    core = next((toolkit for toolkit in toolkits if _holds_core(toolkit)), None)
    for toolkit in toolkits:
        wanted = HEADER if toolkit.layout.shared else None
        skip = ("cccl",) if toolkit is core else ("cccl", *_CORE_LIBRARIES)
        for folder in toolkit.include:
            if folder.name != "cccl":
                tree.link_all("include", folder, wanted, skip=skip)
            elif toolkit is core:
                tree.link_all("include/cccl", folder, None)


def _holds_core(toolkit: Toolkit) -> bool:
    return any((folder / _CORE_SIGN).is_file() for folder in toolkit.include)


def _plan_libraries(tree: _Tree, toolkits: Sequence[Toolkit]) -> None:
    for toolkit in toolkits:
        wanted = LIBRARY if toolkit.layout.shared else None
        for folder in toolkit.library:
            tree.link_all("lib64", folder, wanted, skip=("stubs",))
            tree.link_all("lib64/stubs", folder / "stubs", wanted)
    for plain, versioned in unversioned(
        Path(place).name for place in tree.places if place.startswith("lib64/")
    ).items():
        tree.put(f"lib64/{plain}", versioned)


def unversioned(names: Iterable[str]) -> dict[str, str]:
    """``{"libX.so": "libX.so.N"}`` with the newest ``libX.so.N`` of each library."""
    newest: dict[str, tuple[list[int], str]] = {}
    for name in names:
        if found := _VERSIONED.fullmatch(name):
            version = [int(part) for part in found["version"].split(".") if part]
            newest[found["plain"]] = max(newest.get(found["plain"], ([], "")), (version, name))
    return {plain: name for plain, (_version, name) in newest.items()}
