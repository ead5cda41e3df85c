"""Asks auditwheel what a wheel needs of the system, and has it copy in what is not everywhere. Run by itself.

    python -I repair_script.py WHEEL FOLDER PATTERN...

FOLDER gets the wheel with the libraries in it, where there are any to copy; PATTERNs name those that stay out.
Answers with one JSON object: ``platforms`` (tags of the oldest systems that have what the wheel needs; empty where
there are none), ``libraries`` (copied in: name to path), ``reason`` (why there are no tags).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from auditwheel.error import NonPlatformWheelError, WheelToolsError
from auditwheel.lddtree import LIBPYTHON_RE
from auditwheel.libc import Libc
from auditwheel.patcher import ElfPatcher
from auditwheel.repair import repair_wheel
from auditwheel.wheel_abi import analyze_wheel_abi
from auditwheel.wheeltools import get_wheel_architecture


def repair(wheel: Path, folder: Path, exclude: frozenset[str]) -> dict[str, Any]:
    """The answer, as above. Nothing is stripped: a symbol less can be a kernel that is not found."""
    try:
        architecture = get_wheel_architecture(wheel.name)
        found = analyze_wheel_abi(
            Libc.GLIBC,
            architecture,
            wheel,
            exclude,
            disable_isa_ext_check=False,
            allow_graft=True,
            requested_policy_base_name="auto",
        )
    except (NonPlatformWheelError, WheelToolsError, RuntimeError) as error:
        return _nothing(str(getattr(error, "message", error)) or type(error).__name__)
    policy = found.overall_policy
    libraries = found.external_refs[policy.name].libs
    if policy == found.policies.linux:
        return _nothing(_why_none(found))
    if missing := sorted(name for name, path in libraries.items() if path is None):
        return _nothing(f"it needs {', '.join(missing)}, which is not here")
    if libraries:
        patcher = ElfPatcher.get_patcher("patchelf", policy.name)
        repair_wheel(
            found,
            wheel,
            abis=[policy.name],
            lib_sdir=".libs",
            out_dir=folder,
            update_tags=False,
            patcher=patcher,
            strip=False,
            zip_compression_level=0,
        )
    copied = {name: str(path) for name, path in sorted(libraries.items()) if not LIBPYTHON_RE.match(name)}
    return {"platforms": [policy.name, *policy.aliases], "libraries": copied, "reason": ""}


def _nothing(reason: str) -> dict[str, Any]:
    return {"platforms": [], "libraries": {}, "reason": reason}


def _why_none(found: Any) -> str:
    """What of the analysis keeps the wheel from every tag."""
    linux = found.policies.linux
    if found.sym_policy == linux:
        newest = sorted({name for names in found.versioned_symbols.values() for name in names})
        return f"it needs symbol versions that no released tag knows ({', '.join(newest[-3:])})"
    if found.machine_policy == linux:
        return "it needs instructions that not every processor of this architecture has"
    if found.blacklist_policy == linux:
        return "it uses functions that zlib and others keep for themselves"
    return "auditwheel knows no tag for it"


if __name__ == "__main__":
    answer = repair(Path(sys.argv[1]), Path(sys.argv[2]), frozenset(sys.argv[3:]))
    sys.stdout.write(json.dumps(answer))
