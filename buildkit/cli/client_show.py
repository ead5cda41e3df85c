"""What people see of a build on a server: its phases, and with ``--verbose`` every line; a live line below."""

from __future__ import annotations

import codecs
import re
import time
from typing import Any

from buildkit.cli.console import ConsoleReporter, clock, printable

PHASES = frozenset({
    "audit", "backend", "build", "canary", "download", "environment", "fetch", "import", "probe", "repair", "shared",
    "smoke", "source", "toolkit", "torch",
})  # fmt: skip
"""What the phases of a build are called: in its log such a word stands alone in the first twelve columns."""
_PHASE = re.compile(r"(?P<name>[a-z]{4,11}) {2,}(?P<detail>\S.*)")
_WIDE = 12
_END = re.compile(r"\r\n|\n|\r")
_LONGEST = 1 << 16


class RemoteReporter(ConsoleReporter):
    """A console whose live line shows the phase, the last line of the log, and the time."""

    _said = ""

    def __enter__(self) -> RemoteReporter:
        return self

    def line(self, text: str) -> None:
        """A line of the log."""
        self._said = printable(text.strip())[:80] or self._said
        self._gauge = (0, self._now() - self._began)
        super().line(text)

    def phase(self, name: str, detail: str = "") -> None:
        """Begins the clock of the live line anew."""
        self._said = ""
        super().phase(name, detail)

    def beat(self) -> None:
        """Nothing has come; the clock goes on."""
        if self._phase and self._transfer is None:
            self._gauge = (0, self._now() - self._began)
            self._show()

    def progress_text(self) -> str:
        """``build  0:41  [12/40] Building CXX object``."""
        if self._transfer:
            return super().progress_text()
        return printable(f"{self._phase}  {clock(self._now() - self._began)}  {self._said}".rstrip())


class Shown:
    """Tells a reporter what the events of a build say."""

    def __init__(self, reporter: RemoteReporter, command: str) -> None:
        self._reporter = reporter
        self._command = command
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._rest = ""
        self._told: tuple[object, ...] = ()
        self._since = time.monotonic()

    def status(self, value: dict[str, Any]) -> None:
        """Where it stands, once a change; and which build it is, the first time."""
        state = (value.get("status"), value.get("position"), value.get("note"))
        if state == self._told:
            self._reporter.beat()
            return
        first, self._told = not self._told, state
        if first:
            self._reporter.note(f"build {value.get('id')}: {self._command} log {value.get('id')} --follow")
        if value.get("status") == "queued":
            position = value.get("position")
            before = "" if not isinstance(position, int) or position < 2 else f"{position - 1} before it"
            self._reporter.phase("queue", ", ".join(part for part in (before, str(value.get("note") or "")) if part))

    def log(self, data: bytes) -> None:
        """Lines as they become complete."""
        text = self._rest + self._decoder.decode(data)
        *lines, rest = _END.split(text)
        self._rest = rest[-_LONGEST:]
        for line in lines:
            self._line(line)

    def restart(self) -> None:
        """Another try: what came of the one before is no line of it."""
        self._rest = ""
        self._decoder.reset()
        self._reporter.note("it is tried again")

    def _line(self, line: str) -> None:
        found = _PHASE.fullmatch(line) if len(line) > _WIDE else None
        if found is not None and found["name"] in PHASES and found.start("detail") == _WIDE + 1:
            self._reporter.phase(found["name"], found["detail"])
        elif line.startswith("warning: "):
            self._reporter.warn(line.removeprefix("warning: "))
        else:
            self._reporter.line(line)
