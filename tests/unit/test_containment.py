"""What holds a build's processes, what is left of one, and how a build that runs is told from one that was killed."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from buildkit.build import running
from buildkit.build.pipeline import BuildResult
from buildkit.build.recording import as_cancelled, begin, boot_id, cancel_mark, finish, recorded, this_process
from buildkit.build.running import cancel, find_running, is_running
from buildkit.errors import BuildFailed, Cancelled, CannotCancel, ConfigError, NoSuchBuild, Terminated
from buildkit.guard import unfinished
from buildkit.guard.containment import VARIABLE, lacking_containment, wanted_containment
from buildkit.guard.leftovers import TAG
from buildkit.guard.orphans import end_orphans
from buildkit.guard.sampling import read_stat
from buildkit.guard.unfinished import give_back, unfinished_files
from buildkit.store.builds import BuildProcess, BuildRecord, BuildRecords


@pytest.fixture
def records(tmp_path: Path) -> BuildRecords:
    return BuildRecords(tmp_path)


def begun(records: BuildRecords, recipe: str = "one", **change: Any) -> BuildRecord:
    """A running build of this process, or of another."""
    result = BuildResult(recipe, records.new_id())
    begin(records, result)
    record = records.read(result.build or "").model_copy(update=change)
    records.write(record)
    return record


@pytest.mark.parametrize("word", ["cgroup", "namespace", "subreaper", "CGroup"])
def test_a_containment_can_be_insisted_on(word: str) -> None:
    assert wanted_containment({VARIABLE: f" {word} "}) == word.lower()


def test_without_a_word_it_is_the_best_and_another_word_is_refused() -> None:
    assert wanted_containment({}) is None
    assert wanted_containment({VARIABLE: ""}) is None
    with pytest.raises(ConfigError, match="there is no containment 'docker'") as caught:
        wanted_containment({VARIABLE: "docker"})
    assert "cgroup, namespace, subreaper" in caught.value.hint
    error = lacking_containment("cgroup", errno.EACCES)
    assert (error.exit_code, error.kind, error.evidence) == (5, "no-containment", "Permission denied")
    assert f"unset {VARIABLE}" in error.hint


def test_what_is_just_being_written_is_found_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "SMALLEST", 1000)
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir()
    small, large, added, read = (inside / name for name in ("small", "large", "added", "read"))
    for path, size in ((small, 10), (large, 2000), (added, 2000), (read, 2000), (outside / "large", 2000)):
        path.write_bytes(b"x" * size)
    with small.open("r+b"), large.open("r+b"), added.open("ab"), read.open("rb"), (outside / "large").open("r+b"):
        found = unfinished_files([os.getpid()], [inside])
        assert found == {small, large}
    assert give_back({*found, inside / "gone", inside}) == 2000
    assert sorted(path.name for path in inside.iterdir()) == ["added", "read", "small"]
    assert unfinished_files([999999999], [inside]) == set()


def test_nobody_ends_others_from_inside_of_a_guarded_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildkit.guard.orphans.find_orphans", lambda: pytest.fail("it looked"))
    assert end_orphans({TAG: "0123456789abcdef"}) == 0


def test_an_orphan_is_tagged_and_below_no_supervisor() -> None:
    environments = ({TAG: "fedcba9876543210"}, {TAG: "off"})
    tagged, plain = (
        subprocess.Popen(["sleep", "60"], env=one, executable=shutil.which("sleep")) for one in environments
    )
    with tagged, plain:
        try:
            while tagged.poll() is None:
                end_orphans({TAG: "off"})
            assert tagged.returncode == -signal.SIGKILL
            assert plain.poll() is None, "that is a variable of a person's own"
        finally:
            plain.kill()
            tagged.kill()


def test_a_build_runs_as_long_as_its_process(records: BuildRecords) -> None:
    process = this_process()
    assert process is not None
    record = begun(records)
    assert is_running(record, records)
    gone = process.model_copy(update={"start": process.start - 1})
    for change in ({"process": gone}, {"process": None}, {"status": "failed"}):
        assert not is_running(record.model_copy(update=change), records), change
    rebooted = process.model_copy(update={"boot": "before"})
    assert not is_running(record.model_copy(update={"process": rebooted}), records)
    assert process.boot == boot_id()
    elsewhere = process.model_copy(update={"host": "another.example", "boot": "its own"})
    assert is_running(record.model_copy(update={"process": elsewhere}), records), "nobody here can say that it does not"


def test_the_newest_running_build_is_meant(records: BuildRecords) -> None:
    older = begun(records, "one")
    newer = begun(records, "two")
    finish(records, begun(records, "three").id, BuildFailed("no"))
    assert find_running(records, "last").id == newer.id
    assert find_running(records, "one").id == older.id
    with pytest.raises(CannotCancel, match="three is not running") as caught:
        find_running(records, "three")
    assert "failed at 20" in caught.value.evidence
    assert "(build-failed)" in caught.value.evidence
    with pytest.raises(NoSuchBuild, match="four"):
        find_running(records, "four")
    for name in (older.id, newer.id):
        finish(records, name, None)
    with pytest.raises(CannotCancel, match="no build is running here"):
        find_running(records, "last")


def test_a_build_on_another_machine_is_not_cancelled_from_here(records: BuildRecords) -> None:
    begun(records, process=BuildProcess(pid=1, start=1, boot="b", host=f"not-{platform.node()}"))
    with pytest.raises(CannotCancel, match="runs on not-"):
        cancel(records, "last")


def test_cancelling_one_that_does_not_listen_kills_it_and_says_so(
    records: BuildRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_PATIENCE", 0.2)
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-IS", "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        stat = read_stat(child.pid)
        assert stat is not None
        begun(records, process=BuildProcess(pid=child.pid, start=stat.start, boot=boot_id(), host=platform.node()))
        record = cancel(records, "last")
        assert child.wait() == -signal.SIGKILL
    assert (record.status, record.error) == ("cancelled", "cancelled")
    assert records.find("last").status == "cancelled"
    assert not list(records.folder.glob("*.cancel"))


def test_a_signal_is_a_cancellation_only_where_its_mark_lies(records: BuildRecords) -> None:
    error, process = Terminated("terminated by SIGTERM", evidence="0 survivors"), this_process()
    assert process is not None
    result = BuildResult("one", records.new_id())
    with pytest.raises(Terminated) as caught, recorded(records, result):
        raise error
    assert caught.value is error
    assert records.read(result.build or "").status == "failed"
    cancel_mark(records, process).touch()
    with pytest.raises(Cancelled), recorded(records, result):
        raise error
    record = records.read(result.build or "")
    assert (record.status, record.exit_code, record.error) == ("cancelled", 143, "cancelled")
    assert isinstance(as_cancelled(error, records), Cancelled)
    assert not isinstance(as_cancelled(BuildFailed("no"), records), Cancelled)


def test_a_record_keeps_when_it_began(records: BuildRecords) -> None:
    record = begun(records, started="2026-11-21T00:00:00.000000Z")
    begin(records, BuildResult("one", record.id, key="ab" * 32))
    again = records.read(record.id)
    assert (again.started, again.key) == (record.started, "ab" * 32)
    with pytest.raises(NoSuchBuild):
        records.read("20200101-0000")
