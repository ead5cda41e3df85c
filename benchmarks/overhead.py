"""What cudabuild adds to a build: pairs of bare ``pip wheel`` and ``cudabuild``, in turn, with the same jobs.

    python benchmarks/overhead.py [PAIRS] [RECIPE]

Both sides have torch and the same toolkit warm; the store is emptied before each run. Printed for each
pair: the ratio of the backend's time (from its start to the wheel file) to the whole of
``pip wheel --no-cache-dir --no-build-isolation``, the ratio of the whole command, and the proof's seconds.
Exits with 1 if a median is above its bound.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from common import ROOT, TARGET, TORCH, bare_environment, clean_environment, forget, make_context, script, show, timed

from buildkit.progress import Silent
from buildkit.recipe.loader import bundled_recipes, load_recipe
from buildkit.source.fetch import fetch_source, unpack
from buildkit.source.spec import spec_of

JOBS = "2"
BOUNDS = {"backend_ratio": 1.03, "whole_ratio": 1.10, "proof_s": 8.0}
"""What the medians may be at most."""


def bare(recipe: str, python: Path, view: Path) -> float:
    """Seconds of a bare pip wheel of the recipe's source."""
    context = make_context()
    loaded = load_recipe(bundled_recipes() / recipe)
    spec = spec_of(loaded.recipe.versions[0], loaded.folder)
    source = fetch_source(spec, cache=context.places.sources, index=context.index, offline=False, reporter=Silent())
    folder = Path(tempfile.mkdtemp(prefix="bare-"))
    try:
        project = unpack(source, folder)
        environment = {
            **clean_environment(),
            **loaded.recipe.build.environment("cuda"),
            "PATH": f"{python.parent}:{view}/bin:/usr/bin:/bin",
            "CUDA_HOME": str(view),
            "TORCH_CUDA_ARCH_LIST": TARGET,
            "MAX_JOBS": JOBS,
        }
        words = [
            "wheel",
            "--no-cache-dir",
            "--no-build-isolation",
            "--no-deps",
            "-w",
            str(folder / "out"),
            str(project),
        ]
        return timed([str(python), "-m", "pip", *words], environment, folder)[0]
    finally:
        shutil.rmtree(folder)


def ours(recipe: str) -> tuple[float, float, float]:
    """Seconds of the whole command, of the backend, and of the proof."""
    forget(recipe)
    command = [script(), recipe, "--target", TARGET, "--torch", TORCH, "--jobs", JOBS, "--json"]
    whole, out = timed(command, clean_environment(), ROOT)
    stages = {stage["name"]: stage["seconds"] for stage in json.loads(out)["verdict"]["stages"]}
    return whole, stages["build"], sum(seconds for name, seconds in stages.items() if name != "build")


def main() -> int:
    """Run the pairs."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    recipe = sys.argv[2] if len(sys.argv) > 2 else "chamferdist"
    python, view = bare_environment()
    rows = []
    for number in range(pairs):
        if number % 2 == 0:
            plain = bare(recipe, python, view)
            whole, backend, proof = ours(recipe)
        else:
            whole, backend, proof = ours(recipe)
            plain = bare(recipe, python, view)
        row = {"backend_ratio": backend / plain, "whole_ratio": whole / plain, "proof_s": proof}
        rows.append(row)
        show(pair=number + 1, pip_s=round(plain, 1), whole_s=round(whole, 1), backend_s=round(backend, 1),
             **{name: round(value, 3) for name, value in row.items()})  # fmt: skip
    medians = {name: statistics.median(row[name] for row in rows) for name in BOUNDS}
    passed = all(medians[name] <= bound for name, bound in BOUNDS.items())
    rounded = {f"median_{name}": round(value, 3) for name, value in medians.items()}
    show(what=f"overhead of {recipe}", **rounded, bounds=BOUNDS, passed=passed)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
