"""Cells on a real Dask cluster: a scheduler and three workers as processes with stores of their own, killed in turn."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from dask_cluster import DaskCluster, kill
from gated import Gated, build_words, shared_folders
from processes import wait_until

from buildkit.matrix.dask import DaskExecutor
from buildkit.matrix.executor import Began, Ended, Job, Need
from buildkit.store.store import Store
from tests.integration.conftest import clean_environment

pytestmark = pytest.mark.integration

NEED = Need(256 << 20, 1, None, 10.0, 600.0)


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    """Packages that wait until they may go on."""
    marks = Path(tempfile.mkdtemp(prefix="gated-", dir="/dev/shm"))
    yield Gated(tmp_path_factory.mktemp("packages"), marks)
    shutil.rmtree(marks)


@pytest.fixture(scope="module")
def cluster(
    console_script: Path, cache: Path, plain_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaskCluster]:
    """A scheduler and three workers."""
    environ = clean_environment({"VIRTUAL_ENV": str(plain_environment)})
    found = DaskCluster(tmp_path_factory.mktemp("cluster"), console_script, environ)
    names = ("a", "b", "c")
    shared_folders(cache, *(found.cache(name) for name in names))
    try:
        found.start_scheduler()
        found.start_workers(names)
        yield found
    finally:
        found.close()
    assert wait_until(lambda: not found.left(), 10), found.left()


class Run:
    """Cells on an executor, tried again where they were lost, as `matrix run` does."""

    def __init__(self, cluster: DaskCluster, gated: Gated, folder: Path) -> None:
        self.store = Store(folder / "store")
        self.executor = DaskExecutor(
            cluster.address, folder / "logs", folder, share=cluster.share, store=self.store, hold=20.0
        )
        self.gated = gated
        self.ended: dict[str, Ended] = {}
        self.where: dict[str, str] = {}

    def start(self, *names: str) -> None:
        """Their first tries."""
        for name in names:
            self.executor.start(Job(name, 1, build_words(self.gated, name), NEED))

    def look(self) -> None:
        """What has happened; what was lost begins again."""
        for event in self.executor.wait(0.5):
            if isinstance(event, Began):
                self.where[event.cell] = event.where
            elif event.cause == "lost":
                again = Job(event.cell, event.attempt + 1, build_words(self.gated, event.cell), NEED)
                self.executor.start(again)
            else:
                self.ended[event.cell] = event

    def until(self, *names: str, compiling: bool = False) -> None:
        """Until they have ended; or until all of them compile."""
        compiled = {f"{name} a.c" for name in names}

        def done() -> bool:
            self.look()
            return compiled <= set(self.gated.compiled()) if compiling else set(names) <= self.ended.keys()

        assert wait_until(done, 240), (self.where, self.ended, self.gated.compiled())


def test_killed_in_turn_they_lose_no_wheel(cluster: DaskCluster, gated: Gated, tmp_path: Path) -> None:
    """A worker, a nanny and the scheduler while builds compile: each wheel is there, and a loss costs one build."""
    names = [gated.add(f"cell{number}") for number in range(3)]
    run = Run(cluster, gated, tmp_path)
    assert run.executor.slots == 3
    run.start(*names)
    run.until(*names, compiling=True)
    assert len(set(run.where.values())) == 3, "one a worker"
    by_worker = {where: name for name, where in run.where.items()}
    kill(cluster.worker_process("a"))
    nanny = cluster.workers.pop("b")
    nanny.kill()
    nanny.wait()
    assert cluster.scheduler is not None
    cluster.scheduler.kill()
    cluster.scheduler.wait()
    gated.go()
    cluster.start_scheduler()
    run.until(*names)
    assert {(each.cause, each.exit_code) for each in run.ended.values()} == {("exited", 0)}, run.ended
    for each in run.ended.values():
        assert each.answer is not None
        entry = run.store.get(each.answer["key"]).entry
        assert entry is not None, "the wheel did not come home"
    compiled = Counter(gated.compiled())
    assert compiled[f"{by_worker['c']} a.c"] == 1, "a build was ended for a scheduler that came back"
    assert max(compiled.values()) <= 2, compiled
    run.executor.close()


def test_who_comes_after_a_killed_client_waits_for_its_builds(
    cluster: DaskCluster, gated: Gated, tmp_path: Path
) -> None:
    name = gated.add("left")
    gated.hold()
    first = Run(cluster, gated, tmp_path / "first")
    first.start(name)
    first.until(name, compiling=True)
    first.executor.drop()
    second = Run(cluster, gated, tmp_path / "second")
    second.start(name)
    gated.go()
    second.until(name)
    assert second.ended[name].exit_code == 0
    assert gated.compiled().count("left a.c") == 1
    second.executor.close()


def test_what_is_cancelled_ends(cluster: DaskCluster, gated: Gated, tmp_path: Path) -> None:
    name = gated.add("unwanted")
    gated.hold()
    run = Run(cluster, gated, tmp_path)
    run.start(name)
    run.until(name, compiling=True)
    run.executor.close()
    assert wait_until(lambda: not [word for word in cluster.left().values() if "builds" in word], 20)
    gated.go()


def test_what_no_worker_has_is_said(cluster: DaskCluster, gated: Gated, tmp_path: Path) -> None:
    name = gated.add("large")
    executor = DaskExecutor(cluster.address, tmp_path / "logs", tmp_path, patience=1.0)
    executor.start(Job(name, 1, build_words(gated, name), Need(1 << 60, 1, None, 1.0, 60.0)))
    ends: list[Ended] = []

    def ended() -> bool:
        ends.extend(event for event in executor.wait(0.5) if isinstance(event, Ended))
        return bool(ends)

    assert wait_until(ended, 60)
    assert ends[0].answer is not None
    assert ends[0].exit_code == 5
    assert "GiB of memory" in ends[0].answer["error"]["evidence"]
    executor.close()
