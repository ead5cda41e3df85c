"""Standard streams that are closed, full or read by nobody: a command still ends as itself, with its exit code."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

READER_GONE = 141
"""128 + SIGPIPE, as other programs end in a pipe whose reader has gone."""


class ReaderGone(Exception):
    """Nobody reads standard output any more (``cudabuild cache list | head -1``)."""


def open_missing_streams() -> None:
    """Give each standard stream that was closed (``>&-``) to the null device.

    Otherwise the next file that is opened takes its number, and what is printed ends up in that file.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


def flush_output() -> None:
    """Bring out what is buffered now, where a failure can still be told; raises OSError."""
    sys.stdout.flush()


def give_up_output() -> None:
    """Let what is still buffered go to the null device: Python would complain about it at exit."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
