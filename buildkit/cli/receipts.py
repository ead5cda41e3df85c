"""Leaving a receipt: after a build command for one recipe succeeded, so that the same words answer at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from buildkit.build.pipeline import BuildResult
from buildkit.build.places import Places
from buildkit.cli.results import result_object
from buildkit.cli.settings import config_file
from buildkit.cli.start import receipt_file
from buildkit.machine.witness import Watch
from buildkit.recipe.loader import search_path
from buildkit.source.pip_config import candidate_files
from buildkit.store import receipt

_PROGRAMS = ("nvcc", "g++", "c++", "clang++", "nvidia-smi", "uv", "git")
_GPU_SIGNS = (
    "/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia1", "/dev/dxg", "/proc/driver/nvidia/version",
    "/usr/lib/wsl/lib/nvidia-smi", "/etc/nv_tegra_release",
)  # fmt: skip
_TOOLKITS = (
    "/usr/local", "/opt/cuda", "/usr/local/cuda/bin/nvcc", "/opt/cuda/bin/nvcc", "/usr/bin/nvcc",
    "/usr/lib/nvidia-cuda-toolkit/bin/nvcc", "/usr/lib/cuda/bin/nvcc",
)  # fmt: skip
_INCLUDED = ("/usr/local/include", "/usr/include")
"""Where every compiler looks without being told: a header that is added here can change a wheel."""


Witnesses = Mapping[str, tuple[int, int, int, int, int] | None]
"""Files with their identities."""


def ignored(places: Places) -> list[Path]:
    """Folders whose content is no input: what is stored, remembered or logged, and this program itself."""
    cache = places.cache
    own = [places.store, places.memo, places.pycache, places.wheels, places.logs, places.builds, cache / "receipts"]
    package = Path(__file__).parents[1]
    code = [folder for folder in package.iterdir() if folder.is_dir() and folder.name not in {"machine", "_share"}]
    # Not all of this program: its tables of facts (under machine) and its recipes decide plans like any other file.
    return [*own, *code]


def expected(package: str, recipes: Path | None, environ: Mapping[str, str], cwd: Path) -> Iterator[Path]:
    """Files of which only the existence is asked while a plan is made, present or not."""
    for folder in environ.get("PATH", "").split(":"):
        yield from (Path(folder) / name for name in _PROGRAMS if folder.startswith("/"))
    yield from map(Path, (*_GPU_SIGNS, *_TOOLKITS, *_INCLUDED))
    yield from (cwd / ".venv" / "bin" / "python", config_file(environ))
    yield from candidate_files(environ, prefix=Path(sys.prefix))
    name = package.partition("==")[0]
    yield from (folder / name / "recipe.toml" for folder in search_path(recipes, cwd, environ))


def leave_receipt(words: Sequence[str], result: BuildResult, watch: Watch, blob: Path, entry: Witnesses) -> None:
    """Write the receipt, unless something about the plan was in doubt. A new verdict changes ``entry``, and ends it."""
    file = receipt_file(words)
    if file is None or watch.doubtful or result.error is not None or result.wheel is None:
        return
    passed = result.entry.inputs.get("environment", {}) if result.entry else {}
    if any(map(receipt.decides_nothing, passed)):  # somebody lets the backend see one after all
        return
    answer = {**result_object(result), "cache": "hit", "guard": None}
    receipt.write(file, {**watch.seen, **entry}, receipt.facts_of_machine(), blob, answer)
