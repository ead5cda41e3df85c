"""What device code a wheel holds, per shared object and translation unit.

cuobjdump is asked (it knows every image format and suffix); the fatbin headers tell which of the images it
lists belong together. Where the two do not agree, only cuobjdump counts, and the evidence says so.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from buildkit import process
from buildkit.errors import NoToolkit, VerificationFailed
from buildkit.machine.arch import Target
from buildkit.verify.fatbin import Fatbin, read_fatbins, source_names

_DISTRIBUTION = "nvidia-cuda-cuobjdump"
_NOTHING = "does not contain device code"
_BLOCK = re.compile(r"^Fatbin (?P<kind>\w+) code:\n=+\n(?:.*\n)*?arch = sm_(?P<number>\d+)(?P<suffix>[af]?)\s*$", re.M)
_KERNEL = re.compile(r"^(?:STT_)?FUNC\b.*\b(?:STO_)?ENTRY\s+(?P<name>\S+)\s*$", re.M)

_SUFFIXES: dict[str, Literal["", "a", "f"]] = {"": "", "a": "a", "f": "f"}


@dataclass(frozen=True)
class ListedImage:
    """One image as cuobjdump lists it; the target carries its suffix and no PTX flag."""

    kind: Literal["ptx", "elf"]
    target: Target


@dataclass(frozen=True)
class UnitCode:
    """One translation unit: its name (source file, kernel or number), machine code and PTX, each sorted."""

    name: str
    elf: tuple[Target, ...]
    ptx: tuple[Target, ...]


@dataclass(frozen=True)
class ObjectCode:
    """One shared object: its path below the wheel's root, the union over its units, the units, and a note."""

    path: str
    elf: tuple[Target, ...]
    ptx: tuple[Target, ...]
    units: tuple[UnitCode, ...]
    note: str = ""

    def evidence(self) -> dict[str, Any]:
        """What the verdict records; units are spelled out only where they differ."""
        facts: dict[str, Any] = {
            "path": self.path,
            "elf": [str(target) for target in self.elf],
            "ptx": [str(target) for target in self.ptx],
            "units": len(self.units),
        }
        if len({(unit.elf, unit.ptx) for unit in self.units}) > 1:
            facts["by_unit"] = [
                {"unit": unit.name, "elf": [str(t) for t in unit.elf], "ptx": [str(t) for t in unit.ptx]}
                for unit in self.units
            ]
        if self.note:
            facts["note"] = self.note
        return facts


def find_cuobjdump() -> Path:
    """The cuobjdump of this installation, else the one on PATH; :class:`NoToolkit` when there is none."""
    from importlib.metadata import PackageNotFoundError, files

    try:
        for file in files(_DISTRIBUTION) or ():
            if file.name == "cuobjdump":
                path = Path(str(file.locate())).resolve()
                if os.access(path, os.X_OK):
                    return path
    except PackageNotFoundError:
        pass
    if on_path := shutil.which("cuobjdump"):
        return Path(on_path)
    raise NoToolkit("cuobjdump is not there, so device code cannot be listed", hint=f"pip install {_DISTRIBUTION}")


def shared_objects(folder: Path) -> list[Path]:
    """Every ELF file below ``folder``, by content and not by name, sorted; links are not followed."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as stream:
                if stream.read(4) == b"\x7fELF":
                    found.append(path)
    return found


def inspect_device_code(folder: Path, cuobjdump: Path) -> list[ObjectCode]:
    """List the device code of every shared object below the folder of an unpacked wheel."""
    return [inspect_object(path, path.relative_to(folder).as_posix(), cuobjdump) for path in shared_objects(folder)]


def inspect_object(path: Path, shown: str, cuobjdump: Path) -> ObjectCode:
    """List the device code of one shared object; ``shown`` is the path to record."""
    images = tuple(parse_listing(_dump(cuobjdump, path)))
    fatbins = [fatbin for fatbin in read_fatbins(path) if fatbin.images]
    elf, ptx = _sorted(images, "elf"), _sorted(images, "ptx")
    if not images:
        return ObjectCode(shown, (), (), ())
    if not agree(images, fatbins):
        note = "cuobjdump's list and the fatbin headers differ: units are not told apart"
        return ObjectCode(shown, elf, ptx, (UnitCode("all units together", elf, ptx),), note)
    units = tuple(_split(images, fatbins))
    if len({(unit.elf, unit.ptx) for unit in units}) > 1:
        units = _named(units, fatbins, source_names(path), _kernels(cuobjdump, path))
    return ObjectCode(shown, elf, ptx, units)


def parse_listing(text: str) -> Iterator[ListedImage]:
    """The images of cuobjdump's plain dump, in the file's order (its ``--list-elf`` drops the "f" of sm_120f)."""
    for block in _BLOCK.finditer(text):
        kind = block["kind"]
        if kind in ("elf", "ptx"):
            number = int(block["number"])
            yield ListedImage(
                "elf" if kind == "elf" else "ptx", Target(number // 10, number % 10, _SUFFIXES[block["suffix"]])
            )


def agree(images: Sequence[ListedImage], fatbins: Sequence[Fatbin]) -> bool:
    """Whether cuobjdump and the fatbin headers list the same images in the same order."""
    listed = [(image.kind, image.target.major * 10 + image.target.minor) for image in images]
    return listed == [(image.kind, image.number) for fatbin in fatbins for image in fatbin.images]


def parse_kernels(text: str) -> list[list[str]]:
    """Kernel names per machine-code image, in the order of ``cuobjdump -symbols``."""
    starts = [match.start() for match in re.finditer(r"^Fatbin elf code:", text, re.M)]
    blocks = (text[start:end] for start, end in pairwise([*starts, len(text)]))
    return [_KERNEL.findall(block) for block in blocks]


def _dump(cuobjdump: Path, path: Path, *options: str) -> str:
    done = process.run([str(cuobjdump), *options, str(path)], timeout=600.0, check=False)
    if done.returncode == 0:
        return done.stdout
    if _NOTHING in done.stdout + done.stderr:
        return ""
    raise VerificationFailed(
        f"cuobjdump cannot read {path.name}", evidence=process.last_line(done.stderr or done.stdout)
    )


def _sorted(images: Sequence[ListedImage], kind: str) -> tuple[Target, ...]:
    return tuple(sorted({image.target for image in images if image.kind == kind}))


def _split(images: Sequence[ListedImage], fatbins: Sequence[Fatbin]) -> Iterator[UnitCode]:
    position = 0
    for number, fatbin in enumerate(fatbins, 1):
        own = images[position : position + len(fatbin.images)]
        position += len(own)
        yield UnitCode(f"unit {number} of {len(fatbins)}", _sorted(own, "elf"), _sorted(own, "ptx"))


def _kernels(cuobjdump: Path, path: Path) -> list[list[str]]:
    return parse_kernels(_dump(cuobjdump, path, "-symbols"))


def _named(
    units: Sequence[UnitCode], fatbins: Sequence[Fatbin], sources: dict[int, str], kernels: Sequence[Sequence[str]]
) -> tuple[UnitCode, ...]:
    """The units under the names of their source files, else with the first kernel of their machine code."""
    named: list[UnitCode] = []
    position = 0
    for unit, fatbin in zip(units, fatbins, strict=True):
        count = sum(image.kind == "elf" for image in fatbin.images)
        own = [name for image in kernels[position : position + count] for name in image]
        position += count
        if fatbin.address in sources:
            name = f"{sources[fatbin.address]} ({unit.name})"
        else:
            name = f"{unit.name} (kernel {own[0]})" if own else unit.name
        named.append(UnitCode(name, unit.elf, unit.ptx))
    return tuple(named)
