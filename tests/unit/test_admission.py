"""What a build makes of the broker's events, and of a unit that cannot be built."""

from __future__ import annotations

import os
from pathlib import Path

from buildkit.build.admission import Admission, _token_file
from buildkit.errors import BuildFailed, OutOfMemory
from buildkit.guard.broker_learning import OTHERS


def heard(*events: dict[str, str]) -> Admission:
    admission = Admission()
    for event in events:
        admission.hear(event)
    return admission


def test_units_are_counted_once_and_kills_each_time() -> None:
    started = {"what": "started", "unit": "7", "pid": "100", "name": "a.cu"}
    killed = {"what": "killed", "unit": "7", "reason": "pressure"}
    admission = heard(started, killed, started, killed, started, {"what": "other"})
    assert (len(admission.units), admission.requeued) == (1, 2)
    admission.hear({**started, "unit": "8", "pid": "101"})
    admission.hear({**started, "pid": "102"})  # of a broker that was started again
    assert len(admission.units) == 3


def test_a_build_is_on_hold_only_when_nothing_of_it_runs() -> None:
    assert not Admission().on_hold()
    assert heard({"what": "memory", "running": "0", "waiting": "3"}).on_hold()
    assert not heard({"what": "memory", "running": "1", "waiting": "3"}).on_hold()
    assert not heard({"what": "memory", "running": "0", "waiting": "0"}).on_hold()


def test_a_unit_that_does_not_fit_is_the_cause() -> None:
    failed = BuildFailed("the build backend ended with exit status 1")
    assert Admission().cause(failed) is failed
    text = "a.cu was killed 3 times by the kernel, for want of memory; it held up to 5.10 GiB, in 4.00 GiB (cgroup)"
    cause = heard({"what": "failed", "text": text}).cause(failed)
    assert isinstance(cause, OutOfMemory)
    assert cause.exit_code == 7
    assert str(cause).startswith("a.cu was killed 3 times")
    assert cause.evidence == "it held up to 5.10 GiB, in 4.00 GiB (cgroup)"
    assert "--jobs 1" in cause.hint


def test_what_something_else_killed_is_not_said_to_be_too_big() -> None:
    text = f"a.cu was killed 3 times {OTHERS} (signal 9); it held up to 184 MiB, in 23.54 GiB (MemTotal)"
    cause = heard({"what": "failed", "text": text}).cause(BuildFailed("the build backend ended with exit status 1"))
    assert "earlyoom" in (cause.hint or "")


def test_the_token_is_for_this_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for token in ("one", "two"):  # a build that was killed has left its file
            path = _token_file(tmp_path, token)
            assert (path.read_text("ascii"), path.stat().st_mode & 0o777) == (token, 0o600)
    finally:
        os.umask(before)
