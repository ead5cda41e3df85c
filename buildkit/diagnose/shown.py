"""How a failure is told to people: what failed, the lines that show it, the next step, the log. Pure; the one place."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from buildkit.errors import CudabuildError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_LINES = 6
"""What a failure takes of the screen."""


def lines_of(error: CudabuildError) -> list[str]:
    """At most :data:`MOST_LINES` lines; of long evidence the end, which is where programs say what it was."""
    message, *more = error.message.strip().splitlines() or [error.kind]
    last = [f"next: {hint_of(error)}"] + [f"log: {error.log}"] * bool(error.log)
    evidence = [*more, *error.evidence.strip().splitlines()]
    room = MOST_LINES - 1 - len(last)
    if len(evidence) > room:
        left_out = len(evidence) - room + 1
        evidence = [f"... ({left_out} lines before these: --json shows them)", *evidence[-room + 1 :]]
    return [f"error: {message}", *(f"  | {line}" for line in evidence), *last]


def hint_of(error: CudabuildError) -> str:
    """The next step: the error's own, else that of its kind, on one line."""
    return " ".join((error.hint or hint_of_kind(error.kind)).split())


def hint_of_kind(kind: str) -> str:
    """What is to be done about a kind of error in general."""
    hints = _hints()
    return hints.get(kind, hints["error"])


@cache
def _hints() -> dict[str, str]:
    hints: dict[str, str] = tomllib.loads((Path(__file__).parent / "kinds.toml").read_text("utf-8"))["hint"]
    return hints
