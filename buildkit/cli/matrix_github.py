"""``cudabuild matrix github``: the matrix as a workflow of GitHub Actions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buildkit.cli.options import Asked, examples
from buildkit.cli.output import answer, print_json, say
from buildkit.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildkit.cli.matrix_cells import Planned
    from buildkit.matrix.cell import Cell
    from buildkit.matrix.github_data import Image

_PATH = click.Path(path_type=Path)

EPILOG = examples(
    "cudabuild matrix github --out .github/workflows/wheels.yml",
    "cudabuild matrix github --out .github/workflows/wheels.yml --check",
    "cudabuild matrix github --print-matrix | jq .build",
)


@click.command("github", epilog=EPILOG)
@click.option("--file", type=_PATH, metavar="FILE", help="The matrix; by default cudabuild.toml here.")
@click.option("--out", type=_PATH, metavar="FILE", help="Write the workflow here; by default it is printed.")
@click.option("--check", is_flag=True, help="Write nothing; fail where --out is not what would be written.")
@click.option("--print-matrix", is_flag=True, help="Print the jobs' matrices as JSON, for a workflow of your own.")
@click.option("--force", is_flag=True, help="Replace a file that this command did not write.")
@click.option("--recipes", "recipes_folder", type=_PATH, metavar="DIR", help="Look for recipes here first.")
def github_command(
    file: Path | None, out: Path | None, check: bool, print_matrix: bool, force: bool, recipes_folder: Path | None
) -> int:  # fmt: skip
    """Write a workflow of GitHub Actions that builds every cell of the matrix, proves it, and publishes it.

    The same file gives the same workflow on every machine; [matrix.github] sets what is GitHub's own.
    """
    from buildkit.cli.matrix_cells import plan_cells
    from buildkit.matrix.github import matrices, workflow, workflow_text

    if check and out is None:
        raise UsageError("--check compares with --out FILE", hint="--out .github/workflows/wheels.yml --check")
    planned = plan_cells(file, recipes_folder, Asked.read({}))
    cells, settings = planned.expansion.cells, planned.matrix.github
    for dropped in planned.expansion.dropped:
        say(f"left out: {dropped.cell.id}: {dropped.reason}")
    if not cells:
        raise ConfigError(f"{planned.file.name}: no cell is left", hint="see why: cudabuild matrix show")
    if print_matrix:
        print_json(matrices(cells, settings, _system_of(planned)))
        return 0
    text = workflow_text(workflow(cells, settings, _system_of(planned)), planned.file.name)
    if out is None:
        answer(text.rstrip("\n"))
    elif check:
        _compare(text, out)
    else:
        _write(text, out, force=force)
        say(f"wrote {out}: {len(cells)} wheels")
    return 0


def _system_of(planned: Planned) -> Any:
    """What the recipes say that the system must have."""
    from buildkit.recipe.loader import find_recipe

    def packages(cell: Cell, image: Image) -> Sequence[str]:
        if not planned.packages[cell.recipe, cell.version].known:
            return ()
        system = find_recipe(cell.recipe, planned.folders).recipe.system
        return system.apt if image.installer == "apt" else system.dnf

    return packages


def _compare(text: str, out: Path) -> None:
    from difflib import unified_diff

    there = _read(out)
    if there == text:
        say(f"{out} is what would be written")
        return
    lines = unified_diff((there or "").splitlines(), text.splitlines(), str(out), "as it would be", lineterm="", n=0)
    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    raise ConfigError(
        f"{out} {'is not there' if there is None else 'is not what the matrix gives'}",
        evidence=changed[0] if changed else "",
        hint=f"cudabuild matrix github --out {out}",
    )


def _write(text: str, out: Path, *, force: bool) -> None:
    from buildkit.matrix.github import MARK

    there = _read(out)
    if there is not None and MARK not in there.partition("\n")[0] and not force:
        raise UsageError(f"{out} was not written by this command", hint="choose another file, or replace with --force")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read", evidence=str(error), hint="check the path") from None
