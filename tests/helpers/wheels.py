"""Small wheels to try things on; and two wheels of one package compared, less what differs from build to build."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

WHEEL = b"Wheel-Version: 1.0\nGenerator: other 1.2\nRoot-Is-Purelib: false\nTag: cp311-cp311-linux_x86_64\n"
METADATA = """Metadata-Version: 2.1
Name: Pack_Age
Version: 1.0
Summary: größer
Requires-Dist: numpy
Requires-Dist: Torch>=2.0
Requires-Dist: torch<2.5; python_version < "3.8"
Requires-Dist: torch (>=1.9) ; extra == 'train'
Requires-Dist: scipy ; extra == 'train'
Provides-Extra: train

Version: 1.0 is described here.
Requires-Dist: not a header

\x0cend without a line feed"""


def loaded_content(wheel: str, folder: Path) -> dict[str, bytes]:
    """Every file of a wheel; of extensions what is loaded, and the names of all symbols.

    nvcc puts the number of its process into the names of its temporary files, and these into local symbols: they
    count as equal. ``folder`` is written to. Needs binutils.
    """
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            if name.endswith(".so"):
                path = folder / Path(name).name
                path.write_bytes(data)
                symbols = subprocess.run(["nm", path], capture_output=True, check=True).stdout
                found[f"{name} symbols"] = re.sub(rb"tmpxft_\w+", b"tmpxft", symbols)
                subprocess.run(["objcopy", "-S", "--remove-section=.note.gnu.build-id", path], check=True)
                data = path.read_bytes()
            elif name.endswith("WHEEL"):
                data = re.sub(rb"(?m)^Build: .*\n", b"", data).rstrip()  # a second build of other bytes has one
            elif name.endswith("RECORD"):
                data = re.sub(rb"(\.so),sha256=[^,]*|(/WHEEL|/cudabuild\.json),.*", rb"\1\2", data)
            elif name.endswith("cudabuild.json"):
                data = re.sub(rb'"built_record_sha256": "\w+",', b"", data)  # of the extensions among others
            found[name] = data
    return found


def wheel(
    folder: Path,
    *,
    version: str = "1.0",
    metadata: str = METADATA,
    reverse: bool = False,
    build: str = "",
    objects: Mapping[str, bytes] = MappingProxyType({"pack_age/_C.so": b"\x7fELF" + bytes(1000)}),
) -> Path:
    """A wheel of ``Pack_Age`` as a backend could make it, with these shared objects; ``build`` is ``-1`` or empty."""
    info = f"Pack_Age-{version}.dist-info"
    members = {
        "pack_age/__init__.py": b"x = 1\n",
        **objects,
        "zzz/last.py": b"",
        f"Pack_Age-{version}.data/scripts/tool": b"#!python\n",
        f"{info}/METADATA": metadata.replace("Version: 1.0\nS", f"Version: {version}\nS").encode(),
        f"{info}/WHEEL": WHEEL,
        f"{info}/licenses/LICENSE": b"free",
        f"{info}/RECORD.jws": b"{}",
    }
    if build:
        members[f"{info}/WHEEL"] += b"Build: 1\n"
    rows = [f"{name},sha256={digest(data)},{len(data)}" for name, data in members.items() if "RECORD" not in name]
    members[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"Pack_Age-{version}{build}-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in sorted(members.items(), reverse=reverse):
            entry = zipfile.ZipInfo(name, (2026, 1, 1 + reverse, 0, 0, 0))
            entry.external_attr = (0o100775 if name.endswith((".so", "tool")) else 0o100600) << 16
            archive.writestr(entry, data)
    return path


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
