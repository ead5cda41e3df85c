"""What one ELF file says to the dynamic linker: needed libraries, versions, undefined names; and name lookup.

Lookup goes through the GNU hash table, as the dynamic linker's own does: libtorch_cpu.so exports more than
100 000 names and a scan of them would take seconds. Layout: the ELF gABI, and "GNU Hash ELF Sections"
(sourceware.org). 64-bit little endian only, which is all that CUDA runs on.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from typing_extensions import Self

if TYPE_CHECKING:
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile

_SYMBOL = struct.Struct("<IBBHQQ")
_UNDEFINED_SECTION = 0
_GLOBAL = 1


@dataclass(frozen=True)
class Dynamic:
    """The dynamic section of one ELF file.

    ``search`` are the folders of RUNPATH (or RPATH) as written; ``versions_needed`` and ``versions_defined`` are
    symbol versions (needed ones by library: ``{"libc.so.6": {"GLIBC_2.34"}}``).
    """

    soname: str
    needed: tuple[str, ...]
    search: tuple[str, ...]
    versions_needed: dict[str, frozenset[str]]
    versions_defined: frozenset[str]


def read_dynamic(path: Path) -> Dynamic | None:
    """The dynamic section of an ELF file; None for one that has none (an object file, a static program)."""
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as stream:
        elf = ELFFile(stream)
        segment = _dynamic_segment(elf)
        if segment is None:
            return None
        texts = _texts(segment)
        search = tuple(f for text in (texts["runpath"] or texts["rpath"]) for f in text.split(":") if f)
        soname = next(iter(texts["soname"]), "")
        return Dynamic(soname, tuple(texts["needed"]), search, _versions_needed(elf), _versions_defined(elf))


def _texts(segment: DynamicSegment) -> dict[str, list[str]]:
    """The tags that name something, in their order: pyelftools gives each tag an attribute of its kind."""
    texts: dict[str, list[str]] = {"needed": [], "runpath": [], "rpath": [], "soname": []}
    for tag in segment.iter_tags():
        kind = str(tag.entry.d_tag).removeprefix("DT_").lower()
        if kind in texts:
            texts[kind].append(getattr(tag, kind))
    return texts


def undefined_names(path: Path) -> frozenset[str]:
    """The names of the strong undefined symbols of an ELF file with a dynamic section."""
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        segment = _dynamic_segment(ELFFile(stream))
        if segment is None:
            return frozenset()
        symbols, strings = (segment.get_table_offset(kind)[1] for kind in ("DT_SYMTAB", "DT_STRTAB"))
        if symbols is None or strings is None:
            return frozenset()
        names = set()
        for index in range(segment.num_symbols()):
            name, info, _, section, _, _ = _SYMBOL.unpack_from(view, symbols + _SYMBOL.size * index)
            if section == _UNDEFINED_SECTION and info >> 4 == _GLOBAL and name:
                start = strings + name
                names.add(view[start : view.find(b"\0", start)].decode("utf-8", "backslashreplace"))
        return frozenset(names)


def _dynamic_segment(elf: ELFFile) -> DynamicSegment | None:
    from elftools.elf.dynamic import DynamicSegment

    return next((segment for segment in elf.iter_segments() if isinstance(segment, DynamicSegment)), None)


def _versions_needed(elf: ELFFile) -> dict[str, frozenset[str]]:
    from elftools.elf.gnuversions import GNUVerNeedSection

    section = elf.get_section_by_name(".gnu.version_r")
    if not isinstance(section, GNUVerNeedSection):
        return {}
    return {str(need.name): frozenset(item.name for item in items) for need, items in section.iter_versions()}


def _versions_defined(elf: ELFFile) -> frozenset[str]:
    from elftools.elf.gnuversions import GNUVerDefSection

    section = elf.get_section_by_name(".gnu.version_d")
    if not isinstance(section, GNUVerDefSection):
        return frozenset()
    return frozenset(version.name for _, versions in section.iter_versions() for version in versions)


@lru_cache(maxsize=65536)
def gnu_hash(name: bytes) -> int:
    """The hash of the GNU hash table (Bernstein's, times 33, from 5381)."""
    value = 5381
    for byte in name:
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value


@dataclass(frozen=True)
class _Tables:
    """File offsets of the GNU hash table and of what it points into, and the hash table's header."""

    bloom: int
    symbols: int
    strings: int
    buckets: int
    first: int
    bloom_words: int
    shift: int


class SymbolTable:
    """Name lookup in one shared object; a context manager over its memory map."""

    def __init__(self, path: Path) -> None:
        """Open the file and find its tables; an object without them defines nothing."""
        from elftools.elf.elffile import ELFFile

        self._names: frozenset[str] = frozenset()
        self._tables: _Tables | None = None
        with path.open("rb") as stream:
            self._view = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            segment = _dynamic_segment(ELFFile(stream))
            if segment is not None:
                self._tables = _find_tables(segment, self._view)
                if self._tables is None:  # only the old hash table: few symbols, read them all
                    defined = (symbol for symbol in segment.iter_symbols() if symbol["st_shndx"] != "SHN_UNDEF")
                    self._names = frozenset(symbol.name for symbol in defined)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._view.close()

    def defines(self, name: str) -> bool:
        """Whether the object exports ``name`` (in whatever version)."""
        tables = self._tables
        if tables is None:
            return name in self._names
        encoded = name.encode("utf-8", "backslashreplace")
        hashed = gnu_hash(encoded)
        (word,) = struct.unpack_from("<Q", self._view, tables.bloom + 8 * ((hashed // 64) % tables.bloom_words))
        if not (word >> (hashed % 64)) & (word >> ((hashed >> tables.shift) % 64)) & 1:
            return False
        buckets = tables.bloom + 8 * tables.bloom_words
        (index,) = struct.unpack_from("<I", self._view, buckets + 4 * (hashed % tables.buckets))
        chain = buckets + 4 * (tables.buckets + index - tables.first)
        return index >= tables.first and self._in_chain(tables, chain, index, hashed, encoded + b"\0")

    def _in_chain(self, tables: _Tables, chain: int, index: int, hashed: int, terminated: bytes) -> bool:
        while True:
            (entry,) = struct.unpack_from("<I", self._view, chain)
            if entry | 1 == hashed | 1:
                name, _, _, section, _, _ = _SYMBOL.unpack_from(self._view, tables.symbols + _SYMBOL.size * index)
                start = tables.strings + name
                if section != _UNDEFINED_SECTION and self._view[start : start + len(terminated)] == terminated:
                    return True
            if entry & 1:
                return False
            index, chain = index + 1, chain + 4


def _find_tables(segment: DynamicSegment, view: mmap.mmap) -> _Tables | None:
    kinds = ("DT_GNU_HASH", "DT_SYMTAB", "DT_STRTAB")
    table, symbols, strings = (segment.get_table_offset(kind)[1] for kind in kinds)
    if table is None or symbols is None or strings is None:
        return None
    buckets, first, bloom_words, shift = struct.unpack_from("<4I", view, table)
    return _Tables(table + 16, symbols, strings, max(buckets, 1), first, max(bloom_words, 1), shift)
