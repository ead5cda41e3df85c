"""The store at every single call that changes the disk: killed there, or the disk fails there.

The calls are counted by a library that stands before the C library (store_faults.c), so that none is left out.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
KILL = -1


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """store_faults.c, compiled."""
    made = tmp_path_factory.mktemp("faults") / "faults.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(made), str(HERE / "store_faults.c"), "-ldl"]
    subprocess.run(command, check=True)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that can be: some thousand fsyncs of a real disk would show nothing more."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as name:
        yield Path(name)


def faults(library: Path, folder: Path, fault: int, *operations: str) -> dict[str, Any]:
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests" / "helpers"), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "LD_PRELOAD": str(library), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(HERE / "store_faults.py"), str(library), str(folder), str(fault), *operations]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_killed_at_every_call(library: Path, folder: Path) -> None:
    found = faults(library, folder, KILL, "put", "publish", "gc", "import")
    for operation, told in found.items():
        assert told["wrong"] == [], operation
        assert told["statuses"] == {"-9": told["calls"]}, operation
        assert told["calls"] >= 8, operation


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_the_disk_fails_at_every_call(library: Path, folder: Path, number: int) -> None:
    """Where a call fails, the operation says so, or did without it; never does it end otherwise (exit status 1)."""
    found = faults(library, folder, number, *(("put", "gc", "import") if number == errno.EIO else ("put",)))
    for operation, told in found.items():
        assert told["wrong"] == [], operation
        assert set(told["statuses"]) <= {"0", "3"}, operation
        assert told["statuses"]["3"] >= told["calls"] // 2, operation
