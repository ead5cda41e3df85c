"""What all tests share: with CUDABUILD_CI=1 a test that did not run fails the session, but for those in tests/gpu.

A suite that passes because half of it was skipped says nothing. Only a GPU may be absent.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

STRICT = os.environ.get("CUDABUILD_CI") == "1"
GPU_FOLDER = Path(__file__).parent / "gpu"


@pytest.fixture(scope="session", autouse=True)
def _signals_as_in_a_terminal() -> Iterator[None]:
    """A shell that starts this in the background has it ignore Ctrl-C, which every child would inherit."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _may_be_absent(nodeid: str, rootpath: Path) -> bool:
    return (rootpath / nodeid.partition("::")[0]).is_relative_to(GPU_FOLDER)


class NotRun:
    """Collects what was skipped or deselected outside tests/gpu, and fails the session for it."""

    def __init__(self, config: pytest.Config) -> None:
        self.root = config.rootpath
        self.not_run: list[str] = []

    def _note(self, nodeid: str, how: str) -> None:
        if not _may_be_absent(nodeid, self.root):
            self.not_run.append(f"{nodeid} ({how})")

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Left out by -k, -m or --deselect."""
        for item in items:
            self._note(item.nodeid, "deselected")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that skips itself as a whole."""
        if report.skipped:
            self._note(report.nodeid, "skipped while collecting")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A skipped test. An expected failure did run."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report.nodeid, "skipped")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the session if it passed so far."""
        if self.not_run and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name them."""
        if self.not_run:
            terminalreporter.section("not run, and only tests/gpu may be left out", red=True)
            for line in self.not_run:
                terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    """Be strict where CI asks for it."""
    if STRICT:
        config.pluginmanager.register(NotRun(config))
