"""The reporter of a command: quiet until something is really done, so that a hit does not pay for a progress line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from buildkit.cli.console import ConsoleReporter


@contextmanager
def reporter_for(*, verbose: bool) -> Iterator[ConsoleReporter]:
    """A console reporter; its progress line is taken down at the end, whatever happened."""
    reporter = ConsoleReporter(verbose=verbose)
    try:
        yield reporter
    finally:
        reporter.close()
