"""What people see while a matrix runs: a line for what begins and ends, and on a terminal a table below them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from buildkit.cli.console import clock, printable
from buildkit.cli.matrix_page import columns
from buildkit.cli.output import say
from buildkit.matrix.results import ENDED, CellObject, RunObject

if TYPE_CHECKING:
    from rich.live import Live

_MOST_ROWS = 12


class LineWatcher:
    """A line for each event, on standard error."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, int]] = {}

    def changed(self, state: RunObject, cell: CellObject | None) -> None:
        """Say what has begun or ended, once."""
        if cell is None:
            return
        text, event = event_line(state, cell), (cell.status, len(cell.attempts))
        if text and self._told.get(cell.id) != event:
            self._told[cell.id] = event
            self.say(text)

    def note(self, text: str) -> None:
        """As it is."""
        self.say(text)

    def say(self, text: str) -> None:
        """One line."""
        say(text)

    def close(self) -> None:
        """Nothing is left standing."""


def event_line(state: RunObject, cell: CellObject) -> str:
    """What has just become of a cell; empty for what is not worth a line."""
    ended = sum(one.status in ENDED for one in state.cells)
    progress = f"[{ended}/{len(state.cells)}]"
    last = cell.attempts[-1] if cell.attempts else None
    if cell.status == "running" and last is not None and last.began:
        expected = f", about {clock(cell.expected_seconds)}" if cell.expected_seconds else ""
        number = f", try {last.number}" if last.number > 1 else ""
        return f"{progress} {cell.id}: begun on {last.where}{number}{expected}"
    if cell.status == "succeeded":
        how = "from the store" if cell.cache == "hit" else f"built in {clock(cell.seconds or 0.0)}"
        return f"{progress} {cell.id}: {how}, proven: {cell.grade}"
    if cell.status == "failed" and cell.error is not None:
        return f"{progress} {cell.id}: failed ({cell.error.kind}): {cell.error.message}"
    return ""


class TableWatcher(LineWatcher):
    """The same lines above a table of what runs now."""

    def __init__(self) -> None:
        super().__init__()
        self._began: dict[str, float] = {}
        self._started = time.monotonic()
        self._live: Live | None = None

    def changed(self, state: RunObject, cell: CellObject | None) -> None:
        """Say it, and draw the table anew."""
        super().changed(state, cell)
        running = [one for one in state.cells if one.status == "running"]
        now = time.monotonic()
        self._began = {one.id: self._began.get(one.id, now) for one in running}
        self._draw("\n".join(printable(line) for line in self._lines(state, running, now)))

    def say(self, text: str) -> None:
        """One line above the table."""
        if self._live is None:
            super().say(text)
        else:
            self._live.console.print(printable(text))

    def close(self) -> None:
        """Take the table away."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _lines(self, state: RunObject, running: list[CellObject], now: float) -> Iterator[str]:
        rows = []
        for cell in running[:_MOST_ROWS]:
            elapsed = clock(now - self._began[cell.id])
            expected = f"of about {clock(cell.expected_seconds)}" if cell.expected_seconds else ""
            rows.append((cell.id, cell.attempts[-1].where or "in line", elapsed, expected))
        yield from columns(rows)
        if len(running) > _MOST_ROWS:
            yield f"and {len(running) - _MOST_ROWS} more"
        counts = state.counts
        waiting = sum(one.status == "waiting" for one in state.cells)
        done = f"{counts.built} built, {counts.hits} from the store, {counts.failed} failed"
        yield f"{len(running)} running, {waiting} waiting, {done}  {clock(now - self._started)}"

    def _draw(self, text: str) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        if self._live is None:
            console = Console(file=sys.stderr, force_terminal=True, markup=False, highlight=False)
            self._live = Live(
                console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        self._live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)


def watcher_for_this_terminal() -> LineWatcher:
    """A table where a terminal can show one."""
    can = sys.stderr.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"}
    return TableWatcher() if can else LineWatcher()
