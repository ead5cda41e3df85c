"""The store under writers that are killed, race, have no room or may not write; each in processes of their own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from buildkit.store import locks
from buildkit.store.disk import PUT_STEPS
from buildkit.store.model import Entry
from buildkit.store.store import Store

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


def start(
    mode: str, root: Path, puts: Iterable[tuple[Path, Entry]], prefix: Sequence[str] = ()
) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])}
    process = subprocess.Popen(
        [*prefix, sys.executable, str(WRITER), mode, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert process.stdin
    process.stdin.write(
        json.dumps([[str(wheel), entry.model_dump(mode="json", by_alias=True)] for wheel, entry in puts])
    )
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


def test_33_want_one_wheel_and_the_first_builder_is_killed(tmp_path: Path) -> None:
    """One build at a time, the next one in line builds when the holder dies, and all 32 others have the wheel."""
    wheel, entry = sample(tmp_path)
    done = answer(start("raced", tmp_path / "store", [(wheel, entry)]))
    assert sorted(done["statuses"]) == [-signal.SIGKILL] + [0] * 32
    words = [line.split() for line in done["diary"]]
    assert [word for word, _process in words] == ["begins", "begins", "ends"]  # the first never ended
    assert words[0][1] != words[1][1] == words[2][1]
    handed = list(tmp_path.glob("out-*/*.whl"))
    assert len(handed) == 32
    assert {path.read_bytes() for path in handed} == {wheel.read_bytes()}
    assert {path.name for path in handed} == {entry.filename}
    assert Store(tmp_path / "store").verify_all() == []


def test_clearing_takes_nothing_from_readers_and_writers(tmp_path: Path) -> None:
    puts = [sample(tmp_path, f"{number:064x}", bytes([65 + number])) for number in range(3)]
    done = answer(start("cleared", tmp_path / "store", puts))
    assert done["statuses"] == [0] * 7
    assert done["problems"] == []
    assert all(int(count) > 0 for count in done["handed"])


CALL = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
OPENED = re.compile(r"<(?P<path>/[^>]*)>")


def calls_of(trace: str) -> dict[str, list[tuple[str, str]]]:
    """What each child did after its ``begin NAME``: fsync and write with the path of the file, rename with both."""
    names: dict[str, str] = {}
    found: dict[str, list[tuple[str, str]]] = {}
    for line in trace.splitlines():
        if (call := CALL.match(line)) is None or call["result"].startswith("-"):
            continue
        pid, arguments = call["pid"], call["arguments"]
        if call["name"] == "write" and '"begin ' in arguments:
            names[pid] = arguments.partition('"begin ')[2].partition("\\n")[0]
        elif pid in names:
            paths = re.findall(r'"(/[^"]*)"', arguments) if call["name"].startswith("rename") else []
            opened = OPENED.search(arguments)
            what = " -> ".join(paths) or ("stored" if '"stored' in arguments else opened["path"] if opened else "")
            found.setdefault(names[pid], []).append((call["name"][:6], what))
    return found


def broken_promises(calls: list[tuple[str, str]]) -> list[str]:
    """What of this does not hold: written, fsync(file), rename, fsync(folder) for the wheel, then for its release, then
    for its entry; then the answer."""
    wrong = []
    answered = calls.index(("write", "stored"))
    after = -1
    for kind in ("/blobs/", "/releases/", "/entries/"):
        renames = [place for place, (name, what) in enumerate(calls) if name == "rename" and kind in what]
        if len(renames) != 1:
            return [f"{kind} was renamed {len(renames)} times"]
        (place,) = renames
        draft, _, final = calls[place][1].partition(" -> ")
        last_write = max(i for i, call in enumerate(calls) if call == ("write", draft))
        if ("fsync", draft) not in calls[last_write:place]:
            wrong.append(f"{kind}: renamed before it was synced")
        folder = ("fsync", str(Path(final).parent))
        synced = next((i for i in range(place, len(calls)) if calls[i] == folder), len(calls))
        if synced == len(calls):
            wrong.append(f"{kind}: its folder was not synced")
        if place < after:
            wrong.append(f"{kind}: before what it names was there to last")
        if synced > answered:
            wrong.append(f"{kind}: answered before it lasted")
        after = synced
    return wrong


def test_tracing_shows_every_promise_and_what_leaves_one_out(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    prefix = ["strace", "-f", "-y", "-s", "64", "-e", "trace=write,fsync,rename,renameat,renameat2", "-o", str(trace)]
    writer = start("traced", tmp_path / "stores", [sample(tmp_path)], prefix)
    out, err = writer.communicate(timeout=120)
    assert writer.returncode == 0, err
    assert out.endswith("[0, 0, 0, 0, 0, 0]"), out
    found = {name: broken_promises(calls) for name, calls in calls_of(trace.read_text()).items()}
    assert found.pop("as it is") == []
    kinds = ("/blobs/", "/releases/", "/entries/")
    assert found == {
        "no sync of files": [f"{kind}: renamed before it was synced" for kind in kinds],
        "no sync of folders": [
            text
            for kind in kinds
            for text in (
                f"{kind}: its folder was not synced",
                *([f"{kind}: before what it names was there to last"] if kind != "/blobs/" else []),
                f"{kind}: answered before it lasted",
            )
        ],
        "rename first": [f"{kind}: renamed before it was synced" for kind in kinds],
        "entry first": ["/entries/: before what it names was there to last"],
        "answer first": [f"{kind}: answered before it lasted" for kind in kinds],
    }


@pytest.mark.parametrize("share", range(8))
def test_a_flipped_bit_is_never_handed_out(tmp_path: Path, share: int) -> None:
    """In the wheel each is found; in the entry the bytes that are handed out are still the right ones, or none."""
    wheel, entry = sample(tmp_path)
    store = Store(tmp_path / "store")
    store.put(wheel, entry)
    path = store.wheel(entry)
    path.chmod(0o644)
    data = wheel.read_bytes()
    place = len(data) * share // 8
    path.write_bytes(data[:place] + bytes([data[place] ^ (1 << share)]) + data[place + 1 :])
    assert store.get(entry.key).entry is None
    store.put(wheel, entry)
    file = store.root / "entries" / f"{entry.key}.json"
    text = file.read_bytes()
    for place in range(share, len(text), 16):
        file.write_bytes(text[:place] + bytes([text[place] ^ (1 << share)]) + text[place + 1 :])
        assert store.get(entry.key).entry is None
        store.put(wheel, entry)
    assert store.get(entry.key).entry == entry


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
