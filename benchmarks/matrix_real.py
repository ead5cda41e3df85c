"""A real matrix from one command: three packages, two torches with CUDA 13, two target sets; then again from the store.

python benchmarks/matrix_real.py [--torch 2.13.0+cu130 --torch 2.12.0+cu130] [--recipe NAME ...] [--require GRADE]

Twelve cells (or as many as are asked for) are built by one `cudabuild matrix run`, on the benchmarks' cache, and then
asked for once more: all are hits. Prints a JSON line for each cell (grade, seconds, what was proven of each target,
tries), one for each run, and exits with 1 where a cell fails, is below its grade, or is no hit the second time. Takes
about an hour on two cores the first time, and each torch 5 GB of disk. `--anew` empties the store of these recipes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import clean_environment, forget, script, show

RECIPES = ["diso", "chamferdist", "cumcubes"]
TORCHES = ["2.13.0+cu130", "2.12.0+cu130"]
TARGETS = ["12.0", "8.6;9.0"]


def run(folder: Path, environment: dict[str, str], number: int) -> tuple[float, dict[str, Any]]:
    """The whole command: its seconds, its object."""
    started = time.monotonic()
    command = [script(), "matrix", "run", "--json", "--junit", str(folder / f"junit-{number}.xml")]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    return time.monotonic() - started, json.loads(done.stdout)


def main() -> int:
    """Run it twice, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", action="append", default=[])
    parser.add_argument("--torch", action="append", default=[])
    parser.add_argument("--targets", action="append", default=[])
    parser.add_argument("--require", default="imported")
    parser.add_argument("--anew", action="store_true")
    options = parser.parse_args()
    recipes = options.recipe or RECIPES
    if options.anew:
        for recipe in recipes:
            forget(recipe)
    axes = {
        "recipes": recipes,
        "torch": options.torch or TORCHES,
        "targets": options.targets or TARGETS,
        "require": options.require,
    }
    wanted = len(recipes) * len(axes["torch"]) * len(axes["targets"])
    with tempfile.TemporaryDirectory(prefix="matrix-") as name:
        folder, environment = Path(name), clean_environment()
        lines = [f"{key} = {json.dumps(value)}" for key, value in axes.items()]  # JSON's lists and texts are TOML's
        folder.joinpath("cudabuild.toml").write_text("\n".join(["[matrix]", *lines, ""]), encoding="utf-8")
        first, second = (run(folder, environment, number) for number in (1, 2))
    for cell in first[1].get("cells", ()):
        show(
            cell=cell["id"],
            status=cell["status"],
            cache=cell["cache"],
            grade=cell["grade"],
            seconds=cell["seconds"],
            peak_memory=cell["peak_memory"],
            tries=len(cell["attempts"]),
            proven={row["target"]: row["summary"] for row in cell["proven"]},
            error=cell["error"] and cell["error"]["message"],
        )
    for label, (seconds, answer) in (("first", first), ("second", second)):
        show(run=label, seconds=round(seconds, 1), exit_code=answer.get("exit_code"), counts=answer.get("counts"))
    good = all(answer.get("exit_code") == 0 and answer["counts"]["cells"] == wanted for _, answer in (first, second))
    return 0 if good and second[1]["counts"]["hits"] == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
