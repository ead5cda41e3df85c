"""The store under writers that are killed, race, have no room or may not write; each in processes of their own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from buildkit.store import locks
from buildkit.store.model import Entry
from buildkit.store.store import PUT_STEPS, Store

WRITER = Path(__file__).with_name("store_writer.py")
REPOSITORY = Path(__file__).parents[2]


def sample(folder: Path, key: str = "a" * 64, fill: bytes = b"x") -> tuple[Path, Entry]:
    data = b"PK" + fill * 200_000
    wheel = folder / f"{hashlib.sha256(data).hexdigest()[:8]}.whl"
    wheel.write_bytes(data)
    entry = Entry(
        key=key,
        family="f" * 64,
        recipe="sample",
        version="1.0",
        build="20261121-3f2a",
        created="2026-11-21T10:00:00Z",
        filename="sample-1.0-py3-none-any.whl",
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        inputs={},
        verdict={},
        plan={},
        seconds=1.0,
    )
    return wheel, entry


def start(mode: str, root: Path, puts: Iterable[tuple[Path, Entry]]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])}
    process = subprocess.Popen(
        [sys.executable, str(WRITER), mode, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert process.stdin
    process.stdin.write(json.dumps([[str(wheel), json.loads(entry.as_bytes())] for wheel, entry in puts]))
    process.stdin.close()
    process.stdin = None
    return process


def answer(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store a step, whose writer was killed there, and the wheel that it was putting in."""
    folder = tmp_path_factory.mktemp("killed")
    assert answer(start("kill", folder / "stores", [sample(folder)])) == dict.fromkeys(PUT_STEPS, True)
    return folder


def test_killed_at_every_step(killed: Path, tmp_path: Path) -> None:
    wheel, entry = sample(tmp_path)
    shutil.copytree(killed / "stores", tmp_path / "stores")
    for number, step in enumerate(PUT_STEPS):
        store = Store(tmp_path / "stores" / step)
        assert store.verify_all() == [], step
        found = store.get(entry.key)
        assert found.note == "", step
        # The entry's rename is where the put becomes visible, and it never is so in part.
        assert (found.entry == entry) == (number >= PUT_STEPS.index("entry-renamed")), step
        assert store.put(wheel, entry) == store.get(entry.key).entry, step
        assert store.candidates(entry.family) == [entry], step


def test_leftovers_of_the_killed_are_swept_once_they_are_old(killed: Path, tmp_path: Path) -> None:
    wheel, entry = sample(tmp_path)
    shutil.copytree(killed / "stores", tmp_path / "stores")
    store = Store(tmp_path / "stores" / "blob-written")
    leftovers = list((store.root / "tmp").iterdir())
    assert len(leftovers) == 1
    store.put(wheel, entry)
    assert list((store.root / "tmp").iterdir()) == leftovers  # young: could be a writer's on another machine
    os.utime(leftovers[0], (time.time() - 7200, time.time() - 7200))
    store.put(wheel, entry)
    assert list((store.root / "tmp").iterdir()) == []


def test_sixteen_racing_writers(tmp_path: Path) -> None:
    keys = ["a" * 64, "b" * 64]
    puts = [sample(tmp_path, keys[n % 2], bytes([65 + n % 4])) for n in range(16)]
    meant = {(entry.key, entry.sha256) for _, entry in puts}
    store = Store(tmp_path / "store")
    racing = start("race", store.root, puts)
    seen = 0
    while racing.poll() is None:
        for found in map(store.get, keys):
            assert found.note == ""
            if found.entry:
                assert (found.entry.key, found.entry.sha256) in meant
                seen += 1
    assert answer(racing) == [0] * 16
    assert seen
    assert store.verify_all() == []
    assert {entry.key for entry in store.entries()} == set(keys)
    assert list((store.root / "tmp").iterdir()) == []


def test_no_room_for_the_wheel(tmp_path: Path) -> None:
    wheel, entry = sample(tmp_path)
    store = Store(tmp_path / "store")
    failure = answer(start("small-files", store.root, [(wheel, entry)]))
    assert failure["kind"] == "disk-full"
    assert str(store.root) in failure["message"]
    assert "195.3 KiB needed" in failure["message"]
    assert "File too large" in failure["evidence"]
    assert list((store.root / "tmp").iterdir()) == []
    assert store.get(entry.key).entry is None
    assert store.verify_all() == []


def test_a_cache_that_may_not_be_written(tmp_path: Path) -> None:
    good, bad = sample(tmp_path), sample(tmp_path, "b" * 64, b"y")
    store = Store(tmp_path / "store")
    for wheel, entry in (good, bad):
        store.put(wheel, entry)
    flipped = store.wheel(bad[1])
    flipped.chmod(0o644)
    with flipped.open("r+b") as stream:
        stream.write(b"Z")
    before = sorted(store.root.rglob("*"))
    folders = [store.root, *(path for path in before if path.is_dir())]
    try:
        for folder in folders:
            folder.chmod(0o555)
        result = answer(start("read-only", store.root, [good, bad]))
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert result["found"] == [True, False]
    assert result["notes"][0] == ""
    assert "it stays where it is" in result["notes"][1]
    assert result["sizes"] == [good[1].size]
    assert result["put"]["kind"] == "read-only-cache"
    assert "CUDABUILD_CACHE" in result["put"]["hint"]
    assert result["problems"] == 1
    assert sorted(store.root.rglob("*")) == before


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_lock_ends_with_its_process(tmp_path: Path, end: signal.Signals) -> None:
    put = sample(tmp_path)
    store = Store(tmp_path / "store")
    path = store.root / "locks" / f"{put[1].key}.lock"
    holder = start("hold", store.root, [put])
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(locks.LockBusy), locks.file_lock(path, patience=0):
            pass
        assert locks.holder_of(path).startswith(f"process {holder.pid} on ")
    finally:
        holder.send_signal(end)
        holder.communicate(timeout=10)
    with locks.file_lock(path, patience=5):
        pass
