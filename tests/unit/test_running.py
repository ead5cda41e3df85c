"""Builds that run, or whose record says so: how they have ended for whoever follows, and which one is ended."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from buildkit.build import running
from buildkit.build.recording import finish, this_process
from buildkit.cli.main import main
from buildkit.errors import CannotCancel
from buildkit.store.builds import BuildProcess, BuildRecord, BuildRecords


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> BuildRecords:
    """Of an empty cache, with nobody's settings."""
    for name in [name for name in os.environ if name.startswith("CUDABUILD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CUDABUILD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return BuildRecords(tmp_path / "cache" / "store")


def running_build(identifier: str, recipe: str = "sample") -> BuildRecord:
    return BuildRecord(
        id=identifier, recipe=recipe, started="2026-11-21T06:00:00Z", status="running", process=this_process()
    )


def another_process(**how: str) -> BuildProcess:
    mine = this_process()
    assert mine is not None
    return mine.model_copy(update={"pid": 1, **how})


# how it ended


def test_an_error_of_the_system_is_recorded_as_the_command_ends(records: BuildRecords) -> None:
    records.write(running_build("b1"))
    finish(records, "b1", OSError(errno.ENOSPC, "No space left on device"))
    record = records.read("b1")
    assert (record.status, record.error, record.exit_code) == ("failed", "disk-full", 10)


def test_one_that_was_cancelled_without_a_word_has_its_exit_code(
    records: BuildRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_end", lambda *_: None)
    monkeypatch.setattr(running, "end_orphans", lambda: 0)
    records.write(running_build("b1"))
    assert running.cancel(records, "b1").exit_code == 143
    assert records.read("b1").exit_code == 143


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"status": "succeeded"}, 0),
        ({"status": "failed", "error": "timeout"}, 1),
        ({"status": "failed", "error": "timeout", "exit_code": 8}, 8),
        ({"status": "cancelled"}, 143),
    ],
)
def test_who_follows_ends_as_the_build_did(
    records: BuildRecords, tmp_path: Path, how: dict[str, object], code: int
) -> None:
    log = tmp_path / "b1.log"
    log.write_text("done\n", encoding="utf-8")
    records.write(running_build("b1").model_copy(update={"log": str(log), **how}))
    assert main(["log", "b1", "--follow"]) == code


@pytest.mark.parametrize("log", [None, "/nowhere/b1.log"])
def test_a_log_that_is_not_begun_is_not_gone(
    records: BuildRecords, log: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    records.write(running_build("b1").model_copy(update={"log": log}))
    assert main(["log", "b1"]) == 10
    said = capsys.readouterr().err
    assert "build b1 has not begun its log" in said
    assert "next: cudabuild log b1 --follow" in said
    assert "None" not in said


# which one is meant


def test_none_is_ended_where_several_are_meant(records: BuildRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "is_running", lambda record, *_: record.status == "running")
    records.write(running_build("20261121-aaaa"))
    records.write(running_build("20261121-bbbb").model_copy(update={"process": another_process()}))
    records.write(running_build("20261120-cccc", "other").model_copy(update={"status": "succeeded"}))
    for text in ("2", "20261121", "sample"):
        with pytest.raises(CannotCancel, match="fits 2 running builds") as caught:
            running.find_running(records, text)
        assert "20261121-aaaa of sample" in caught.value.evidence
        assert "20261121-bbbb of sample" in caught.value.evidence
    for text, identifier in (
        ("last", "20261121-bbbb"),
        ("20261121-aaaa", "20261121-aaaa"),
        ("20261121-b", "20261121-bbbb"),
    ):
        assert running.find_running(records, text).id == identifier


def test_a_package_and_its_canary_are_one(records: BuildRecords) -> None:
    records.write(running_build("20261121-aaaa"))
    records.write(running_build("20261121-bbbb", "canary"))
    assert running.find_running(records, "20261121").id == "20261121-bbbb"


# on another machine


def test_one_of_another_machine_is_believed_while_it_gives_signs(records: BuildRecords, tmp_path: Path) -> None:
    log = tmp_path / "b1.log"
    log.touch()
    record = running_build("b1").model_copy(update={"process": another_process(host="elsewhere"), "log": str(log)})
    records.write(record)
    assert running.is_running(record, records)
    signs = [records.folder / "b1.json", log, records.folder.parent / "traces" / "b1.json"]
    signs[2].parent.mkdir()
    signs[2].touch()
    for sign in signs:
        os.utime(sign, (0, 0))
    assert not running.is_running(record, records)
    assert main(["log", "b1", "--follow"]) == 6
    with pytest.raises(CannotCancel) as caught:
        running.find_running(records, "b1")
    assert caught.value.evidence == "it has given no sign on elsewhere for 15 minutes"
    for sign in signs:
        os.utime(sign)
        assert running.is_running(record, records)
        os.utime(sign, (0, 0))
