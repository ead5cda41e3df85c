"""Builds in the background: whatever ends one at once is told as a failure; Ctrl-C starts no more of them."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buildkit.build import pipeline
from buildkit.cli import detach
from buildkit.cli.schema import ANSWER
from buildkit.errors import Interrupted
from buildkit.store.builds import BuildRecords

OPTIONS: dict[str, Any] = {"as_json": True, "install_too": False, "out": None}


pytestmark = pytest.mark.usefixtures("empty_machine")


def killed(*_: Any) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def full(*_: Any) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def broken(*_: Any) -> int:
    raise RuntimeError("nobody thought of this")


def cut(*_: Any) -> int:
    os.write(1, b'{"schema": 1, "buil')
    return 7


def silent(*_: Any) -> int:
    return 0


ENDS: list[tuple[Callable[..., int], str, int]] = [
    (killed, "build-failed", 6),
    (full, "store", 10),
    (broken, "error", 1),
    (cut, "out-of-memory", 7),
    (silent, "error", 1),
]


@pytest.mark.parametrize(("run", "kind", "code"), ENDS)
def test_one_that_ends_without_an_answer_is_a_failure(
    run: Callable[..., int], kind: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(detach, "run_recorded", run)
    assert detach.build_detached(("sample",), OPTIONS) == code
    answer = json.loads(capsys.readouterr().out)
    ANSWER.validate_python(answer)
    assert "status" not in answer
    assert (answer["error"]["kind"], answer["error"]["exit_code"]) == (kind, code)


def test_people_are_told_that_it_was_killed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(detach, "run_recorded", killed)
    assert detach.build_detached(("sample",), {**OPTIONS, "as_json": False}) == 6
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("error: the command of build ")
    assert first.endswith(" was killed by SIGKILL")


@pytest.mark.parametrize(("ends", "kind", "code"), [(full, "disk-full", 10), (broken, "error", 1)])
def test_what_no_cause_was_thought_of_for_is_answered_too(
    ends: Callable[..., int],
    kind: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pipeline, "build", lambda *_, **__: ends())
    assert detach.run_recorded("b1", "sample", OPTIONS) == code
    answer = json.loads(capsys.readouterr().out)
    ANSWER.validate_python(answer)
    assert (answer["build"], answer["error"]["kind"]) == ("b1", kind)
    record = BuildRecords(tmp_path / "cache" / "store").read("b1")
    assert (record.status, record.error, record.exit_code) == ("failed", kind, code)


def test_ctrl_c_starts_no_more(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    started = []

    def start(name: str, log: Path, _work: Callable[[], int]) -> detach.Detached:
        started.append(name)
        return detach.Detached(name, 1, log)

    def interrupted(_pid: int, _how: int) -> tuple[int, int]:
        raise Interrupted("interrupted (Ctrl-C)")

    monkeypatch.setattr(detach, "_start", start)
    monkeypatch.setattr(os, "waitpid", interrupted)
    assert detach.build_detached(("one", "two"), OPTIONS) == 130
    answer = json.loads(capsys.readouterr().out)
    assert ([answer["build"]], answer["status"]) == (started, "running")
