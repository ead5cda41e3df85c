"""Which translation unit of a shared object holds which device code.

nvcc (and clang) put one *fatbin* per translation unit into the section ``.nv_fatbin``, and one wrapper that
points to it into ``.nvFatBinSegment``. cuobjdump lists all images of a file in the same order, but does not
say where one unit ends. Layout (little endian), as read from what nvcc 11 to 13 write:

* wrapper, 24 bytes: magic 0x466243b1 (u32), version (u32), address of the fatbin (u64), u64
* fatbin header: magic 0xba55ed50 (u32), version (u16), header size (u16), size of all images (u64)
* image header: kind (u16: 1 PTX, 2 machine code), u16, header size (u32), payload size (u64), ...,
  at 28 the compute capability as a number (u32: 86, 120)

With relocatable device code the units' own images lie in ``__nv_relfatbin`` and cannot be run; what runs is
the linked image in ``.nv_fatbin``, a single unit.
"""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

FATBIN_MAGIC = 0xBA55ED50
_WRAPPER_MAGIC = 0x466243B1
_WRAPPER = struct.Struct("<IIQQ")
FATBIN = struct.Struct("<IHHQ")
IMAGE = struct.Struct("<HHIQ")
KINDS: dict[int, Literal["ptx", "elf"]] = {1: "ptx", 2: "elf"}
_SOURCE = re.compile(r"(?:tmpxft_[0-9a-f]+_[0-9a-f]+-\d+_)?(?P<name>.+?)(\.compute_\d+[af]?)?\.cudafe\d+\.cpp")


@dataclass(frozen=True)
class Image:
    """One image of a fatbin: its kind, and its compute capability as a number (86, 120) without suffix."""

    kind: Literal["ptx", "elf"]
    number: int


@dataclass(frozen=True)
class Fatbin:
    """The images of one translation unit, in the file's order, and the address the fatbin is loaded at."""

    address: int
    images: tuple[Image, ...]


def read_fatbins(path: Path) -> tuple[Fatbin, ...]:
    """Every fatbin of a shared object that can be run; empty when there is none or it is not understood."""
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as stream:
        section = ELFFile(stream).get_section_by_name(".nv_fatbin")
        if section is None or section["sh_size"] == 0 or section["sh_type"] == "SHT_NOBITS":
            return ()
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
            start, size = section["sh_offset"], section["sh_size"]
            return tuple(_walk(view, start, min(start + size, len(view)), section["sh_addr"]))


def has_device_code(path: Path) -> bool:
    """Whether an ELF file has a section of fatbins with something in it; False for any other file."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as stream:
        try:
            section = ELFFile(stream).get_section_by_name(".nv_fatbin")
        except ELFError:
            return False
        return section is not None and section["sh_size"] > 0


def read_only_text(path: Path) -> bytes:
    """The read-only data of the host part of an ELF file (``.rodata``), where its strings stand."""
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as stream:
        sections = ELFFile(stream).iter_sections()
        return b"\0".join(found.data() for found in sections if found.name.startswith((".rodata", ".lrodata")))


def _walk(view: mmap.mmap, start: int, end: int, address: int) -> list[Fatbin]:
    found: list[Fatbin] = []
    position = start
    while position + FATBIN.size <= end:
        magic, _, header, size = FATBIN.unpack_from(view, position)
        if magic != FATBIN_MAGIC or header < FATBIN.size:
            position += 8  # padding between fatbins: each begins on 8 bytes
            continue
        stop = min(position + header + size, end)
        found.append(Fatbin(address + position - start, _images(view, position + header, stop)))
        position = stop + (-(stop - start) % 8)
    return found


def _images(view: mmap.mmap, position: int, stop: int) -> tuple[Image, ...]:
    images: list[Image] = []
    while position + 32 <= stop:
        kind, _, header, payload = IMAGE.unpack_from(view, position)
        if header < 32:
            break
        if kind in KINDS:
            images.append(Image(KINDS[kind], struct.unpack_from("<I", view, position + 28)[0]))
        position += header + payload
    return tuple(images)


def source_names(path: Path) -> dict[int, str]:
    """Fatbin address to source file name without its suffix, where the object is not stripped.

    Each unit's wrapper is a local symbol (``__fatDeviceText``) below the FILE symbol of the C++ file that
    cudafe++ made of the ``.cu`` file.
    """
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    with path.open("rb") as stream:
        elf = ELFFile(stream)
        symbols, pointers = elf.get_section_by_name(".symtab"), _wrapper_pointers(elf)
        if not isinstance(symbols, SymbolTableSection):
            return {}
        names: dict[int, str] = {}
        file = ""
        for symbol in symbols.iter_symbols():
            if symbol["st_info"]["type"] == "STT_FILE":
                file = symbol.name
            elif "__fatDeviceText" in symbol.name and symbol["st_value"] in pointers:
                match = _SOURCE.fullmatch(file)
                names[pointers[symbol["st_value"]]] = match["name"] if match else file
        return names


def _wrapper_pointers(elf: ELFFile) -> dict[int, int]:
    """Wrapper address to the address of its fatbin (a relative relocation, where the linker left zero)."""
    from elftools.elf.relocation import RelocationSection

    segment = elf.get_section_by_name(".nvFatBinSegment")
    if segment is None:
        return {}
    first, data = segment["sh_addr"], segment.data()
    pointers: dict[int, int] = {}
    for offset in range(0, len(data) - _WRAPPER.size + 1, _WRAPPER.size):
        magic, _, target, _ = _WRAPPER.unpack_from(data, offset)
        if magic == _WRAPPER_MAGIC:
            pointers[first + offset] = target
    relocations = elf.get_section_by_name(".rela.dyn")
    if 0 in pointers.values() and isinstance(relocations, RelocationSection):
        for relocation in relocations.iter_relocations():
            wrapper = relocation["r_offset"] - 8
            if pointers.get(wrapper) == 0:
                pointers[wrapper] = relocation["r_addend"]
    return pointers
