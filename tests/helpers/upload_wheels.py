"""Small wheels as cudabuild finishes them, with device code that the real cuobjdump lists (and none that runs)."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

FAKE_LISTING = r"""#!/bin/sh
for last; do :; done
if ! found=$(grep -ao 'SM:[0-9]*[af]*P*;' "$last"); then
    echo "cuobjdump info : File does not contain device code" >&2
    exit 255
fi
for word in $found; do
    number=${word#SM:} number=${number%;} kind=elf
    case $number in *P) kind=ptx number=${number%P} ;; esac
    printf '\nFatbin %s code:\n================\narch = sm_%s\ncode version = [1,8]\n' "$kind" "$number"
done
"""
"""A cuobjdump that lists what :func:`marked_object` wrote; for tests that have no compiler."""


def digest(data: bytes) -> str:
    """As RECORD writes it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def marked_object(*targets: str) -> bytes:
    """An ELF file (with no sections) that names its targets for :data:`FAKE_LISTING`: ``86``, ``120``, ``120P``."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<2HI3QI6H", 3, 62, 1, 0, 0, 0, 0, 64, 56, 0, 64, 0, 0)
    return header + b"".join(f"SM:{target};".encode() for target in targets)


def real_object(folder: Path, *numbers: int) -> bytes:
    """A shared object whose machine code for these targets (``86``, ``120``) the real cuobjdump lists; made by gcc.

    The images are empty ELF files for the GPU: there is nothing in them to run.
    """
    images = b"".join(_image(number) for number in numbers)
    fatbin, source, built = folder / "fatbin", folder / "fatbin.s", folder / "fatbin.so"
    fatbin.write_bytes(struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(images)) + images)
    source.write_text(
        f'.section .nv_fatbin,"a"\n.align 8\nfat: .incbin "{fatbin}"\n'
        '.section .nvFatBinSegment,"aw"\n.align 8\n.long 0x466243b1\n.long 1\n.quad fat\n.quad 0\n'
    )
    subprocess.run(["gcc", "-shared", "-nostdlib", "-o", built, source], check=True)
    return built.read_bytes()


def _image(number: int) -> bytes:
    """One image of a fatbin: its header, and an ELF file for the GPU with nothing but names of sections."""
    names = b"\0.shstrtab\0" + bytes(5)
    ident = b"\x7fELF\x02\x01\x01\x41\x08" + bytes(7)
    fields = (2, 190, 1, 0, 0, 64 + len(names), 0x05000004 | number << 8, 64, 56, 0, 64, 2, 1)
    sections = bytes(64) + struct.pack("<2I4Q2I2Q", 1, 3, 0, 0, 64, 11, 0, 0, 1, 0)
    code = ident + struct.pack("<2HI3QI6H", *fields) + names + sections
    header = (
        struct.pack("<HHIQQHHI", 2, 0x101, 64, len(code), 0, 8, 1, number) + struct.pack("<QQ", 0, 0x11) + bytes(16)
    )
    return header + code


@dataclass
class WheelMaker:
    """What goes into a wheel; change anything, then :meth:`write`."""

    name: str = "fast_voxels"
    version: str = "1.0+pt2.13.cu130.sm120"
    tags: str = "cp311-cp311-manylinux_2_28_x86_64"
    device: str = "cuda"
    targets: Sequence[str] = ("12.0",)
    torch: str | None = "2.13.0+cu130"
    toolkit: str | None = "13.0.88"
    code: bytes = field(default_factory=lambda: marked_object("120"))
    requires: str = "torch==2.13.*"
    facts: bytes | None = None
    """In place of what cudabuild writes; empty: no such file."""
    more: dict[str, bytes] = field(default_factory=dict)
    text: str = "x = 1\n"

    @property
    def filename(self) -> str:
        """The wheel's file name."""
        return f"{self.name}-{self.version}-{self.tags}.whl"

    @property
    def dist_info(self) -> str:
        """Its dist-info folder."""
        return f"{self.name}-{self.version}.dist-info"

    def contents(self) -> dict[str, bytes]:
        """Every member but RECORD."""
        said = {
            "schema": 1, "recipe": self.name.replace("_", "-"), "key": "k" * 64, "device": self.device,
            "targets": list(self.targets), "torch": self.torch, "toolkit": self.toolkit, "source": "s",
            "patches": [], "licence": "MIT",
        }  # fmt: skip
        facts = json.dumps(said).encode() if self.facts is None else self.facts
        requires = f"Requires-Dist: {self.requires}\n" if self.requires else ""
        metadata = (
            f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n{requires}Requires-Python: >=3.10\n"
        )
        members = {
            f"{self.name}/__init__.py": self.text.encode(),
            f"{self.name}/_C.so": self.code,
            f"{self.dist_info}/METADATA": metadata.encode(),
            f"{self.dist_info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {self.tags}\n".encode(),
            f"{self.dist_info}/cudabuild.json": facts,
            **self.more,
        }
        return {name: data for name, data in members.items() if data}

    def write(self, folder: Path, *, filename: str = "") -> Path:
        """Write the wheel, under its own or another file name."""
        members = self.contents()
        rows = [f"{name},{digest(data)},{len(data)}\n" for name, data in members.items()]
        path = folder / (filename or self.filename)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
            archive.writestr(f"{self.dist_info}/RECORD", "".join([*rows, f"{self.dist_info}/RECORD,,\n"]))
        return path


def fake_cuobjdump(folder: Path) -> Path:
    """A program that answers as cuobjdump does for :func:`marked_object`."""
    path = folder / "cuobjdump"
    path.write_text(FAKE_LISTING)
    path.chmod(0o755)
    return path
