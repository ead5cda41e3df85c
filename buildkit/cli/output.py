"""What people and programs read: one JSON object on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from buildkit.cli.console import printable
from buildkit.diagnose.shown import hint_of, lines_of
from buildkit.errors import CudabuildError

SCHEMA = 1


def error_object(error: CudabuildError) -> dict[str, Any]:
    """The ``error`` object of a failure, as DESIGN's interface prints it."""
    return {
        "kind": error.kind,
        "exit_code": error.exit_code,
        "message": error.message,
        "evidence": error.evidence,
        "hint": hint_of(error),
        "log": error.log,
        "rule": error.rule or None,
    }


def print_json(value: Mapping[str, Any]) -> None:
    """One object, one line; in ASCII with JSON's own escapes where the output cannot hold a name as it is."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say(text: str = "") -> None:
    """One line for people, on standard error; control characters escaped."""
    sys.stderr.write("\n".join(printable(line) for line in text.split("\n")) + "\n")


def answer(text: str = "") -> None:
    """One line of a command's own answer (a list, a log, a schema), on standard output."""
    sys.stdout.write(text + "\n")


def print_failure(error: CudabuildError, *, as_json: bool, known: Mapping[str, Any] | None = None) -> None:
    """A cause, its evidence and the next step; as JSON beside whatever is known of the build."""
    if as_json:
        print_json({"schema": SCHEMA, "build": None, **(known or {}), "error": error_object(error)})
        return
    for line in lines_of(error):
        say(line)
