"""Cells as jobs of a real Slurm: its controller, a node and munge on this machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from gated import Gated, build_words, shared_folders
from processes import marked, wait_until
from slurm_cluster import SlurmCluster

from buildkit.matrix.executor import Began, Ended, Job, Need
from buildkit.matrix.retry import again, cause_of
from buildkit.matrix.slurm import SlurmExecutor
from buildkit.store.store import Store
from tests.integration.conftest import clean_environment

pytestmark = pytest.mark.integration

MIB = 1 << 20


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    """A cluster of one node."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    cluster = SlurmCluster(folder)
    try:
        yield cluster.start()
    finally:
        cluster.close()
        shutil.rmtree(folder)


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Gated]:
    """Packages that wait until they may go on."""
    marks = Path(tempfile.mkdtemp(prefix="gated-", dir="/dev/shm"))
    yield Gated(tmp_path, marks)
    shutil.rmtree(marks)


def executor_for(slurm: SlurmCluster, folder: Path, cache: Path, **more: str) -> SlurmExecutor:
    """On a cache of its own, beside that of the session."""
    own = folder / "cache"
    shared_folders(cache, own)
    environ = clean_environment({**slurm.environ, "CUDABUILD_CACHE": str(own), **more})
    return SlurmExecutor(folder / "run", own, environ, folder, grace=50.0, poll=0.5)


def until_ended(executor: SlurmExecutor, seconds: float = 240.0) -> Ended:
    """The next end."""
    found: list[Ended] = []

    def looked() -> bool:
        found.extend(event for event in executor.wait(1.0) if isinstance(event, Ended))
        return bool(found)

    assert wait_until(looked, seconds)
    return found[0]


def test_a_job_whose_time_is_up_goes_on_where_it_was(
    slurm: SlurmCluster, gated: Gated, tmp_path: Path, cache: Path
) -> None:
    """Two files: the first is compiled in the first job, the second in the second; on a node with a cache of its own,
    without a network, from what was fetched here."""
    name = gated.add("slowly", letters="ab")
    node = tmp_path / "node"
    executor = executor_for(slurm, tmp_path, cache, CUDABUILD_NODE_CACHE=str(node))
    need = Need(600 * MIB, 1, None, 1.0, 3600.0)
    gated.go_for(1)
    executor.start(Job(name, 1, build_words(gated, name), need))
    assert wait_until(lambda: gated.compiled() == ["slowly a.c", "slowly b.c"], 240), gated.compiled()
    number = (tmp_path / "run" / "slowly-1" / "id").read_text()
    slurm.run("scontrol", "update", f"jobid={number}", "EndTime=now+51")  # less than a minute cannot be asked for
    first = until_ended(executor)
    assert (first.cause, cause_of(first)) == ("walltime", "walltime"), (first, slurm.run("scontrol", "show", "job"))
    assert not [word for word in marked(str(node)).values() if "slowly" in word], "a build was left"
    further = again(first, (cause_of(first),), need, None, largest=None)
    assert further is not None
    gated.go()
    executor.start(Job(name, 2, build_words(gated, name), further.need))
    second = until_ended(executor)
    assert (second.cause, second.exit_code) == ("exited", 0), (second, second.log and second.log.read_text())
    assert second.answer is not None
    assert second.answer["guard"]["kept"] == 1, "what was compiled is compiled again"
    entry = Store(executor.cache / "store").get(second.answer["key"]).entry
    assert entry is not None, "the wheel did not come back from the node"
    assert Path(second.answer["wheel"]["path"]).is_file()
    executor.close()


def test_a_job_over_its_memory_is_tried_with_more(
    slurm: SlurmCluster, gated: Gated, tmp_path: Path, cache: Path
) -> None:
    """Slurm ends the first; the second asks for twice as much, which is enough."""
    name = gated.add("hungry", mebibytes=700, holds=3.0)
    gated.go()
    executor = executor_for(slurm, tmp_path, cache)
    need = Need(480 * MIB, 1, None, 1.0, 600.0)
    words = build_words(gated, name, "--memory", "4GiB")  # so that Slurm is first, not the guard
    executor.start(Job(name, 1, words, need))
    first = until_ended(executor)
    assert (first.cause, cause_of(first)) == ("memory", "memory"), first
    further = again(first, (cause_of(first),), need, None, largest=None)
    assert further is not None
    assert further.need.memory > need.memory
    executor.start(Job(name, 2, words, further.need))
    second = until_ended(executor)
    assert (second.cause, second.exit_code) == ("exited", 0), (second, second.log and second.log.read_text())
    executor.close()


def test_whoever_comes_next_waits_for_the_job_that_is_there(
    slurm: SlurmCluster, gated: Gated, tmp_path: Path, cache: Path
) -> None:
    """A run that was killed is run again: no second job. Closing ends what is in the queue and on nodes."""
    name = gated.add("left")
    lost = executor_for(slurm, tmp_path, cache)
    lost.start(Job(name, 1, build_words(gated, name), Need(480 * MIB, 1, "rtx_a6000", 1.0, 600.0)))
    assert wait_until(lambda: bool(gated.compiled()), 120)
    executor = executor_for(slurm, tmp_path, cache)
    executor.start(Job(name, 2, build_words(gated, name), Need(480 * MIB, 1, "rtx_a6000", 1.0, 600.0)))
    events = [event for _ in range(4) for event in executor.wait(1.0)]
    assert [type(event) for event in events] == [Began]
    executor.close()
    assert "left" not in slurm.run("squeue", "--noheader", "--format=%j")
    assert not [word for word in marked(str(tmp_path)).values() if "buildkit" in word], "a build was left"
    assert gated.compiled() == ["left a.c"]
