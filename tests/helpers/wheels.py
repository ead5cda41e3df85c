"""Two wheels of one package compared: what is loaded of them, and nothing that differs from build to build."""

from __future__ import annotations

import re
import subprocess
import zipfile
from pathlib import Path


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
            elif name.endswith("RECORD"):
                data = re.sub(rb"(\.so),sha256=[^,]*", rb"\1", data)
            found[name] = data
    return found
