"""From the log of a failed canary to what is wrong with the toolchain: the tool's own line, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from buildkit.diagnose.engine import findings
from buildkit.diagnose.first import first_error
from buildkit.diagnose.rule import canary_rules
from buildkit.diagnose.text import read_log


@dataclass(frozen=True)
class Fault:
    """What is wrong in a few words, the line that shows it, and the next step."""

    message: str
    line: str
    hint: str


def explain_toolchain(lines: Sequence[str]) -> Fault:
    """The fault that a log shows: of several the plainest; where there is none, what is known of any build's log."""
    log = read_log("\n".join(lines))
    if found := findings(log, canary_rules()) or findings(log):
        return Fault(found[0].cause, found[0].evidence[0].text, found[0].hint)
    return Fault("it does not build", "\n".join(first_error(log.lines)).strip(), "read the whole log")
