"""A store hit, the whole command, median of N: ``python benchmarks/hit.py [N] [RECIPE]``.

Two medians are printed: with a receipt (the same words in the same environment as before), and without
(receipts removed before each run), which is what the first hit in another folder costs. Exits with 1 if the first
is above its bound.
"""

from __future__ import annotations

import statistics
import sys

from common import ROOT, TARGET, TORCH, cache_folder, clean_environment, script, show, timed

LONGEST = 0.30
"""Seconds that a hit with a receipt may take."""


def main() -> int:
    """Time hits."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    recipe = sys.argv[2] if len(sys.argv) > 2 else "diso"
    command = [script(), recipe, "--target", TARGET, "--torch", TORCH, "--json"]
    environment = clean_environment()
    for _ in range(2):
        timed(command, environment, ROOT)
    with_receipt = [timed(command, environment, ROOT)[0] for _ in range(count)]
    without = []
    for _ in range(count):
        for file in (cache_folder() / "receipts").glob("*.json"):
            file.unlink()
        without.append(timed(command, environment, ROOT)[0])
    median = statistics.median(with_receipt)
    show(
        what="hit",
        runs=count,
        median_s=round(median, 3),
        bound_s=LONGEST,
        passed=median <= LONGEST,
        all=[round(s, 3) for s in with_receipt],
    )
    show(what="hit without receipt", runs=count, median_s=round(statistics.median(without), 3))
    return 0 if median <= LONGEST else 1


if __name__ == "__main__":
    sys.exit(main())
