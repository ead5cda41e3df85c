"""Shared objects with device code, made of bytes: what a loader reads of them, and fatbins as nvcc writes them."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

Images = Sequence[tuple[str, int]]
"""The images of one unit: ``("elf", 86)``, ``("ptx", 120)``."""
_PAGE = 4096


def fatbin(images: Images, payload: int = 64) -> bytes:
    """One unit's fatbin; each image has ``payload`` bytes that do not compress."""
    body = b"".join(
        struct.pack("<HHIQ", 1 if kind == "ptx" else 2, 0x101, 64, payload)
        + bytes(8)
        + struct.pack("<HHI", 8, 1, number)
        + bytes(32)
        + noise(payload)
        for kind, number in images
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def shared_object(*units: Images, payload: int = 64, before: bytes = b"", writable: bytes = b"") -> bytes:
    """An ELF file: ``before`` (code) and the units' fatbins in a segment that is loaded read-only, then a writable one,
    and no list of sections."""
    head = 64 + 2 * 56
    content = before + bytes(-(head + len(before)) % 8)
    for unit in units:
        content += fatbin(unit, payload)
        content += bytes(-len(content) % 8)
    end = head + len(content)
    place = -(-end // _PAGE) * _PAGE
    elf = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<2HI3QI6H", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    programs = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, end, end, _PAGE)
    programs += struct.pack("<IIQQQQQQ", 1, 6, place, place, place, len(writable), len(writable), _PAGE)
    return elf + programs + content + bytes(place - end) + writable


def noise(size: int) -> bytes:
    """Bytes that do not compress, the same each time."""
    return random.Random(size).randbytes(size)
