"""Packages that compile one file after the other: cold pairs of ``pip wheel`` and ``cudabuild``, in turn.

    python benchmarks/serial.py PACKAGE [PAIRS]

PACKAGE is a recipe or a folder. Store, profile and build folder of the package are emptied before each run; torch and
the same toolkit are warm on both sides. Timed is the backend's ``build_wheel`` on both sides, to the wheel file; the
order is swapped from pair to pair. pip runs with MAX_JOBS of all processors, which these packages do not heed.

Of both wheels, machine code for the GPU and the names of all symbols are compared. nvcc puts a hash of the source's
path and the number of its process into names: these count as equal.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from common import ROOT, TARGET, TORCH, bare_environment, clean_environment, forget, make_context, script, show, timed
from elftools.elf.elffile import ELFFile

from buildkit.guard.profile_store import file_name
from buildkit.progress import Silent
from buildkit.recipe.loader import bundled_recipes, load_recipe
from buildkit.source.fetch import fetch_source, unpack
from buildkit.source.spec import spec_of
from buildkit.verify.device_code import find_cuobjdump

JOBS = str(len(os.sched_getaffinity(0)))
_OURS_ALONE = re.compile(r"tmpxft_\w+|(?<![0-9a-f])[0-9a-f]{8}(?![0-9a-f])|_[0-9a-f]{8}_")


_SECTIONS = (".text", ".nv.constant", ".nv.global", ".nv.info.", ".nv.shared")


def project(package: str, folder: Path) -> tuple[Path, dict[str, str]]:
    """The package's source unpacked in a folder, and what its recipe adds to the environment."""
    if Path(package).is_dir():
        copy = Path(shutil.copytree(package, folder / "src"))
        return copy, {"FORCE_CUDA": "1"}
    context = make_context()
    loaded = load_recipe(bundled_recipes() / package)
    spec = spec_of(loaded.recipe.versions[0], loaded.folder)
    source = fetch_source(spec, cache=context.places.sources, index=context.index, offline=False, reporter=Silent())
    return unpack(source, folder), dict(loaded.recipe.build.environment("cuda"))


def plain(package: str, python: Path, view: Path, out: Path) -> float:
    """Seconds of the backend under a bare ``pip wheel``; the wheel goes to ``out``."""
    folder = Path(tempfile.mkdtemp(prefix="serial-"))
    try:
        source, extra = project(package, folder)
        environment = {
            **clean_environment(),
            **extra,
            "PATH": f"{python.parent}:{view}/bin:/usr/bin:/bin",
            "CUDA_HOME": str(view),
            "TORCH_CUDA_ARCH_LIST": TARGET,
            "MAX_JOBS": JOBS,
            "PYTHONUNBUFFERED": "1",
        }
        words = ["--no-cache-dir", "--no-build-isolation", "--no-deps", "-w", str(out), str(source)]
        return _between([str(python), "-m", "pip", "wheel", *words], environment, folder)
    finally:
        shutil.rmtree(folder)


def _between(command: list[str], environment: dict[str, str], folder: Path) -> float:
    """Seconds from pip's line that it builds the wheel to the one that it has."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said, marks = [], []
    for line in process.stdout or ():
        said.append(line)
        if line.strip().startswith("Building wheel for"):
            marks.append(time.monotonic())
    if process.wait() != 0 or len(marks) < 2:
        sys.exit("".join(said)[-4000:])
    return marks[-1] - marks[0]


def ours(package: str, name: str, out: Path) -> tuple[float, int]:
    """Seconds of the backend, and how many units there were; the wheel goes to ``out``."""
    forget(name)
    context = make_context()
    (context.places.profiles / file_name(name)).unlink(missing_ok=True)
    command = [script(), package, "--target", TARGET, "--torch", TORCH, "--no-canary", "--refresh", "--json"]
    _, printed = timed([*command, "--out", str(out)], clean_environment(), ROOT)
    answer = json.loads(printed)
    seconds = next(stage["seconds"] for stage in answer["verdict"]["stages"] if stage["name"] == "build")
    return seconds, answer["guard"]["units"]


def code(out: Path) -> dict[str, tuple[str, str]]:
    """For each shared object of the one wheel in a folder: hashes of its machine code for GPUs and of its symbols."""
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "content")
    objects = sorted((out / "content").rglob("*.so"))
    return {path.name: (_device_code(path), _symbols(path)) for path in objects}


def _device_code(path: Path) -> str:
    """Instructions and constants of all images in a shared object."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([str(find_cuobjdump()), "-xelf", "all", str(path)], cwd=folder, capture_output=True, check=False)
        lines = []
        for image in Path(folder).glob("*.cubin"):
            with image.open("rb") as file:
                sections = [each for each in ELFFile(file).iter_sections() if each.name.startswith(_SECTIONS)]
                lines += [f"{each.name} {hashlib.sha256(each.data()).hexdigest()}" for each in sections]
    return _hash(lines)


def _symbols(path: Path) -> str:
    """Kind, binding and name of each: places follow from the lengths of paths."""
    listing = subprocess.check_output(["readelf", "-Ws", str(path)], text=True)
    words = [line.split() for line in listing.splitlines()]
    return _hash([" ".join([*each[3:5], *each[7:]]) for each in words if each and each[0].rstrip(":").isdigit()])


def _hash(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(_OURS_ALONE.sub("#", line) for line in lines)).encode()).hexdigest()


def equal(one: dict[str, tuple[str, str]], other: dict[str, tuple[str, str]]) -> dict[str, object]:
    """What is the same in both wheels, over all shared objects of the first."""
    pairs = [(found, other.get(name, ("", ""))) for name, found in one.items()]
    whats = {"same_device_code": 0, "same_symbols": 1}
    same: dict[str, object] = {what: all(a[at] == b[at] for a, b in pairs) for what, at in whats.items()}
    return {"objects": len(one), **same}


def main() -> None:
    """Run the pairs."""
    package = sys.argv[1]
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    name = Path(package).name if Path(package).is_dir() else package
    python, view = bare_environment()
    ratios = []
    for number in range(pairs):
        with tempfile.TemporaryDirectory(prefix="serial-out-") as scratch:
            theirs, mine = Path(scratch, "pip"), Path(scratch, "ours")
            if number % 2 == 0:
                before = plain(package, python, view, theirs)
                seconds, units = ours(package, name, mine)
            else:
                seconds, units = ours(package, name, mine)
                before = plain(package, python, view, theirs)
            ratios.append(seconds / before)
            compared = equal(code(theirs), code(mine))
        show(
            pair=number + 1,
            pip_s=round(before, 1),
            ours_s=round(seconds, 1),
            ratio=round(ratios[-1], 3),
            units=units,
            cores=int(JOBS),
            **compared,
        )
    show(what=f"{name}: one file after the other", median_ratio=round(statistics.median(ratios), 3), cores=int(JOBS))


if __name__ == "__main__":
    main()
