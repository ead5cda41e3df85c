"""``cudabuild report``: where a build's time and memory went."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from buildkit.cli.options import Asked, examples, json_option, make_context
from buildkit.cli.output import answer, print_json, say
from buildkit.errors import NoSuchBuild
from buildkit.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildkit.build.context import Context
    from buildkit.build.recorded import Recorded
    from buildkit.guard.trace import Trace
    from buildkit.report.canvas import Line

PIPE_WIDTH = 100
"""Columns of a report that goes into a pipe, unless COLUMNS says something else."""
WIDEST = 1000
"""Columns of a report at most, whatever COLUMNS says."""


@click.command(
    "report",
    epilog=examples(
        "cudabuild report last",
        "cudabuild report diso --units 100",
        "cudabuild report 20261121-3f2a --trace build.json",
        "cudabuild report last --html build.html",
    ),
)
@click.argument("build", default="last")
@click.option(
    "--trace", "trace_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write the trace for Perfetto or chrome://tracing.",
)  # fmt: skip
@click.option(
    "--html", "html_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write a page that opens from disk: timeline, memory, proof, log.",
)  # fmt: skip
@click.option("--units", type=click.IntRange(1), default=30, show_default=True, metavar="N", help="Show the N longest.")
@json_option
def command(build: str, trace_file: Path | None, html_file: Path | None, units: int, as_json: bool) -> int:
    """Show where the time and the memory of BUILD went: an id, the beginning of a key, a recipe's name, or `last`.

    A build that runs is shown as far as it is; one that failed, up to its end.
    """
    from buildkit.build.recorded import find_recorded

    context = make_context(Asked.read({}), Silent())
    recorded = find_recorded(build, context.store)
    if html_file is not None:
        _write_html(recorded, context, html_file)
    code = present(recorded, trace_file, units, as_json=as_json)
    if html_file is not None and not as_json:
        say(f"{html_file}: open it in a browser")
    return code


def present(recorded: Recorded, trace_file: Path | None, units: int, *, as_json: bool) -> int:
    """Print it, and write the trace where a file was named. Raises NoSuchBuild where there is none to write."""
    if trace_file is not None:
        _write_chrome(recorded, trace_file)
    if as_json:
        from buildkit.cli.report_schema import report_object

        print_json(report_object(recorded).model_dump(mode="json", by_alias=True))
        return 0
    _print(recorded, units)
    if trace_file is not None:
        say(f"{trace_file}: open it at ui.perfetto.dev or in chrome://tracing")
    return 0


def _write_chrome(recorded: Recorded, path: Path) -> None:
    from buildkit.report.chrome import chrome_trace
    from buildkit.store.disk import disk_causes

    if recorded.trace is None:
        raise NoSuchBuild(f"build {recorded.build} has no trace", evidence=_why(recorded), hint=_next(recorded))
    with disk_causes(path.absolute().parent, hint="choose another file with --trace"):
        path.write_text(json.dumps(chrome_trace(recorded.trace), allow_nan=False) + "\n", encoding="utf-8")


def _write_html(recorded: Recorded, context: Context, path: Path) -> None:
    from buildkit.report.gather import gather_recorded
    from buildkit.report.html import single_file
    from buildkit.store.disk import disk_causes

    text = single_file(gather_recorded(recorded, context.store, wheels=context.places.wheels))
    with disk_causes(path.absolute().parent, hint="choose another file with --html"):
        path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _print(recorded: Recorded, units: int) -> None:
    from buildkit.cli.console import printable
    from buildkit.report.canvas import glyphs_for
    from buildkit.report.page import report_lines

    answer(printable(headline(recorded)))
    if recorded.trace is None:
        answer(_why(recorded))
        if hint := _next(recorded):
            say(f"next: {hint}")
        return
    trace, glyphs = with_printable_names(recorded.trace), glyphs_for(sys.stdout.encoding)
    print_lines(report_lines(trace, width=terminal_width(), glyphs=glyphs, most=units))


def headline(recorded: Recorded) -> str:
    """The build, and how it stands."""
    said = {
        "running": "is running",
        "succeeded": "succeeded",
        "failed": f"failed ({recorded.cause})",
        "cancelled": "was cancelled",
        "killed": "was killed: it ended without a word",
    }[recorded.status]
    return f"{recorded.recipe}, build {recorded.build} of {recorded.started[:16].replace('T', ' ')} UTC: {said}"


def _why(recorded: Recorded) -> str:
    if recorded.damaged:
        return "its trace cannot be read: it is damaged, or another version of cudabuild wrote it"
    if recorded.status == "running":
        return "no compiler has been started yet"
    return "there is no trace of it: no compiler was started, or an older cudabuild built it"


def _next(recorded: Recorded) -> str:
    return f"cudabuild log {recorded.build}" if recorded.log else ""


def with_printable_names(trace: Trace) -> Trace:
    """The trace with names that a terminal can be given: control characters are shown, not obeyed."""
    from buildkit.cli.console import printable

    units = tuple(unit.model_copy(update={"name": printable(unit.name)}) for unit in trace.units)
    return trace.model_copy(update={"units": units})


def terminal_width() -> int:
    """Columns of the terminal; of a pipe what COLUMNS says."""
    if sys.stdout.isatty():
        return min(WIDEST, shutil.get_terminal_size().columns)
    columns = os.environ.get("COLUMNS", "").lstrip("0")
    if not columns.isdecimal():
        return PIPE_WIDTH
    return min(WIDEST, int(columns[: len(str(WIDEST)) + 1]))


def print_lines(lines: Iterable[Line]) -> None:
    """Lines on standard output: in colour on a terminal, plain elsewhere."""
    from buildkit.report.canvas import text_of

    encoding = sys.stdout.encoding or "ascii"
    if not sys.stdout.isatty() or os.environ.get("TERM") in {"dumb", "unknown"}:
        for line in lines:
            answer(text_of(line).encode(encoding, "backslashreplace").decode(encoding))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, markup=False)
    for line in lines:
        console.print(Text.assemble(*line), no_wrap=True, crop=False, soft_wrap=True)
