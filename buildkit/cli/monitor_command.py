"""``cudabuild monitor``: what the machine and the builds on it do now."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from buildkit.cli.options import Asked, examples, json_option, make_context
from buildkit.cli.output import answer, print_json
from buildkit.errors import Interrupted
from buildkit.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit.build.monitoring import Monitor
    from buildkit.report.canvas import Line

PERIOD = 1.0
"""Seconds between two looks."""
_FIRST = 0.25  # seconds over which the first look measures the processors


@click.command("monitor", epilog=examples("cudabuild monitor", "cudabuild monitor --once", "cudabuild monitor --json"))
@click.option("--once", is_flag=True, help="Look once instead of every second.")
@json_option
def command(*, once: bool, as_json: bool) -> int:
    """Show processors, memory against what really limits it, pressure, GPUs, and the builds that run.

    Every second until Ctrl-C; into a pipe a block of lines each time. `--json` looks once. Starts nothing.
    """
    from buildkit.build.monitoring import Monitor

    context = make_context(Asked.read({}), Silent())
    monitor = Monitor(context.places.store, context.environ)
    try:
        time.sleep(_FIRST)
        if as_json:
            from buildkit.cli.monitor_schema import monitor_object

            print_json(monitor_object(monitor.look()).model_dump(mode="json", by_alias=True))
        elif once:
            _print(monitor)
        elif sys.stdout.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"}:
            _live(monitor)
        else:
            _blocks(monitor)
    except Interrupted:  # Ctrl-C is how it is meant to be ended
        return 0
    finally:
        monitor.close()
    return 0


def _lines(monitor: Monitor) -> Iterator[Line]:
    from buildkit.cli.monitor_page import monitor_lines
    from buildkit.cli.monitor_schema import monitor_object
    from buildkit.cli.report_command import terminal_width
    from buildkit.report.canvas import glyphs_for

    return monitor_lines(monitor_object(monitor.look()), width=terminal_width(), glyphs=glyphs_for(sys.stdout.encoding))


def _print(monitor: Monitor) -> None:
    from buildkit.cli.report_command import print_lines

    print_lines(_lines(monitor))


def _blocks(monitor: Monitor) -> None:
    while True:
        _print(monitor)
        answer()
        sys.stdout.flush()
        time.sleep(PERIOD)


def _live(monitor: Monitor) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, markup=False)
    with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        while True:
            lines = [Text.assemble(*line) for line in _lines(monitor)]
            live.update(Text("\n").join(lines), refresh=True)
            time.sleep(PERIOD)
