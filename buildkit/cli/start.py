"""The console script: answers a hit from its receipt, and hands everything else to the command line.

Nothing but the standard library is imported until the receipt has said no.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buildkit.cli import streams
from buildkit.cli.client_words import wanted, with_setting
from buildkit.store import receipt

NEVER = frozenset({"--refresh", "--plan", "--install", "--detach", "-h", "--help", "-v", "--verbose"})
"""Words with which a build command does more, or other things, than hand out a stored wheel."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    started = time.monotonic()
    asked = wanted(sys.argv[1:] if arguments is None else arguments, os.environ)
    words = list(asked.words)
    streams.open_missing_streams()
    try:
        if not asked.remote:
            answer = remembered(words)
            if answer is not None:
                answer["seconds"] = round(time.monotonic() - started, 3)
                return _print(answer, as_json="--json" in words)
            asked = with_setting(asked, os.environ)
        if asked.remote:
            from buildkit.cli.client import main as client

            return client(words, asked.server or "")
        from buildkit.cli.main import main as command_line
    except BrokenPipeError:
        streams.give_up_output()
        return streams.READER_GONE
    except (OSError, KeyboardInterrupt) as error:
        from buildkit.cli.main import fail

        return fail(error, words)
    return command_line(words)


def _print(answer: dict[str, Any], *, as_json: bool) -> int:
    from buildkit.cli.results import print_objects

    code = print_objects([answer], as_json=as_json)
    streams.flush_output()
    return code


def remembered(words: Sequence[str]) -> dict[str, Any] | None:
    """The answer to a build command for one recipe, if everything is as it was when it was given last."""
    file = receipt_file(words)
    return receipt.read(file, receipt.facts_of_machine()) if file is not None else None


def receipt_file(words: Sequence[str]) -> Path | None:
    """Where the receipt for these words lies or would lie; None for commands that never have one."""
    from buildkit.cli.commands import COMMANDS

    if not words or NEVER.intersection(words) or (words[0] in COMMANDS and words[0] != "build"):
        return None
    try:
        program = receipt.program_of(Path(__file__).parents[1])
        name = receipt.name_of(words, os.environ, str(Path.cwd()), f"{sys.executable} {program}")
    except OSError:
        return None
    return receipt.folder_of(os.environ) / f"{name}.json"


if __name__ == "__main__":
    sys.exit(main())
