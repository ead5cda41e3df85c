"""The gateway to other programs: deadlines end the whole group, output is kept, secrets are not."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from processes import alive

from buildkit.process import (
    ProgramFailed,
    ProgramMissing,
    ProgramTimedOut,
    environment_difference,
    last_line,
    quoted,
    redact,
    run,
    start_attended,
)


def wait_for(file: Path) -> int:
    until = time.monotonic() + 20
    while not (file.is_file() and file.read_text(encoding="utf-8").strip()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return int(file.read_text(encoding="utf-8"))


def ended(pid: int) -> bool:
    until = time.monotonic() + 5
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(pid)


def test_answer() -> None:
    done = run([sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(0)"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")
    assert 0 < done.seconds < 60


def test_streams_and_environment() -> None:
    done = run(["/bin/sh", "-c", "cat; echo $X-$HOME"], env={"X": "1"}, stdin=b"in ")
    assert done.stdout == "in 1-\n"
    assert run(["/bin/cat"]).stdout == "", "without stdin there is nothing to read, and nobody to wait for"
    assert run(["/bin/sh", "-c", r"printf '\377\n'"]).stdout == "\\xff\n"


def test_a_failure_tells_the_last_line_and_keeps_the_rest() -> None:
    with pytest.raises(ProgramFailed) as caught:
        run(["/bin/sh", "-c", "echo first >&2; echo 'no such thing' >&2; echo >&2; exit 3"])
    error = caught.value
    assert (error.returncode, error.evidence, error.exit_code) == (3, "no such thing", 5)
    assert "ended with exit status 3" in error.message
    assert error.output.startswith("first\n")
    assert run(["/bin/sh", "-c", "exit 3"], check=False).returncode == 3


def test_missing_and_not_a_program(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing, match="is not on this machine"):
        run([str(tmp_path / "nowhere")])
    (tmp_path / "text").write_text("no program", encoding="utf-8")
    with pytest.raises(ProgramFailed, match="cannot be started"):
        run([str(tmp_path / "text")])


def test_deadline_ends_the_whole_group(tmp_path: Path) -> None:
    script = f"sleep 300 & echo $! > {tmp_path}/child; wait"
    started = time.monotonic()
    with pytest.raises(ProgramTimedOut, match=r"did not answer within 0\.5 s"):
        run(["/bin/sh", "-c", script], timeout=0.5)
    assert time.monotonic() - started < 10
    assert ended(wait_for(tmp_path / "child"))


def test_an_interrupt_ends_the_whole_group(tmp_path: Path) -> None:
    def interrupt() -> None:
        wait_for(tmp_path / "child")
        os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        run(["/bin/sh", "-c", f"sleep 300 & echo $! > {tmp_path}/child; wait"])
    helper.join()
    assert ended(wait_for(tmp_path / "child"))


def test_an_interrupt_while_the_program_starts_ends_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(subprocess.Popen[bytes]):
        """The child is there, and the caller does not have it yet: on a busy machine that takes a while."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            wait_for(tmp_path / "child")
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(["/bin/sh", "-c", f"echo $$ > {tmp_path}/child; exec sleep 300"])
    assert ended(wait_for(tmp_path / "child"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:pass@index.example/simple", "https://***@index.example/simple"),
        ("get http://token@h/x and ssh://git@h/y", "get http://***@h/x and ssh://***@h/y"),
        ("https://index.example/a@b", "https://index.example/a@b"),
        ("mail me@example.org", "mail me@example.org"),
        ("https://u:p@[::1]:80/", "https://***@[::1]:80/"),
    ],
)
def test_redaction(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_commands_as_they_could_be_typed() -> None:
    assert (
        quoted(["git", "clone", "https://u:p@h/x", "a b"]) == "git clone 'https://***@h/x' 'a b'"
        or quoted(
            [
                "git",
                "clone",
                "https://u:p@h/x",
                "a b",
            ]
        )
        == "git clone https://***@h/x 'a b'"
    )


def test_environment_differences_hide_secrets() -> None:
    before = {"GONE": "1", "SAME": "1", "CHANGED": "1"}
    after = {
        "SAME": "1",
        "CHANGED": "2",
        "GITHUB_TOKEN": "s",
        "My_Api_Key": "s",
        "NETRC": "s",
        "UV_INDEX_X_PASSWORD": "s",
        "URL": "https://u:s@h/",
    }
    assert environment_difference(before, after) == [
        "-GONE",
        "+CHANGED=2",
        "+GITHUB_TOKEN=***",
        "+My_Api_Key=***",
        "+NETRC=***",
        "+URL=https://***@h/",
        "+UV_INDEX_X_PASSWORD=***",
    ]


def test_log_and_errors_hold_no_secret() -> None:
    log = io.StringIO()
    script = "echo https://u:hidden@h/x; echo https://u:hidden@h/y >&2; exit 1"
    with pytest.raises(ProgramFailed) as caught:
        run(["/bin/sh", "-c", script], env={"A_TOKEN": "hidden", "PATH": "/bin"}, log=log)
    assert "hidden" not in log.getvalue() + caught.value.output + caught.value.evidence + caught.value.message
    assert log.getvalue().startswith("$ /bin/sh -c ")
    assert "https://***@h/x" in log.getvalue()


def test_last_line() -> None:
    assert last_line("a\n b \n\n  \n") == "b"
    assert last_line("") == ""


def test_what_runs_beside_this_process(tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    script = "import os, sys; print(os.getcwd(), os.environ['A'], os.getsid(0) == os.getpid()); sys.exit(3)"
    process = start_attended([sys.executable, "-c", script], env={"A": "1"}, cwd=tmp_path, stdout=out, stderr=err)
    assert process.wait(timeout=60) == 3
    assert (out.read_text("utf-8"), err.read_text("utf-8")) == (f"{tmp_path} 1 True\n", "")
    with pytest.raises(ProgramFailed, match="cannot be started"):
        start_attended(["x"], env={}, cwd=tmp_path / "gone", stdout=out, stderr=err)
