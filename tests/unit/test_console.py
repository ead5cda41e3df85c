"""What people see: on a terminal (a real pseudo-terminal), without one, and with foreign text that misbehaves."""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from buildkit.cli.console import ConsoleReporter, clock, printable, time_left
from buildkit.progress import Reporter

REPOSITORY = Path(__file__).parents[2]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Terminal:
    """A pseudo-terminal of some columns: ``stream`` is written to, ``shown()`` is what arrived since."""

    def __init__(self, columns: int = 60) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.set_blocking(self._master, False)
        self.stream: TextIO = os.fdopen(slave, "w", encoding="utf-8", errors="backslashreplace")

    def shown(self) -> str:
        """Everything that was written since the last time."""
        self.stream.flush()
        data = b""
        try:
            while more := os.read(self._master, 65536):
                data += more
        except BlockingIOError:
            pass
        return data.decode()

    def close(self) -> None:
        """Both ends."""
        os.close(self._master)
        self.stream.close()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    found = Terminal()
    yield found
    found.close()


@pytest.fixture
def now() -> Clock:
    return Clock()


XTERM = {"TERM": "xterm-256color", "COLUMNS": "60"}


def without_terminal(now: Clock, *, verbose: bool = False) -> tuple[ConsoleReporter, io.StringIO]:
    stream = io.StringIO()
    return ConsoleReporter(stream=stream, environ=XTERM, now=now, verbose=verbose), stream


class TestPrintable:
    @pytest.mark.parametrize("text", ["", "plain", "Grüße, 世界 ✓ 🎉", "a b", "[bold]x[/bold]"])
    def test_ordinary_text_stays(self, text: str) -> None:
        assert printable(text) == text

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("\x1b[31mred", "\\x1b[31mred"),
            ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            ("a\rb\nc", "a\\x0db\\x0ac"),
            ("\x9b2J", "\\x9b2J"),
            ("\x00\x08\x7f\x85", "\\x00\\x08\\x7f\\x85"),
            ("abc\u202edef\u2066\u200f", "abc\\u202edef\\u2066\\u200f"),
            ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
            ("line\u2028end", "line\\u2028end"),
            ("\udcff", "\\udcff"),
            ("tag\U000e0041", "tag\\U000e0041"),
            ("a\tb", "a       b"),
        ],
    )
    def test_what_could_misbehave_is_shown(self, text: str, shown: str) -> None:
        assert printable(text) == shown

    def test_nothing_else_than_one_line_comes_out(self) -> None:
        every = "".join(map(chr, range(0x11000)))
        assert re.search("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", printable(every)) is None
        assert len(printable(every).splitlines()) == 1


def test_times() -> None:
    assert [clock(seconds) for seconds in (0, 7.4, 59.6, 750, 3723)] == ["0:00", "0:07", "1:00", "12:30", "1:02:03"]
    assert time_left(60, 10, 40, None) == 180
    assert time_left(60, 10, 40, 100) == 40
    assert time_left(160, 10, 40, 100) == 480
    assert time_left(60, 0, 0, None) is None
    assert time_left(60, 40, 40, 50) is None


class TestWithoutTerminal:
    def test_plain_lines(self, now: Clock) -> None:
        reporter, stream = without_terminal(now)
        given: Reporter = reporter
        given.phase("fetch", "sample 1.0")
        given.phase("build")
        given.note("first\nsecond \x1b[1m")
        given.warn("careful [red]")
        assert stream.getvalue() == ("fetch        sample 1.0\nbuild\nfirst\nsecond \\x1b[1m\nwarning: careful [red]\n")

    def test_the_builds_own_lines_only_when_verbose(self, now: Clock) -> None:
        for verbose, expected in ((False, ""), (True, "cc -c \\x1b[2J\n")):
            reporter, stream = without_terminal(now, verbose=verbose)
            reporter.line("cc -c \x1b[2J\r\n")
            assert stream.getvalue() == expected

    def test_a_sign_of_life_every_half_minute(self, now: Clock) -> None:
        reporter, stream = without_terminal(now)
        reporter.phase("build")
        reporter.expect(200)
        for second in range(91):
            now.seconds = 1000.0 + second
            reporter.units(second // 10, 12)
            reporter.gauge(memory=3 << 30, elapsed=float(second))
        assert stream.getvalue().splitlines() == [
            "build",
            "build  3/12 files  3 GiB  0:30, about 2:50 left",
            "build  6/12 files  3 GiB  1:00, about 2:20 left",
            "build  9/12 files  3 GiB  1:30, about 1:50 left",
        ]

    def test_a_new_phase_forgets_the_counts(self, now: Clock) -> None:
        reporter, _ = without_terminal(now)
        reporter.units(3, 4)
        reporter.gauge(memory=1, elapsed=1)
        reporter.phase("audit")
        assert reporter.progress_text() == "audit"


def test_the_progress_line_says_what_has_come_of_a_download(now: Clock) -> None:
    said = io.StringIO()
    with ConsoleReporter(stream=said, environ={}, now=now) as reporter:
        reporter.phase("download", "CUDA 12.8.1")
        now.seconds += 40
        reporter.transfer(512 << 20, 2 << 30)
        assert reporter.progress_text() == "download  512 MiB of 2 GiB  0:40, about 2:00 left"
        reporter.phase("toolkit")
        assert reporter.progress_text() == "toolkit"
    assert said.getvalue().splitlines()[1] == "download  512 MiB of 2 GiB  0:40, about 2:00 left"  # a sign of life


def test_the_progress_line_says_what_runs_and_what_memory_is_left(now: Clock) -> None:
    with ConsoleReporter(stream=io.StringIO(), environ={}, now=now) as reporter:
        reporter.phase("build", "sample")
        reporter.gauge(memory=5 << 30, elapsed=83)
        reporter.admission(running=2, waiting=5, done=12, memory=3 << 30, budget=21 << 30)
        assert reporter.progress_text() == "build  2 running, 5 waiting, 12 done  3 of 21 GiB  1:23"
        reporter.units(12, 40)
        reporter.expect(243)
        line = reporter.progress_text()
        assert line == "build  12/40 files  2 running, 5 waiting  3 of 21 GiB  1:23, about 2:40 left"
        assert len(line) < 80
        reporter.admission(running=0, waiting=0, done=40, memory=512 << 20, budget=21 << 30)
        assert "0 running  512 MiB of 21 GiB" in reporter.progress_text()
        reporter.phase("audit")
        assert reporter.progress_text() == "audit"


class TestTerminal:
    def test_one_live_line_that_goes(self, terminal: Terminal, now: Clock) -> None:
        with ConsoleReporter(stream=terminal.stream, environ=XTERM, now=now) as reporter:
            reporter.phase("build", "sample")
            assert terminal.shown() == "\x1b[1mbuild\x1b[0m        sample\r\n"
            reporter.units(12, 40)
            reporter.gauge(memory=3 << 30, elapsed=83)
            shown = terminal.shown()
            assert "build  12/40 files  3 GiB  1:23, about 3:14 left" in shown
            assert "\n" not in shown.rstrip("\n")
            reporter.gauge(memory=4 << 30, elapsed=83.1)
            assert terminal.shown() == ""  # too soon to draw again
            now.seconds += 1
            reporter.gauge(memory=4 << 30, elapsed=84)
            assert "4 GiB" in terminal.shown()
        assert terminal.shown().endswith(("\x1b[2K", "\x1b[?25h"))

    def test_lines_come_above_the_live_one(self, terminal: Terminal, now: Clock) -> None:
        with ConsoleReporter(stream=terminal.stream, environ=XTERM, now=now, verbose=True) as reporter:
            reporter.phase("build")
            reporter.gauge(memory=1 << 30, elapsed=1)
            terminal.shown()
            reporter.line("[red]foreign[/red] \x1b[31m :smile:")
            assert terminal.shown().endswith("[red]foreign[/red] \\x1b[31m :smile:\r\n")

    def test_no_wider_than_the_terminal(self, terminal: Terminal, now: Clock) -> None:
        with ConsoleReporter(stream=terminal.stream, environ=XTERM, now=now) as reporter:
            reporter.phase("p" * 100)
            terminal.shown()
            reporter.gauge(memory=1, elapsed=1)
            longest = max(re.split(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n", terminal.shown()), key=len)
            assert longest == "p" * 59 + "…"

    def test_foreign_words_are_not_markup(self, terminal: Terminal, now: Clock) -> None:
        with ConsoleReporter(stream=terminal.stream, environ=XTERM, now=now) as reporter:
            reporter.phase("[bold]x :smile:\x1b]0;t\x07")
            reporter.gauge(memory=1, elapsed=1)
            shown = terminal.shown()
        assert shown.count("[bold]x :smile:\\x1b]0;t\\x07") == 2
        assert "\x07" not in shown

    def test_no_colour_when_asked(self, terminal: Terminal, now: Clock) -> None:
        with ConsoleReporter(stream=terminal.stream, environ={**XTERM, "NO_COLOR": "1"}, now=now) as reporter:
            reporter.phase("build")
            reporter.warn("careful")
            reporter.gauge(memory=1 << 30, elapsed=1)
        assert re.findall(r"\x1b\[[0-9;]*m", terminal.shown()) == []

    def test_a_dumb_terminal_gets_plain_lines(self, terminal: Terminal, now: Clock) -> None:
        with ConsoleReporter(stream=terminal.stream, environ={"TERM": "dumb"}, now=now) as reporter:
            reporter.phase("build")
            reporter.warn("careful")
            now.seconds += 31
            reporter.gauge(memory=1 << 30, elapsed=31)
        assert terminal.shown().split("\r\n") == ["build", "warning: careful", "build  1 GiB  0:31", ""]

    def test_a_terminal_that_was_closed_ends_nothing(self, now: Clock) -> None:
        terminal = Terminal()
        with ConsoleReporter(stream=terminal.stream, environ=XTERM, now=now) as reporter:
            reporter.gauge(memory=1, elapsed=1)
            terminal.shown()
            terminal.close()
            for _ in range(3):
                now.seconds += 1
                reporter.gauge(memory=1, elapsed=2)
                reporter.warn("nobody reads this")


def test_rich_is_imported_for_a_live_line_only() -> None:
    script = (
        "import sys\nfrom buildkit.cli.console import ConsoleReporter\n"
        "r = ConsoleReporter()\nr.phase('build', 'x')\nr.gauge(memory=1, elapsed=1)\nr.note('n')\n"
        "print([m for m in sys.modules if m.split('.')[0] == 'rich'])"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
    assert done.stderr == "build        x\nn\n"
