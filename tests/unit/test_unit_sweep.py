"""A shim that was killed leaves nothing running: its compiler dies with it, the rest is ended by the broker."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_bench import Bench, runtime_folder
from processes import alive, wait_until

from buildkit.guard.native import shim_program
from buildkit.guard.sampling import read_stat
from buildkit.guard.shim import make_shims
from buildkit.guard.unit_sweep import sweep

COMPILER = """#!/bin/sh
sleep 300 &
echo $! > {folder}/child
echo $$ > {folder}/compiler
wait
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with runtime_folder() as path:
        yield path


def test_what_a_killed_shim_leaves_is_ended(folder: Path, tmp_path: Path) -> None:
    """As nvcc and its cicc: the one has asked to die with its parent, the other has never heard of that."""
    compiler = tmp_path / "gcc"
    compiler.write_text(COMPILER.format(folder=tmp_path), encoding="utf-8")
    compiler.chmod(0o755)
    (tmp_path / "a.c").write_text("int a;\n", encoding="utf-8")
    (tmp_path / "tmp").mkdir()
    shims = make_shims(tmp_path / "shims", {"gcc": compiler}, shim_program())
    with Bench(folder, tmpdir=tmp_path / "tmp") as bench:
        env = {"PATH": f"{shims}:/usr/bin:/bin", "TMPDIR": str(tmp_path / "tmp"), **bench.client.environment()}
        shim = subprocess.Popen([str(shims / "gcc"), "-c", "a.c"], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
        assert wait_until((tmp_path / "compiler").exists)
        pids = [int((tmp_path / name).read_text("ascii")) for name in ("compiler", "child")]
        handles = [os.pidfd_open(pid) for pid in pids]
        try:
            shim.kill()
            shim.wait()
            assert wait_until(lambda: not any(alive(pid) for pid in pids), 5.0)
            bench.wait_for("lost", "a.c")
        finally:
            for handle in handles:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                os.close(handle)


def sleeper(**env: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "300"], env=env)


def test_nothing_is_ended_while_the_shim_lives_and_nobody_else_ever() -> None:
    scratch = tempfile.gettempdir() + "/u1"
    mine, other = sleeper(TMPDIR=scratch), sleeper(TMPDIR=scratch + "2")
    shim = subprocess.Popen([sys.executable, "-I", "-S", "-c", "pass"])
    try:
        assert sweep(os.getpid(), {}, scratch) == 0
        shim.wait()
        start = read_stat(other.pid)
        assert start is not None
        assert sweep(shim.pid, {other.pid: start.start + 1}, scratch) == 1  # its number was given to another
        assert mine.wait() == -signal.SIGKILL
        assert other.poll() is None
    finally:
        mine.kill()
        other.kill()
        mine.wait()
        other.wait()
