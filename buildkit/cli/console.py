"""What people see while something runs; all of it on standard error.

On a terminal: a line for each phase, and below it one live line while a build runs. Elsewhere: the same
lines without colour, and a sign of life every half minute.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TextIO

import click

from buildkit.recipe.quantities import format_size
from buildkit.report.text import printable

if TYPE_CHECKING:
    from rich.live import Live

__all__ = ["ConsoleReporter", "clock", "of_budget", "printable", "time_left"]

HEARTBEAT = 30.0
"""Seconds after which a build without a terminal says that it is alive."""
REFRESH = 0.25
"""Seconds between two drawings of the live line."""


def clock(seconds: float) -> str:
    """``0:07``, ``12:30``, ``1:02:03``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def time_left(elapsed: float, done: int, total: int, expected: float | None) -> float | None:
    """Seconds that are probably left: by what was expected, else by the files; None if nobody can say."""
    if expected is not None and expected > elapsed:
        return expected - elapsed
    if 0 < done < total:
        return elapsed / done * (total - done)
    return None


def of_budget(memory: int, budget: int) -> str:
    """``3.1 of 21.9 GiB``."""
    used, most = format_size(memory), format_size(budget)
    return f"{used.removesuffix(most[-4:])} of {most}" if used.endswith(most[-4:]) else f"{used} of {most}"


class ConsoleReporter:
    """A :class:`buildkit.progress.Reporter` for people. Use it as a context manager: leaving clears the live line.

    ``verbose`` shows each line that the build prints. A stream that breaks (the terminal was closed) is
    given up silently: what runs must still be ended and cleaned up.
    """

    def __init__(
        self,
        *,
        verbose: bool = False,
        stream: TextIO | None = None,
        environ: Mapping[str, str] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        environment = os.environ if environ is None else environ
        self.verbose = verbose
        self._stream = sys.stderr if stream is None else stream
        self._environment = environment
        self._terminal = self._stream.isatty() and environment.get("TERM") not in {"dumb", "unknown"}
        self._colour = self._terminal and not environment.get("NO_COLOR")
        self._now = now
        self._live: Live | None = None
        self._gone = False
        self._drawn = self._printed = now()
        self._phase = ""
        self._units = (0, 0)
        self._expected: float | None = None
        self._gauge: tuple[int, float] | None = None
        self._transfer: tuple[int, int] | None = None
        self._began = now()
        self._admission: tuple[int, int, int, int, int] | None = None

    def __enter__(self) -> ConsoleReporter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The protocol

    def phase(self, name: str, detail: str = "") -> None:
        """A line for the phase; the live line of the one before goes."""
        self.close()
        self._phase, self._units, self._gauge, self._admission = name, (0, 0), None, None
        self._transfer, self._began = None, self._now()
        self._print(f"{name:<12} {detail}".rstrip(), bold=name)

    def note(self, text: str) -> None:
        """Plain lines."""
        for line in text.split("\n"):
            self._print(line)

    def warn(self, text: str) -> None:
        """Lines after ``warning:``."""
        for line in f"warning: {text}".split("\n"):
            self._print(line, colour="yellow")

    def line(self, text: str) -> None:
        """What the build printed; shown with ``verbose`` only."""
        if self.verbose:
            self._print(text.rstrip("\r\n"))
        else:
            self._show()

    def gauge(self, *, memory: int, elapsed: float) -> None:
        """Draw the live line anew, or give the sign of life."""
        self._gauge = (memory, elapsed)
        self._show()

    def units(self, done: int, total: int) -> None:
        """Remember the count for the next drawing."""
        self._units = (done, total)

    def transfer(self, done: int, total: int) -> None:
        """Draw the live line anew, or give the sign of life."""
        self._transfer = (done, total)
        self._show()

    def admission(self, *, running: int, waiting: int, done: int, memory: int, budget: int) -> None:
        """Remember it for the next drawing."""
        self._admission = (running, waiting, done, memory, budget)

    def expect(self, seconds: float | None) -> None:
        """Remember the estimate for the next drawing."""
        self._expected = seconds

    # Inside

    def progress_text(self) -> str:
        """The live line: ``build  12/40 files  2 running, 5 waiting  3.1 of 21.9 GiB  1:23, about 2:40 left``."""
        if self._transfer:
            return self._transfer_text(*self._transfer)
        parts = [self._phase]
        done, total = self._units
        if total:
            parts.append(f"{done}/{total} files")
        if self._gauge:
            memory, elapsed = self._gauge
            left = time_left(elapsed, done, total, self._expected)
            parts += self._admitted(counted=total > 0) or [format_size(memory)]
            parts.append(clock(elapsed) + (f", about {clock(left)} left" if left else ""))
        return printable("  ".join(parts))

    def _transfer_text(self, done: int, total: int) -> str:
        """``download  0.4 of 2.2 GiB  0:31, about 2:10 left``."""
        elapsed = self._now() - self._began
        left = time_left(elapsed, done, total, None)
        shown = clock(elapsed) + (f", about {clock(left)} left" if left else "")
        return printable(f"{self._phase}  {of_budget(done, total)}  {shown}")

    def _admitted(self, *, counted: bool) -> list[str]:
        """What runs, waits and holds memory, where that is known. ``counted``: the build itself says what is done."""
        if self._admission is None:
            return []
        running, waiting, done, memory, budget = self._admission
        states = [f"{running} running"] + [f"{waiting} waiting"] * (waiting > 0) + [f"{done} done"] * (not counted)
        return [", ".join(states), of_budget(memory, budget)]

    def close(self) -> None:
        """Take the live line away."""
        live, self._live = self._live, None
        if live is not None:
            with self._giving_up():
                live.stop()

    def _show(self) -> None:
        now = self._now()
        if (self._gauge is None and self._transfer is None) or self._gone:
            return
        if not self._terminal:
            if now - self._printed >= HEARTBEAT:
                self._print(self.progress_text())
        elif self._live is None or now - self._drawn >= REFRESH:
            self._drawn = now
            with self._giving_up():
                self._draw()

    def _draw(self) -> None:
        from rich.text import Text

        if self._live is None:
            self._live = self._new_live()
            self._live.start()
        self._live.update(Text(self.progress_text(), no_wrap=True, overflow="ellipsis"), refresh=True)

    def _new_live(self) -> Live:
        from rich.console import Console
        from rich.live import Live

        console = Console(
            file=self._stream,
            force_terminal=True,
            no_color=not self._colour,
            markup=False,
            highlight=False,
            _environ=self._environment,
        )
        return Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)

    def _print(self, text: str, *, bold: str = "", colour: str | None = None) -> None:
        """One line, above the live one if there is one. ``bold``: a beginning that stands out."""
        if self._gone:
            return
        self._printed = self._now()
        line = printable(text)
        if self._colour and bold:
            line = click.style(printable(bold), bold=True) + line.removeprefix(printable(bold))
        elif self._colour and colour:
            line = click.style(line, fg=colour)
        self.close()  # the next sample draws it again below
        with self._giving_up():
            self._stream.write(line + "\n")
            self._stream.flush()

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # ValueError: the stream was closed
            self._gone, self._live = True, None
