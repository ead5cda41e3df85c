"""Records of builds: unique ids, found again by what people type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildkit.errors import NoSuchBuild, ReadOnlyCache
from buildkit.store import builds
from buildkit.store.builds import BuildRecord, BuildRecords


@pytest.fixture
def records(tmp_path: Path) -> BuildRecords:
    return BuildRecords(tmp_path)


def record(identifier: str, day: int, recipe: str = "sample", key: str | None = None) -> BuildRecord:
    started = f"2026-11-{day}T10:00:00Z"
    return BuildRecord(id=identifier, key=key, recipe=recipe, started=started, status="running")


def test_ids_are_dated_and_unique(records: BuildRecords) -> None:
    ids = [records.new_id() for _ in range(200)]
    assert len(set(ids)) == 200
    assert all(re.fullmatch(r"20\d{6}-[0-9a-f]{4,}", name) for name in ids)


def test_an_id_that_is_taken_is_not_given_again(records: BuildRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda size: "ab" * size)
    assert [records.new_id()[9:] for _ in range(3)] == ["abab", "ababab", "abababab"]


def test_an_id_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert len(BuildRecords(tmp_path / "file").new_id()) == len("20261121-") + 16


def test_a_reserved_id_is_no_build(records: BuildRecords) -> None:
    records.new_id()
    assert records.newest_first() == []
    with pytest.raises(NoSuchBuild):
        records.find("last")


@pytest.mark.parametrize("moment", ["2026-99-99T99:99:99Z", "0000-01-01T00:00:00Z", "2026-02-30T10:00:00.5Z"])
def test_a_moment_that_is_none_makes_a_damaged_record(records: BuildRecords, moment: str) -> None:
    records.write(record("20261121-bbbb", 21))
    records.write(record("20261120-aaaa", 20).model_copy(update={"started": moment}))
    records.write(record("20261122-cccc", 22).model_copy(update={"finished": moment}))
    assert [one.id for one in records.newest_first()] == ["20261121-bbbb"]


def test_found_by_what_people_type(records: BuildRecords) -> None:
    old = record("20261120-aaaa", 20, key="1234abcd")
    new = record("20261121-bbbb", 21, key="1234ffff")
    other = record("20261122-cccc", 22, recipe="other")
    for one in (new, old, other):
        records.write(one)
    assert records.newest_first() == [other, new, old]
    assert records.find("last") == other
    assert records.find("20261120-aaaa") == old
    assert records.find("1234a") == old
    assert records.find("1234") == new
    assert records.find("sample") == new
    assert records.find("20261122") == other
    for text in ("", "5678"):
        with pytest.raises(NoSuchBuild):
            records.find(text)
    with pytest.raises(NoSuchBuild) as caught:
        records.find("sampel")
    assert "sample" in caught.value.hint


def test_writing_again_replaces(records: BuildRecords) -> None:
    begun = record(records.new_id(), 20)
    records.write(begun)
    ended = begun.model_copy(update={"status": "failed", "finished": "2026-11-20T10:01:00Z", "error": "timeout"})
    records.write(ended)
    assert records.newest_first() == [ended]
    assert [path.name for path in records.folder.iterdir()] == [f"{begun.id}.json"]


def test_a_damaged_record_is_left_out(records: BuildRecords) -> None:
    records.write(record("20261120-aaaa", 20))
    (records.folder / "20261121-bbbb.json").write_text("{", encoding="utf-8")
    assert [one.id for one in records.newest_first()] == ["20261120-aaaa"]


def test_a_folder_that_refuses(records: BuildRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(builds, "make_folder", refuse)
    with pytest.raises(ReadOnlyCache):
        records.write(record("20261120-aaaa", 20))
