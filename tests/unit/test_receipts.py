"""When a build command leaves a receipt for the next one, and when it had better not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from buildkit.build.pipeline import BuildResult
from buildkit.cli.receipts import leave_receipt
from buildkit.cli.start import receipt_file
from buildkit.errors import BuildFailed
from buildkit.machine.witness import Watch
from buildkit.store import receipt
from buildkit.store.model import Entry

WORDS = ("sample", "--target", "12.0")
HASH = "a" * 64


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDABUILD_CACHE", str(tmp_path / "cache"))


def built(folder: Path, *, passed: tuple[str, ...] = ()) -> BuildResult:
    """A hit on a wheel whose backend was let see these variables."""
    wheel = folder / "sample-1.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    values: dict[str, Any] = {"environment": {"MAX_JOBS": "2", **dict.fromkeys(passed, "x")}}
    entry = Entry(
        key=HASH, family=HASH, recipe="sample", version="1.0", build="20261121-3f2a", created="2026-11-21T06:00:00.0Z",
        filename=wheel.name, sha256=HASH, size=5, inputs=values, verdict={}, plan={}, seconds=1.0,
    )  # fmt: skip
    return BuildResult(recipe="sample", version="1.0", key=HASH, cache="hit", wheel=wheel, entry=entry)


def left(result: BuildResult, watch: Watch | None = None) -> bool:
    """Whether the words have a receipt after this."""
    assert result.wheel is not None
    file = receipt_file(WORDS)
    assert file is not None
    file.unlink(missing_ok=True)
    leave_receipt(WORDS, result, watch or Watch(), result.wheel, {})
    return file.is_file()


def test_a_build_that_is_beyond_doubt_leaves_one(tmp_path: Path) -> None:
    assert left(built(tmp_path))
    assert left(built(tmp_path, passed=("CFLAGS",)))


@pytest.mark.parametrize("name", ["COLUMNS", "SSH_CONNECTION", "TMUX"])
def test_a_variable_that_was_passed_and_is_not_in_the_receipts_name_forbids_one(tmp_path: Path, name: str) -> None:
    """The next command has the same receipt whatever that variable says by then, and the wheel depends on it."""
    assert receipt.decides_nothing(name)
    other = {**os.environ, name: "another value"}
    names = [receipt.name_of(WORDS, environ, "/work", "p") for environ in (os.environ, other)]
    assert names[0] == names[1]
    assert not left(built(tmp_path, passed=(name,)))


def test_doubt_or_failure_forbids_one(tmp_path: Path) -> None:
    doubtful = Watch()
    doubtful.doubtful = True
    assert not left(built(tmp_path), doubtful)
    failed = built(tmp_path)
    failed.error = BuildFailed("it did not compile")
    assert not left(failed)
