"""From cells to the matrices of a workflow: flat texts, which steps get as variables. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import islice

from buildkit.machine.target import known_notation, runs_on
from buildkit.matrix.cell import Cell
from buildkit.matrix.github_data import Image, image_of, runner_of
from buildkit.matrix.github_settings import GithubSettings

LARGEST_MATRIX = 256
"""Jobs of one matrix, at most (GitHub's page "Workflow syntax", ``jobs.<job_id>.strategy.matrix``)."""

Row = dict[str, str]
SystemPackages = Callable[[Cell, Image], Sequence[str]]
"""What a cell's recipe needs from the system, as the image's installer names it."""


def package_of(cell: Cell) -> str:
    """What is typed after `cudabuild build`; a folder has the version that its source says."""
    return f"{cell.recipe}=={cell.version}" if cell.version and "/" not in cell.recipe else cell.recipe


def build_rows(cells: Sequence[Cell], settings: GithubSettings, system: SystemPackages) -> list[Row]:
    """A row for each cell. Raises ConfigError for a platform that GitHub has no runner for."""
    image = image_of(settings.glibc)
    return [
        {
            "cell": cell.id,
            "package": package_of(cell),
            "torch": cell.torch,
            "cuda": cell.cuda,
            "python": cell.python,
            "targets": ";".join(cell.targets),
            "device": cell.device,
            "require": _require(cell),
            "timeout": f"{cell.timeout:.0f}s" if cell.timeout else "",
            "memory": str(cell.memory) if cell.memory else "",
            "runner": _runner(cell.platform, settings),
            "image": image.name,
            "packages": " ".join(dict.fromkeys([*image.packages, *system(cell, image)])),
        }
        for cell in cells
    ]


def _runner(platform: str, settings: GithubSettings) -> str:
    own = next((label for known, label in settings.runners.items() if known == platform), None)
    return own or runner_of(platform)


def _require(cell: Cell) -> str:
    """What a runner without a GPU can show; the rest is the proof jobs'."""
    return "imported" if cell.require == "executed" else cell.require or ""


def proof_rows(cells: Sequence[Cell], settings: GithubSettings) -> list[Row]:
    """A row for each cell and each GPU runner that can run its code."""
    return [
        {
            "cell": cell.id,
            "torch": cell.torch,
            "python": cell.python,
            "targets": ";".join(cell.targets),
            "gpu": capability,
            "labels": json.dumps(labels),
        }
        for cell in cells
        if cell.device == "cuda"
        for capability, labels in settings.gpu_runners.items()
        if _runs(cell, capability)
    ]


def _runs(cell: Cell, capability: str) -> bool:
    device = known_notation(capability).capability
    targets = [text for each in cell.targets for text in each.split(";")]
    return any(runs_on(known_notation(text), device) for text in targets)


def chunks(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows in matrices that GitHub takes."""
    each = iter(rows)
    return [part for _ in range(0, len(rows), LARGEST_MATRIX) if (part := list(islice(each, LARGEST_MATRIX)))]
