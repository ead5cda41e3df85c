"""``verify --installed`` for people: a table on a terminal, plain lines elsewhere, and the commands that mend."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from buildkit.cli.console import printable
from buildkit.cli.output import answer, say
from buildkit.report.text import evidence_line
from buildkit.verify.installed import worst

if TYPE_CHECKING:
    from rich.table import Table

    from buildkit.build.installed_stages import Checked
    from buildkit.build.verification_installed import Environment
    from buildkit.verify.installed_code import GpuCode

_STATE = {"error": "unsound", "warning": "look", "note": "sound", None: "sound"}
_COLOUR = {"unsound": "red", "look": "yellow", "sound": "green", "failed": "red"}
_BY = {"sass": "SASS", "ptx-jit": "JIT from PTX", "none": "no code"}


def show(found: Environment) -> None:
    """The whole page on standard output, the last line on standard error.

    Where there is a table, what is sound is only a row of it.
    """
    answer(_heading(found))
    table = len(found.results) > 1 and sys.stdout.isatty()
    if table:
        _print_table(_table(found))
    for each in found.results:
        if table and not each.findings and each.error is None:
            continue
        for line in lines_of(each):
            answer(printable(line))
    say(summary(found))


def state_of(each: Checked) -> str:
    """``sound``, ``look``, ``unsound``, or ``failed`` where only the person's program did."""
    state = _STATE[worst(each.findings)]
    return "failed" if state != "unsound" and each.error is not None else state


def lines_of(each: Checked) -> Iterator[str]:
    """A package's stages and findings, each finding with its evidence and its command."""
    yield f"{each.name} {each.version}: {state_of(each)}".replace(" :", ":")
    for code in each.code:
        yield f"  {'code':10} {code_text(code)}"
    for stage in each.verdict.stages if each.verdict else ():
        yield f"  {stage.name:10} {stage.outcome:13} {stage.detail or evidence_line(stage.evidence)}".rstrip()
    for finding in each.findings:
        yield f"  {finding.severity}: {finding.what} [{finding.kind}]"
        if finding.evidence:
            yield f"    | {finding.evidence}"
        if finding.command:
            yield f"    mend: {finding.command}"


def code_text(code: GpuCode) -> str:
    """``rtx4090 (8.9): SASS``, ``NVIDIA H200 (9.0): no code (it holds sm_120)``."""
    more = f", but not in {len(code.lacking)} of its parts" if code.lacking and code.by != "none" else ""
    held = "" if code.by == "sass" else f" (it holds {code.held})"
    return f"{code.shown}: {_BY[code.by]}{more}{held}"


def summary(found: Environment) -> str:
    """How many of which state; or that there is nothing."""
    if not found.results:
        return f"no package here was compiled for torch or CUDA: {found.prefix}"
    counts = Counter(state_of(each) for each in found.results)
    return ", ".join(f"{counts[state]} {state}" for state in ("sound", "look", "failed", "unsound") if counts[state])


def _heading(found: Environment) -> str:
    gpus = [gpu.shown for gpu in found.devices]
    stated = any(gpu.stated for gpu in found.devices)
    listed = f"{'stated GPUs' if stated else 'GPUs'}: {', '.join(gpus)}" if gpus else "no GPU visible"
    cuda = f"CUDA {found.cuda}" if found.cuda else "no CUDA"
    return printable(f"{found.prefix}: torch {found.torch} ({cuda}), {listed}")


def _table(found: Environment) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in ("package", "version", "state", *(gpu.name for gpu in found.devices), "findings"):
        table.add_column(Text(title), overflow="fold")
    for each in found.results:
        state = state_of(each)
        codes = [_BY[code.by] for code in each.code] or ["-"] * len(found.devices)
        kinds = ", ".join(dict.fromkeys(finding.kind for finding in each.findings)) or "-"
        cells = (each.name, each.version, *codes, kinds)
        texts = [Text(printable(cell)) for cell in cells]
        table.add_row(*texts[:2], Text(state, style=_COLOUR[state]), *texts[2:])
    return table


def _print_table(table: Table) -> None:
    from rich.console import Console

    Console(file=sys.stdout, highlight=False, markup=False).print(table)
