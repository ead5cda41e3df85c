"""The store: what is put comes back byte for byte, or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from buildkit.errors import DiskFull, NoSuchBuild, ReadOnlyCache, StoreError
from buildkit.file_identity import identity_of
from buildkit.store import locks
from buildkit.store.blobs import copy_hashing, file_sha256, reflink
from buildkit.store.disk import PUT_STEPS, cause_of, disk_causes
from buildkit.store.model import DamagedEntry, Entry, ForeignEntry, differing_fields, parse_entry
from buildkit.store.store import Store

FILENAME = "sample-1.0+pt2.13.cu130.sm120-cp311-cp311-linux_x86_64.whl"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "made" / "any-name.whl"
    path.parent.mkdir()
    path.write_bytes(b"PK" + bytes(range(256)) * 300)
    return path


def entry_for(wheel: Path, **changes: object) -> Entry:
    data = wheel.read_bytes()
    fields: dict[str, Any] = {
        "key": "a" * 64,
        "family": "f" * 64,
        "recipe": "sample",
        "version": "1.0",
        "build": "20261121-3f2a",
        "created": "2026-11-21T10:00:00.000000Z",
        "filename": FILENAME,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "inputs": {"targets": ["12.0"], "torch": "2.13.0+cu130", "environment": {"CFLAGS": "-O2"}},
        "verdict": {"grade": "imported"},
        "plan": {"jobs": 2},
        "seconds": 12.5,
    }
    return Entry(**{**fields, **changes})


def files_in(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


class TestPutAndGet:
    def test_an_empty_store_has_nothing_and_is_not_made_by_asking(self, store: Store) -> None:
        assert store.get("a" * 64).entry is None
        assert store.get("a" * 64).note == ""
        assert list(store.entries()) == []
        assert store.candidates("f" * 64) == []
        assert store.verify_all() == []
        assert not store.root.exists()

    def test_what_was_put_comes_back(self, store: Store, wheel: Path) -> None:
        entry = store.put(wheel, entry_for(wheel))
        assert store.get(entry.key).entry == entry
        assert store.wheel(entry).read_bytes() == wheel.read_bytes()
        assert store.verify_all() == []

    def test_a_blob_is_immutable_and_nothing_temporary_stays(self, store: Store, wheel: Path) -> None:
        entry = store.put(wheel, entry_for(wheel))
        assert store.wheel(entry).stat().st_mode & 0o222 == 0
        assert store.wheel(entry) == store.root / "blobs" / "sha256" / entry.sha256[:2] / entry.sha256
        assert list((store.root / "tmp").iterdir()) == []

    def test_reading_writes_nothing(self, store: Store, wheel: Path) -> None:
        entry = store.put(wheel, entry_for(wheel))
        before = files_in(store.root)
        assert store.get(entry.key).entry
        assert [*store.entries(), *store.candidates(entry.family), store.find("last")]
        assert store.verify_all() == []
        assert files_in(store.root) == before

    def test_the_steps_of_a_put_are_the_ones_that_the_crash_tests_use(self, tmp_path: Path, wheel: Path) -> None:
        seen: list[str] = []
        Store(tmp_path / "store", step=seen.append).put(wheel, entry_for(wheel))
        assert tuple(seen) == PUT_STEPS

    def test_other_bytes_than_announced_are_refused(self, store: Store, wheel: Path) -> None:
        entry = entry_for(wheel)
        wheel.write_bytes(b"something else")
        with pytest.raises(StoreError, match="changed after it was proven"):
            store.put(wheel, entry)
        assert store.get(entry.key).entry is None
        assert list((store.root / "tmp").iterdir()) == []

    def test_two_keys_share_one_blob(self, store: Store, wheel: Path) -> None:
        store.put(wheel, entry_for(wheel))
        store.put(wheel, entry_for(wheel, key="b" * 64))
        assert len(list(store.blobs.all())) == 1
        store.remove("a" * 64)
        assert store.get("b" * 64).entry
        store.remove("b" * 64)
        assert list(store.blobs.all()) == []
        assert store.candidates("f" * 64) == []
        with pytest.raises(NoSuchBuild):
            store.remove("b" * 64)

    def test_a_bad_blob_is_replaced_by_a_put(self, store: Store, wheel: Path) -> None:
        entry = store.put(wheel, entry_for(wheel))
        spoil(store.wheel(entry), b"")
        store.put(wheel, entry)
        assert store.get(entry.key).entry == entry

    def test_amend_replaces_the_entry_only(self, store: Store, wheel: Path) -> None:
        entry = store.put(wheel, entry_for(wheel))
        better = store.amend(entry.model_copy(update={"verdict": {"grade": "executed"}}))
        assert store.get(entry.key).entry == better
        spoil(store.wheel(entry), b"")
        with pytest.raises(StoreError, match="damaged"):
            store.amend(better)

    @pytest.mark.parametrize("key", ["", "../x", "a/b", ".", "a.json", "-x", "x" * 200])
    def test_a_key_cannot_leave_the_store(self, store: Store, key: str) -> None:
        with pytest.raises(StoreError, match="cannot be a key"):
            store.get(key)


def spoil(path: Path, data: bytes) -> None:
    """Change a file behind the store's back and give it its old times."""
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


class TestDamage:
    @pytest.fixture
    def entry(self, store: Store, wheel: Path) -> Entry:
        return store.put(wheel, entry_for(wheel))

    def test_a_flipped_byte_is_noticed_though_the_mtime_is_the_same(self, store: Store, entry: Entry) -> None:
        data = bytearray(store.wheel(entry).read_bytes())
        data[5000] ^= 1
        spoil(store.wheel(entry), bytes(data))
        problem = store.verify_all()[0]
        assert (problem.key, problem.path) == (entry.key, str(store.wheel(entry)))
        found = store.get(entry.key)
        assert found.entry is None
        assert "its bytes are not the ones that were stored" in found.note
        assert "set aside in" in found.note
        assert not store.wheel(entry).exists()
        assert len(list((store.root / "quarantine").iterdir())) == 2
        assert store.get(entry.key).note == ""
        assert store.verify_all() == []

    @pytest.mark.parametrize("keep", [0, 100])
    def test_a_truncated_wheel(self, store: Store, entry: Entry, keep: int) -> None:
        spoil(store.wheel(entry), store.wheel(entry).read_bytes()[:keep])
        assert f"it has {keep} bytes instead of {entry.size}" in store.get(entry.key).note

    def test_a_missing_wheel(self, store: Store, entry: Entry) -> None:
        store.wheel(entry).unlink()
        assert "it is not there" in store.get(entry.key).note

    def test_a_wheel_that_is_a_link(self, store: Store, entry: Entry, wheel: Path) -> None:
        store.wheel(entry).unlink()
        store.wheel(entry).symlink_to(wheel)
        assert "not a regular file" in store.get(entry.key).note
        assert wheel.exists()

    @pytest.mark.parametrize("data", [b"", b"\0" * 50, b"{", b"[]", b"{}", b'{"schema": 1}', b"\xff\xfe"])
    def test_a_corrupt_entry(self, store: Store, entry: Entry, data: bytes) -> None:
        path = store.root / "entries" / f"{entry.key}.json"
        path.write_bytes(data)
        assert list(store.entries()) == []
        assert store.candidates(entry.family) == []
        assert [problem.key for problem in store.verify_all()] == [entry.key]
        found = store.get(entry.key)
        assert found.entry is None
        assert "is damaged" in found.note
        assert not path.exists()

    def test_an_entry_under_another_name(self, store: Store, entry: Entry) -> None:
        path = store.root / "entries" / f"{entry.key}.json"
        path.rename(path.with_name(f"{'b' * 64}.json"))
        assert "is another key's" in store.get("b" * 64).note

    def test_an_entry_of_a_later_schema_is_left_alone(self, store: Store, entry: Entry) -> None:
        path = store.root / "entries" / f"{entry.key}.json"
        path.write_bytes(json.dumps({**json.loads(path.read_bytes()), "schema": 2, "more": 1}).encode())
        found = store.get(entry.key)
        assert found.entry is None
        assert "schema 2" in found.note
        assert path.exists()
        assert store.verify_all() == []

    @pytest.mark.usefixtures("entry")
    def test_a_wheel_that_no_entry_names_is_verified_too(self, store: Store) -> None:
        stray = store.blobs.path("0" * 64)
        stray.parent.mkdir()
        stray.write_bytes(b"stray")
        assert [(problem.key, problem.path) for problem in store.verify_all()] == [("", str(stray))]


class TestHandOut:
    def test_under_its_own_name_as_a_copy(self, store: Store, wheel: Path, tmp_path: Path) -> None:
        entry = store.put(wheel, entry_for(wheel))
        path = store.hand_out(entry, tmp_path / "out" / "ü x")
        assert path.name == FILENAME
        assert path.read_bytes() == wheel.read_bytes()
        assert path.stat().st_nlink == 1
        assert path.stat().st_mode & 0o200
        assert path.stat().st_ino != store.wheel(entry).stat().st_ino
        assert [p.name for p in path.parent.iterdir()] == [FILENAME]

    def test_an_identical_file_is_left_and_another_replaced(self, store: Store, wheel: Path, tmp_path: Path) -> None:
        entry = store.put(wheel, entry_for(wheel))
        path = store.hand_out(entry, tmp_path)
        before = identity_of(path)
        assert identity_of(store.hand_out(entry, tmp_path)) == before
        path.write_bytes(bytes(entry.size))
        assert store.hand_out(entry, tmp_path).read_bytes() == wheel.read_bytes()

    def test_damage_after_the_lookup_is_not_handed_out(self, store: Store, wheel: Path, tmp_path: Path) -> None:
        entry = store.put(wheel, entry_for(wheel))
        spoil(store.wheel(entry), bytes(entry.size))
        with pytest.raises(StoreError, match="removed or damaged") as caught:
            store.hand_out(entry, tmp_path / "out")
        assert "its bytes are not" in caught.value.evidence
        assert list((tmp_path / "out").iterdir()) == []
        with pytest.raises(StoreError, match="removed or damaged"):
            store.hand_out(entry, tmp_path / "out")

    def test_a_folder_that_is_a_file(self, store: Store, wheel: Path) -> None:
        entry = store.put(wheel, entry_for(wheel))
        with pytest.raises(StoreError) as caught:
            store.hand_out(entry, wheel)
        assert "--out" in caught.value.hint

    def test_sharing_blocks_gives_the_same_bytes_or_declines(self, tmp_path: Path, wheel: Path) -> None:
        other = tmp_path / "other"
        with wheel.open("rb") as source, other.open("wb") as destination:
            shared = reflink(source.fileno(), destination.fileno())
        assert file_sha256(other) == file_sha256(wheel) if shared else other.stat().st_size == 0

    def test_shared_blocks_are_checked_as_well(
        self, store: Store, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        entry = store.put(wheel, entry_for(wheel))

        def clone(destination: int, _request: int, source: int) -> int:
            os.pwrite(destination, os.pread(source, entry.size, 0), 0)
            return 0

        monkeypatch.setattr(fcntl, "ioctl", clone)
        assert store.hand_out(entry, tmp_path / "good").read_bytes() == wheel.read_bytes()
        spoil(store.wheel(entry), bytes(entry.size))
        with pytest.raises(StoreError, match="removed or damaged"):
            store.hand_out(entry, tmp_path / "bad")


class TestFinding:
    @pytest.fixture
    def entries(self, store: Store, wheel: Path) -> list[Entry]:
        def put(number: int, recipe: str, **inputs: object) -> Entry:
            fields: Mapping[str, object] = {
                "key": f"{number}{'abc'[number % 3]}" * 32,
                "build": f"20261121-000{number}",
                "created": f"2026-11-2{number}T10:00:00Z",
                "recipe": recipe,
                "inputs": {"targets": ["12.0"], "torch": "2.13", "environment": {}, **inputs},
            }
            return store.put(wheel, entry_for(wheel, **fields))

        return [
            put(1, "sample"),
            put(2, "sample", torch="2.12", environment={"CFLAGS": "-O1"}),
            put(3, "other", torch="2.14"),
        ]

    def test_newest_first(self, store: Store, entries: list[Entry]) -> None:
        assert list(store.entries()) == entries[::-1]

    def test_by_last_build_key_and_file_name(self, store: Store, entries: list[Entry]) -> None:
        assert store.find("last") == entries[2]
        assert store.find("20261121-0002") == entries[1]
        assert store.find("1b1b") == entries[0]
        assert store.find(FILENAME) == entries[2]

    @pytest.mark.parametrize("text", ["", "zzz", "20261121-9999"])
    @pytest.mark.usefixtures("entries")
    def test_what_is_not_there(self, store: Store, text: str) -> None:
        with pytest.raises(NoSuchBuild) as caught:
            store.find(text)
        assert caught.value.hint == "cudabuild cache list"

    def test_nothing_is_last_in_an_empty_store(self, store: Store) -> None:
        with pytest.raises(NoSuchBuild):
            store.find("last")

    @pytest.mark.usefixtures("entries")
    def test_a_beginning_with_two_meanings(self, store: Store, wheel: Path) -> None:
        store.put(wheel, entry_for(wheel, key="1b1c"))
        with pytest.raises(NoSuchBuild, match="begins 2 keys"):
            store.find("1b1")

    def test_candidates_are_of_one_family(self, store: Store, wheel: Path, entries: list[Entry]) -> None:
        other = store.put(wheel, entry_for(wheel, key="c" * 64, family="e" * 64))
        assert store.candidates("e" * 64) == [other]
        assert store.candidates("f" * 64) == entries[::-1]

    def test_nearest_counts_fields_of_the_same_recipe(self, store: Store, entries: list[Entry]) -> None:
        wanted = {"targets": ("12.0",), "torch": "2.14", "environment": {"CFLAGS": "-O1"}}
        assert store.nearest(wanted, "sample") == (entries[1], ["torch"])
        assert store.nearest({**wanted, "environment": {}}, "sample") == (entries[0], ["torch"])
        assert store.nearest(wanted, "unknown") is None

    def test_differing_fields(self) -> None:
        mine = {"a": 1, "list": (1, 2), "environment": {"X": "1", "Y": "2"}}
        other = {"a": 1, "list": [1, 2], "environment": {"X": "2", "Z": "3"}, "new": None}
        assert differing_fields(mine, other) == ["environment.X", "environment.Y", "environment.Z", "new"]


class TestEntryFile:
    def test_round_trip(self, wheel: Path) -> None:
        entry = entry_for(wheel, guard={"peak_memory": 1})
        assert parse_entry(entry.as_bytes()) == entry
        assert json.loads(entry.as_bytes())["schema"] == 1

    @pytest.mark.parametrize(
        "change",
        [
            {"filename": "../evil.whl"},
            {"filename": "a/b.whl"},
            {"filename": "x.zip"},
            {"sha256": "A" * 64},
            {"size": 0},
            {"key": "../../x"},
            {"key": "a\n"},
            {"created": "yesterday"},
            {"unknown": 1},
            {"schema": "1"},
        ],
    )
    def test_what_an_entry_cannot_hold(self, wheel: Path, change: dict[str, object]) -> None:
        document = entry_for(wheel).model_dump(mode="json", by_alias=True)
        with pytest.raises(DamagedEntry):
            parse_entry(json.dumps({**document, **change}).encode())

    def test_an_entry_that_still_reads_and_says_something_else(self, wheel: Path) -> None:
        entry = entry_for(wheel, version="1.0")
        with pytest.raises(DamagedEntry, match="not the one that was written"):
            parse_entry(entry.as_bytes().replace(b'"version": "1.0"', b'"version": "1.1"'))

    def test_one_of_before_there_were_checksums(self, wheel: Path) -> None:
        entry = entry_for(wheel)
        old = entry.model_dump_json(by_alias=True, indent=1).encode() + b"\n"
        assert b"checksum" not in old
        assert parse_entry(old) == entry

    def test_a_folder_in_the_place_of_an_entry(self, wheel: Path, store: Store) -> None:
        entry = store.put(wheel, entry_for(wheel))
        (store.root / "entries" / "x.json").mkdir()
        (store.root / "releases" / "x-1-py3-none-any.whl.json").mkdir(parents=True)
        assert (list(store.entries()), store.releases()) == ([entry], [])
        assert [problem.key for problem in store.verify_all()] == ["x"]
        lookup = store.get("x")
        assert lookup.entry is None
        assert "it is a folder; set aside" in lookup.note
        assert not (store.root / "entries" / "x.json").exists()

    def test_another_schema_is_no_damage(self) -> None:
        with pytest.raises(ForeignEntry):
            parse_entry(b'{"schema": 7}')


class TestDiskCauses:
    @pytest.mark.parametrize(
        ("number", "cause"),
        [
            (errno.ENOSPC, DiskFull),
            (errno.EDQUOT, DiskFull),
            (errno.EFBIG, DiskFull),
            (errno.EROFS, ReadOnlyCache),
            (errno.EACCES, ReadOnlyCache),
            (errno.EPERM, ReadOnlyCache),
            (errno.EIO, StoreError),
            (errno.ENOTDIR, StoreError),
        ],
    )
    def test_each_has_a_cause_with_a_next_step(self, number: int, cause: type[StoreError], tmp_path: Path) -> None:
        found = cause_of(OSError(number, os.strerror(number)), tmp_path, needed=5 << 20)
        assert type(found) is cause
        assert str(tmp_path) in found.message
        assert os.strerror(number) in found.evidence
        assert found.hint

    def test_a_full_device(self, wheel: Path) -> None:
        folder = Path("/dev")
        with wheel.open("rb") as source, Path("/dev/full").open("wb", buffering=0) as full:
            with (
                pytest.raises(DiskFull, match=r"free, 97\.7 KiB needed") as caught,
                disk_causes(folder, needed=100_000),
            ):
                copy_hashing(source.fileno(), full.fileno())
            assert "No space left" in caught.value.evidence

    def test_a_source_that_cannot_be_read(self, store: Store, wheel: Path) -> None:
        # Address 0 of a process is never mapped: reading it is a true EIO.
        with pytest.raises(StoreError) as caught:
            store.put(Path("/proc/self/mem"), entry_for(wheel))
        assert type(caught.value) is StoreError
        assert "Input/output error" in caught.value.evidence
        assert list((store.root / "tmp").iterdir()) == []

    @pytest.mark.parametrize("step", [name for name in PUT_STEPS if not name.endswith(("renamed", "durable"))])
    def test_no_room_at_any_step_leaves_nothing_behind(self, tmp_path: Path, wheel: Path, step: str) -> None:
        def full(name: str) -> None:
            if name == step:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        store = Store(tmp_path / "store", step=full)
        entry = entry_for(wheel)
        with pytest.raises(DiskFull):
            store.put(wheel, entry)
        assert list((store.root / "tmp").glob(".*")) == []
        assert store.get(entry.key).entry is None
        assert Store(store.root).put(wheel, entry) == Store(store.root).get(entry.key).entry


class TestLocks:
    def test_the_second_waits_and_is_told(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "TELL_EVERY", 0.2)
        calls: list[str] = []
        path = store.root / "locks" / "k.lock"
        with store.lock("k"):
            waiting = locks.file_lock(path, on_wait=lambda: calls.append(locks.holder_of(path)), patience=0.5)
            with pytest.raises(locks.LockBusy, match=f"process {os.getpid()} on "), waiting:
                pass
        assert 2 <= len(calls) <= 4
        assert calls[0].startswith(f"process {os.getpid()} on ")
        with store.lock("k"), store.lock("another"):
            pass

    def test_an_error_inside_frees_the_lock(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.lock("k"):
            raise ZeroDivisionError
        with locks.file_lock(store.root / "locks" / "k.lock", patience=0):
            pass

    def test_readers_of_a_lock_share_it(self, tmp_path: Path) -> None:
        path = tmp_path / "l"
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(locks.file_lock(path, shared=True, patience=0))
            with pytest.raises(locks.LockBusy):
                stack.enter_context(locks.file_lock(path, patience=0))

    def test_a_child_does_not_inherit_the_lock(self, tmp_path: Path) -> None:
        with locks.file_lock(tmp_path / "l"):
            opened = [link for link in Path("/proc/self/fd").iterdir() if os.path.realpath(link) == str(tmp_path / "l")]
            assert [os.get_inheritable(int(link.name)) for link in opened] == [False]

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
    def test_a_share_without_locks(
        self, store: Store, wheel: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        entry = store.put(wheel, entry_for(wheel))

        def refuse(_descriptor: int, _kind: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refuse)
        with pytest.raises(StoreError, match="has no locks") as caught, store.lock("k"):
            pass
        assert "CUDABUILD_CACHE" in caught.value.hint
        with pytest.raises(StoreError, match="has no locks"):
            store.put(wheel, entry)
        assert store.get(entry.key).entry == entry
        store.wheel(entry).unlink()
        assert "it stays where it is" in store.get(entry.key).note
