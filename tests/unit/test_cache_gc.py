"""Clearing a cache: what goes and what stays, and that what somebody uses stays."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stored import entry_of, release_of, wheel_of

from buildkit.build.clear_cache import Cleared, clear_cache
from buildkit.build.disk_use import DiskUse, Ledger, measure
from buildkit.build.places import Places
from buildkit.build.retention import YOUNG, Item, Policy, choose
from buildkit.build.tidy import GONE
from buildkit.errors import StoreError
from buildkit.store import in_use
from buildkit.store.builds import BuildRecord, BuildRecords
from buildkit.store.clearing import Clearing, Stored
from buildkit.store.locks import file_lock
from buildkit.store.model import Entry
from buildkit.store.release import Release
from buildkit.store.releases import NameTaken
from buildkit.store.store import Store

NOW = 2_000_000_000.0
DAY = 86400.0


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "cache", tmp_path / "elsewhere")


@pytest.fixture
def store(places: Places) -> Store:
    return Store(places.store)


@pytest.fixture(autouse=True)
def _hold_nothing() -> Iterator[None]:
    yield
    in_use.let_go()


def put(store: Store, number: int, *, days: float = 0, release: bool = False, **changes: Any) -> Entry:
    """A stored wheel that was used some days ago."""
    wheel = wheel_of(store.root.parents[1], number)
    entry = entry_of(wheel, number, **changes)
    store.put(wheel, entry, release_of(wheel, entry) if release else None)
    aged(store.wheel(entry), days)
    return entry


def aged(path: Path, days: float) -> Path:
    os.utime(path, (NOW - days * DAY, NOW - days * DAY))
    return path


def folder(path: Path, days: float, size: int = 5000) -> Path:
    """A folder with a file and a manifest beside it, made some days ago."""
    path.mkdir(parents=True)
    (path / "file").write_bytes(b"x" * size)
    path.with_name(f"{path.name}.manifest.json").write_text("{}")
    return aged(path, days)


def clear(places: Places, **policy: Any) -> Cleared:
    dry_run = policy.pop("dry_run", False)
    return clear_cache(places, Store(places.store), Policy(**policy), now=NOW, dry_run=dry_run)


def removed(cleared: Cleared) -> list[str]:
    return sorted(item.name for item, _why, _freed in cleared.removed)


def why_kept(cleared: Cleared) -> dict[str, str]:
    return {item.name: why for item, why in cleared.kept}


# The choice


SAMPLE = Entry(
    key="k", family="f", recipe="r", version="1", build="b", created="2026-11-21T10:00:00Z", filename="a.whl",
    sha256="0" * 64, size=1, inputs={}, verdict={}, plan={}, seconds=0.0,
)  # fmt: skip


def item(name: str, days: float, **changes: Any) -> Item:
    return replace(Item("torch", name, (Path(name),), NOW - days * DAY), **changes)


def wheel_item(name: str, days: float, recipe: str) -> Item:
    entry = SAMPLE.model_copy(update={"recipe": recipe})
    return item(name, days, kind="wheel", stored=Stored(name, Path(name), 1, NOW - days * DAY, (entry,), ()))


WHEELS = [wheel_item(name, days, name[0]) for name, days in (("a1", 1), ("a2", 40), ("a3", 50), ("b1", 60))]


@pytest.mark.parametrize(
    ("policy", "gone"),
    [
        (Policy(), []),
        (Policy(keep=1), ["a2", "a3"]),
        (Policy(keep=2), ["a3"]),
        (Policy(older_than=30 * DAY), ["a2", "a3", "b1", "t40"]),
        (Policy(older_than=45 * DAY), ["a3", "b1"]),
        (Policy(older_than=30 * DAY, keep=1), ["a2", "a3", "t40"]),
    ],
)
def test_what_goes(policy: Policy, gone: list[str]) -> None:
    choice = choose([*WHEELS, item("t40", 40), item("t1", 1)], policy, NOW)
    assert sorted(each.name for each, _why in choice.going) == gone
    assert choice.candidates == ()


def test_for_room_what_can_be_had_again_goes_first_and_then_by_last_use() -> None:
    items = [item("new", 1), item("old", 9), item("uv", 2, kind="uv"), item("pinned", 99, pinned="it is")]
    choice = choose(items, Policy(max_size=1), NOW)
    assert [each.name for each in choice.candidates] == ["uv", "old", "new"]
    assert choice.kept == ((items[3], "it is"),)


def test_what_was_just_used_stays_but_what_nobody_needs_goes() -> None:
    young = item("young", YOUNG / DAY / 2)
    useless = item("useless", 0, useless="left by a command that was killed")
    choice = choose([young, useless], Policy(max_size=1, older_than=1.0), NOW)
    assert [each.name for each, _why in choice.going] == ["useless"]
    assert [each.name for each, _why in choice.kept] == ["young"]


def test_linked_files_become_free_with_the_last_of_them(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "file").write_bytes(b"x" * 100_000)
    os.link(tmp_path / "one" / "file", tmp_path / "two" / "file")
    (tmp_path / "two" / "own").write_bytes(b"x" * 100_000)
    one, two = measure([tmp_path / "one"]), measure([tmp_path / "two", tmp_path / "none"])
    ledger = Ledger([one, two])
    assert one.size + two.size > ledger.total >= 200_000
    assert ledger.remove(one) == 0
    assert ledger.remove(two) == two.size
    assert ledger.total == 0
    assert measure([]) == DiskUse()


# Wheels


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_folder_that_holds_other_things_is_not_cleared(places: Places, store: Store, dry_run: bool) -> None:
    theirs = places.cache / "downloads" / "thesis.pdf"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    (places.cache / "Pictures").mkdir()
    with pytest.raises(StoreError, match="holds more than a cache") as caught:
        clear_cache(places, store, Policy(older_than=0), now=time.time(), dry_run=dry_run)
    assert (caught.value.evidence, theirs.exists()) == ("Pictures", True)


def test_a_wheel_goes_with_all_that_names_it(places: Places, store: Store) -> None:
    old, new = put(store, 1, days=40, release=True), put(store, 2, days=1)
    store_files = {path.name for path in store.root.rglob("*")}
    assert removed(clear(places, older_than=30 * DAY, dry_run=True)) == [old.filename]
    assert {path.name for path in store.root.rglob("*")} == store_files
    done = clear(places, older_than=30 * DAY)
    assert removed(done) == [old.filename]
    assert done.before - done.after >= old.size
    assert store.get(old.key).entry is None
    assert store.candidates(old.family) == []
    assert store.release(old.filename) is None
    assert not store.wheel(old).exists()
    assert store.get(new.key).entry == new
    assert store.verify_all() == []


def test_a_file_name_means_one_content_though_that_is_gone(places: Places, store: Store) -> None:
    old = put(store, 1, days=40, release=True)
    clear(places, older_than=DAY)
    other = wheel_of(store.root.parents[1], 2)
    entry = entry_of(other, 2, filename=old.filename)
    assert store.bearer(old.filename) == old.sha256
    assert ([each.filename for each in store.releases(retired=True)], store.releases()) == ([old.filename], [])
    with pytest.raises(NameTaken):
        store.put(other, entry, release_of(other, entry))
    again = wheel_of(store.root.parents[1], 1)
    store.put(again, old, release_of(again, old))
    assert store.release(old.filename) is not None
    assert len(store.releases(retired=True)) == 1


def test_a_wheel_that_got_another_entry_meanwhile_stays(store: Store) -> None:
    first = put(store, 1)
    (stored,) = Clearing(store).wheels()
    second = entry_of(wheel_of(store.root.parents[1], 1), 1, key="b" * 64)
    store.put(wheel_of(store.root.parents[1], 1), second)
    assert Clearing(store).remove([stored]) == {first.sha256: "stored again meanwhile"}
    assert store.get(second.key).entry == second


def test_a_key_that_was_built_again_meanwhile_keeps_its_new_wheel(store: Store) -> None:
    put(store, 1, key="a" * 64)
    (stored,) = Clearing(store).wheels()
    newer = put(store, 2, key="a" * 64)
    assert Clearing(store).remove([stored]) == {}
    assert store.get("a" * 64).entry == newer


def test_an_upload_stays_until_it_is_yanked(places: Places, store: Store) -> None:
    wheel = wheel_of(store.root.parents[1], 1)
    release = release_of(wheel, entry_of(wheel, 1)).model_copy(update={"origin": "upload", "key": None})
    store.publish(wheel, release)
    aged(store.blobs.path(release.sha256), 90)
    kept = clear(places, older_than=DAY, keep=1)
    assert removed(kept) == []
    assert "yank" in why_kept(kept)[release.filename]
    store.amend_release(release, lambda known: known.model_copy(update={"yanked": "broken"}))
    assert removed(clear(places, older_than=DAY)) == [release.filename]


def test_unnamed_bytes_go_unless_an_entry_of_another_schema_may_name_them(places: Places, store: Store) -> None:
    known, foreign = put(store, 1), put(store, 2)
    path = store.root / "entries" / f"{foreign.key}.json"
    path.write_bytes(foreign.as_bytes().replace(b'"schema": 1', b'"schema": 9', 1))
    stray = store.blobs.folder / "ab" / ("ab" + "0" * 62)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")
    assert removed(clear(places)) == [stray.name]
    assert not stray.exists()
    assert store.wheel(known).exists()
    assert store.wheel(foreign).exists()


def test_a_wheel_that_a_command_has_taken_stays(places: Places, store: Store) -> None:
    entry = put(store, 1, days=40)
    assert store.hold(entry)
    done = clear(places, older_than=DAY)
    assert removed(done) == []
    assert str(os.getpid()) in why_kept(done)[entry.filename]
    assert store.get(entry.key).entry == entry
    in_use.let_go()
    assert removed(clear(places, older_than=DAY)) == [entry.filename]
    assert not store.hold(entry)


def test_a_wheel_put_anew_under_a_held_path_is_held_anew(places: Places, store: Store) -> None:
    entry = put(store, 1, days=40)
    assert store.hold(entry)
    store.wheel(entry).unlink()
    store.put(wheel_of(store.root.parents[1], 1), entry)
    aged(store.wheel(entry), 40)
    assert store.hold(entry)
    assert removed(clear(places, older_than=DAY)) == []


# Everything else


KINDS = ("environment", "torch", "toolkit", "copy", "source", "uv")


def everything(places: Places, days: float) -> dict[str, Path]:
    return {
        "environment": folder(places.environments / "cp311-x", days),
        "torch": folder(places.torch / "cp311-torch-2.13.0", days),
        "toolkit": folder(places.toolkits / "cuda-12.8", days),
        "copy": folder(places.wheels / "0123", days),
        "source": folder(places.sources, days),
        "uv": folder(places.uv_cache, days),
    }


def test_what_is_held_stays_and_the_rest_goes(places: Places) -> None:
    there = everything(places, 40)
    in_use.hold(places.in_use, there["torch"])
    aged(in_use.lock_file(places.in_use, there["torch"]), 40)
    done = clear(places, older_than=DAY)
    assert {each.kind for each, _why, _freed in done.removed} == set(KINDS) - {"torch"}
    assert not any(path.exists() for kind, path in there.items() if kind != "torch")
    assert not there["environment"].with_name("cp311-x.manifest.json").exists()
    assert (there["torch"] / "file").is_file()
    assert str(os.getpid()) in why_kept(done)[there["torch"].name]
    assert not list(places.cache.rglob(f"{GONE}*"))


def test_use_makes_young(places: Places) -> None:
    there = everything(places, 40)
    for path in there.values():
        in_use.hold(places.in_use, path)
        aged(in_use.lock_file(places.in_use, path), 2)
    in_use.let_go()
    assert removed(clear(places, older_than=30 * DAY)) == []


def test_no_more_goes_than_must(places: Places) -> None:
    for number in range(4):
        folder(places.torch / f"torch-{number}", 10 + number, size=100_000)
    before = clear(places).before
    done = clear(places, max_size=before - 150_000)
    assert removed(done) == ["torch-2", "torch-3"]
    assert done.after <= before - 150_000
    assert clear(places).before == done.after


def test_where_something_cannot_go_the_next_goes(places: Places) -> None:
    for number in range(3):
        folder(places.torch / f"torch-{number}", 10 + number, size=100_000)
    in_use.hold(places.in_use, places.torch / "torch-2")
    aged(in_use.lock_file(places.in_use, places.torch / "torch-2"), 20)
    before = clear(places, dry_run=True).before
    assert removed(clear(places, max_size=before - 50_000)) == ["torch-1"]


def test_the_folder_of_a_running_build_stays(places: Places, store: Store) -> None:
    running, failed = folder(places.builds / "aaaa", 8), folder(places.builds / "bbbb", 8)
    with store.lock("aaaa"):
        done = clear(places)
    assert removed(done) == [failed.name]
    assert "is held by" in why_kept(done)[running.name]


def test_records_of_builds_without_a_wheel_go_by_age_unless_they_run(places: Places, store: Store) -> None:
    entry = put(store, 1, build="20261121-aaaa")
    records = BuildRecords(store.root)
    places.logs.mkdir()
    for name in (entry.build, "20261121-bbbb", "20261121-cccc"):
        moment = "2026-11-21T10:00:00.000000Z"
        record = BuildRecord(id=name, recipe="sample", started=moment, status="failed", log=str(places.logs / name))
        records.write(record)
        (places.logs / f"{name}.log").write_text("log")
        for path in (records.folder / f"{name}.json", places.logs / f"{name}.log"):
            aged(path, 2 if name.endswith("cccc") else 40)
    done = clear(places, older_than=30 * DAY)
    assert removed(done) == ["20261121-bbbb"]
    assert sorted(path.stem for path in places.logs.iterdir()) == ["20261121-aaaa", "20261121-cccc"]


def test_one_clearing_at_a_time_and_an_empty_cache(places: Places) -> None:
    assert clear(places, max_size=1).removed == []
    assert not places.cache.exists()
    folder(places.torch / "torch-1", 10)
    with file_lock(places.in_use / "gc.lock"), pytest.raises(Exception, match="is held by"):
        clear(places)


# Holding


def test_a_hold_ends_with_its_process(tmp_path: Path) -> None:
    thing = tmp_path / "torch" / "one"
    code = f"""
import os, sys
from pathlib import Path
from buildkit.store import in_use
in_use.hold(Path({str(tmp_path / "in-use")!r}), Path({str(thing)!r}))
print("held", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(in_use.InUse, match=str(holder.pid)), in_use.claimed(tmp_path / "in-use", thing):
            pass
        holder.kill()
    with in_use.claimed(tmp_path / "in-use", thing):
        pass


def test_holding_does_not_fail_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    in_use.hold(tmp_path / "file", tmp_path / "thing")

    def no_locks(*_arguments: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    in_use.hold(tmp_path / "in-use", tmp_path / "thing")
    with contextlib.suppress(OSError), in_use.claimed(tmp_path / "in-use", tmp_path / "thing"):
        pytest.fail("it was claimed without a lock")


def test_a_release_without_an_entry_is_a_wheel_too(store: Store) -> None:
    wheel = wheel_of(store.root.parents[1], 1)
    release: Release = store.publish(wheel, release_of(wheel, entry_of(wheel, 1)))
    (stored,) = Clearing(store).wheels()
    assert (stored.entries, stored.releases) == ((), (release,))
