"""What all tests share: how they are spread over processes, and what counts as run.

With CUDABUILD_CI=1 a test that did not run fails the session, but for those in tests/gpu. A suite that passes because
half of it was skipped says nothing. Only a GPU may be absent.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

STRICT = os.environ.get("CUDABUILD_CI") == "1"
GPU_FOLDER = Path(__file__).parent / "gpu"
UNIT_FOLDER = Path(__file__).parent / "unit"
MOST_PROCESSES = 4
"""More of them would only wait for the builds of each other."""
ONE_PERSON = ("test_verify_installed.py", "test_install.py", "test_isolation.py", "test_store_hit.py")
"""Files whose tests use a person's environment with torch: a second process would have to make another."""

sys.dont_write_bytecode = False
"""Whatever PYTHONDONTWRITEBYTECODE says, which many containers set: without byte code every process rewrites all
asserts and compiles all modules again, for longer than it takes to run most tests. Git ignores it."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """For ``-n auto``: no process of its own for the tests of one file, else one for each processor and one more,
    since many tests wait: for processes that they started, for deadlines, for a server."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # that is xdist's to read
    files = {argument.partition("::")[0] for argument in config.args}
    processors = len(os.sched_getaffinity(0))
    if len(files) == 1 and next(iter(files)).endswith(".py"):
        return 0
    if all(Path(file).resolve().is_relative_to(UNIT_FOLDER) for file in files):
        return min(MOST_PROCESSES, processors) + 1
    return 0 if processors == 1 else min(MOST_PROCESSES, processors + 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a file stay together and in order, as they share what was built; those of one person, too, and
    those on a GPU."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            if file.endswith(ONE_PERSON):
                return "one person"
            return "tests/gpu" if _may_be_absent(nodeid, config.rootpath) else file

    config.option.loadscopereorder = False  # files in the order of collection, not by their number of tests
    return Files(config, log)


class ElsewhereFirst:
    """Each process collects all files, and begins elsewhere in a folder: what one has rewritten, the others read.

    The tests stay in the order in which they would have been.
    """

    def __init__(self, number: int, processes: int) -> None:
        self.share = number / processes
        self.places: dict[Path, int] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Turn the list of what is in a folder."""
        report = yield
        found = report.result
        if found and all(isinstance(node, (pytest.File, pytest.Directory)) for node in found):
            self.places.update((node.path, place) for place, node in enumerate(found))
            first = int(self.share * len(found))
            report.result = [*found[first:], *found[:first]]
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the tests in order."""
        items.sort(key=lambda item: [self.places.get(path, 0) for path in (*reversed(item.path.parents), item.path)])


def pytest_collection_finish() -> None:
    """What was collected stays to the end: whoever looks for garbage need not look through it.

    It is looked for seldom: next to nothing here is more than its references keep, and to look takes a twentieth of
    the time of all unit tests.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


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
        self.not_run: dict[str, None] = {}  # in order, and once: several processes may tell of the same

    def _note(self, nodeid: str, how: str) -> None:
        if not _may_be_absent(nodeid, self.root):
            self.not_run[f"{nodeid} ({how})"] = None

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
        """Fail the session if it passed so far; one of several processes tells the one that started it."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["not_run"] = list(self.not_run)
        if self.not_run and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hear what one of several processes did not run: only there it is known what was deselected."""
        self.not_run.update(dict.fromkeys(getattr(node, "workeroutput", {}).get("not_run", ())))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name them."""
        if self.not_run:
            terminalreporter.section("not run, and only tests/gpu may be left out", red=True)
            for line in self.not_run:
                terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    """Be strict where CI asks for it; share the work of collecting with the other processes."""
    if STRICT:
        config.pluginmanager.register(NotRun(config))
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        number = int(worker["workerid"].removeprefix("gw"))
        config.pluginmanager.register(ElsewhereFirst(number, worker["workercount"]))
