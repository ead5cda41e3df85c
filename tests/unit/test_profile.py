"""What is learned of compilations: bounds that rise at once and sink slowly, guesses for unseen units, the disk."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from buildkit.guard.profile import (
    PRIOR,
    Bound,
    PackageProfile,
    Record,
    UnitId,
    bound_of,
    learned,
    quantile,
    raised,
    with_margin,
)
from buildkit.guard.profile_store import MOST_RECORDS, ProfileFolder, decode_profile, file_name, write_durably

GIB = 1 << 30
UNIT = UnitId("torch-thing", "13.0", "k1", "a.cu", "nvcc")


def record(bound: int, *, name: str = "a.cu", kind: str = "nvcc", seconds: float = 5.0, **more: int) -> Record:
    return Record(name, kind, bound, bound, seconds, **more)


def after(*peaks: int) -> Record:
    known: Record | None = None
    for number, peak in enumerate(peaks):
        known = learned(known, UNIT, peak=peak, seconds=float(number), build=number, order=3)
    assert known is not None
    return known


# learning


def test_the_first_peak_is_the_bound() -> None:
    assert after(GIB) == Record("a.cu", "nvcc", GIB, GIB, 0.0, seen=1, build=0, order=3)


def test_a_larger_peak_counts_at_once_and_a_smaller_one_slowly() -> None:
    assert after(GIB, 2 * GIB).bound == 2 * GIB
    sunk = after(2 * GIB, GIB)
    assert 1.8 * GIB < sunk.bound < 1.9 * GIB
    assert (sunk.peak, sunk.seconds, sunk.seen, sunk.build) == (GIB, 1.0, 2, 1)
    assert after(2 * GIB, *[GIB] * 40).bound < 1.01 * GIB


def test_a_kill_raises_the_bound_above_what_was_held() -> None:
    known = raised(after(GIB), UNIT, usage=2 * GIB, bound=with_margin(GIB), build=1)
    assert (known.bound, known.kills) == (3 * GIB, 1)
    again = raised(known, UNIT, usage=3 * GIB + 1, bound=3 * GIB, build=1)
    assert (again.kills, again.bound > 4.4 * GIB) == (2, True)


def test_a_kill_from_outside_leaves_a_bound_that_was_not_reached() -> None:
    assert raised(after(2 * GIB), UNIT, usage=GIB // 2, bound=2 * GIB, build=1).bound == 2 * GIB


def test_a_guess_after_a_kill_is_replaced_by_the_first_measurement() -> None:
    guess = raised(None, UNIT, usage=2 * GIB, bound=GIB, build=1)
    assert (guess.bound, guess.seen) == (3 * GIB, 0)
    assert bound_of(UNIT, packages(("k1", "13.0", guess))).source == "killed"
    assert learned(guess, UNIT, peak=9 * GIB // 4, seconds=1.0, build=1).bound == 9 * GIB // 4


def test_quantiles() -> None:
    assert [quantile([3, 1, 2, 4], share) for share in (0.0, 0.5, 0.9, 1.0)] == [1, 3, 4, 4]
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


# unseen units


def packages(*keys: tuple[str, str, Record], package: str = UNIT.package) -> dict[str, PackageProfile]:
    return {package: PackageProfile(1, {(key, toolkit): known for key, toolkit, known in keys})}


def test_a_unit_that_was_seen() -> None:
    assert bound_of(UNIT, packages(("k1", "13.0", record(GIB)))) == Bound(with_margin(GIB), 5.0, "seen")


@pytest.mark.parametrize(
    ("known", "source"),
    [
        (packages(("k1", "12.8", record(GIB))), "toolkit"),
        (packages(("other", "13.0", record(GIB))), "file"),
        (packages(("other", "13.0", record(GIB, name="b.cu"))), "package"),
        (packages(("other", "13.0", record(GIB, name="b.cu")), package="another"), "class"),
        (packages(("other", "13.0", record(GIB, name="b.cpp", kind="cxx"))), "prior"),
        ({}, "prior"),
    ],
)
def test_the_nearest_that_is_known_is_taken(known: dict[str, PackageProfile], source: str) -> None:
    found = bound_of(UNIT, known)
    assert found.source == source
    assert found.memory == PRIOR["nvcc"] if source == "prior" else found.memory > with_margin(GIB)
    assert found.seconds == (5.0 if source == "toolkit" else 0.0)


def test_the_recipes_own_figure_is_the_prior() -> None:
    assert bound_of(UNIT, {}, prior=7 * GIB) == Bound(7 * GIB, 0.0, "prior")


def test_one_file_alone_is_taken_with_more_room_than_many() -> None:
    one = packages(("x", "13.0", record(GIB, name="x.cu")))
    many = packages(*((f"x{n}", "13.0", record(GIB, name=f"x{n}.cu")) for n in range(30)))
    assert bound_of(UNIT, one).memory > 1.3 * bound_of(UNIT, many).memory


def test_the_largest_of_a_files_flags_is_taken() -> None:
    known = packages(("f32", "13.0", record(GIB)), ("f64", "13.0", record(2 * GIB)))
    assert bound_of(UNIT, known).memory > 2 * GIB


def test_what_the_next_build_will_bring_is_what_the_last_ones_brought() -> None:
    profile = PackageProfile(9, {
        ("old", "13.0"): record(1, build=3),
        ("second", "13.0"): record(2, build=9, order=1),
        ("first", "13.0"): record(2, build=8, order=0),
        ("elsewhere", "12.8"): record(3, build=9),
    })  # fmt: skip
    assert list(profile.expected_units("13.0")) == ["first", "second"]
    assert PackageProfile().expected_units("13.0") == {}


# the disk


def kept(folder: Path, *records: tuple[str, Record], name: str = UNIT.package) -> None:
    profile = ProfileFolder(folder)
    profile.package(name).builds += 1
    profile.package(name).records.update({(key, "13.0"): known for key, known in records})
    snapshot = profile.snapshot(name)
    assert snapshot is not None
    write_durably(*snapshot)


def test_what_was_learned_is_there_again(tmp_path: Path) -> None:
    kept(tmp_path / "profile", ("k1", record(GIB, seen=3, kills=1, build=2, order=7)))
    kept(tmp_path / "profile", ("k9", record(5)), name="Ünusual / name")
    again = ProfileFolder(tmp_path / "profile").packages
    assert again["torch-thing"] == PackageProfile(1, {("k1", "13.0"): record(GIB, seen=3, kills=1, build=2, order=7)})
    assert again["Ünusual / name"].records["k9", "13.0"].bound == 5
    assert sorted(path.suffix for path in (tmp_path / "profile").iterdir()) == [".json", ".json"]


def test_names_that_look_alike_have_files_of_their_own() -> None:
    names = ["a-b", "a_b", "A-b", "a/b", "", ".", "..", "x" * 200]
    assert len({file_name(name) for name in names}) == len(names)
    assert all("/" not in file_name(name) and len(file_name(name)) < 80 for name in names)


def test_without_a_folder_it_lasts_as_long_as_the_broker() -> None:
    profile = ProfileFolder(None)
    profile.package("a").records["k", "t"] = record(1)
    assert profile.snapshot("a") is None
    assert profile.package("a").records["k", "t"].bound == 1


WHOLE = {
    "schema": 1,
    "package": "p",
    "builds": 1,
    "units": [{"key": "k", "toolkit": "t", "name": "n", "kind": "cc", "bound": 1, "peak": 1, "seconds": 1.0,
               "seen": 1, "kills": 0, "build": 1, "order": 0}],
}  # fmt: skip


def test_a_whole_file_is_read() -> None:
    assert decode_profile(json.dumps(WHOLE).encode())[1].records["k", "t"].name == "n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 400,
        b"[]",
        b'{"schema": 1}',
        json.dumps({**WHOLE, "schema": 2}).encode(),
        json.dumps({**WHOLE, "more": 1}).encode(),
        json.dumps({**WHOLE, "units": {}}).encode(),
        json.dumps({**WHOLE, "units": [{"key": "k"}]}).encode(),
        json.dumps({**WHOLE, "units": [{**WHOLE["units"][0], "bound": -1}]}).encode(),  # type: ignore[index]
        json.dumps({**WHOLE, "units": [{**WHOLE["units"][0], "seconds": "1"}]}).encode(),  # type: ignore[index]
        json.dumps({**WHOLE, "units": [{**WHOLE["units"][0], "name": 1}]}).encode(),  # type: ignore[index]
        json.dumps(WHOLE).encode()[:-40],
    ],
)
def test_a_file_that_is_none_is_set_aside(tmp_path: Path, data: bytes) -> None:
    kept(tmp_path, ("k1", record(GIB)))
    (tmp_path / "bad.json").write_bytes(data)
    assert list(ProfileFolder(tmp_path).packages) == ["torch-thing"]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".unreadable"]
    assert list(ProfileFolder(tmp_path).packages) == ["torch-thing"]


def test_a_profile_does_not_grow_for_ever(tmp_path: Path) -> None:
    kept(tmp_path, *((f"k{n}", record(1, build=n)) for n in range(MOST_RECORDS + 10)))
    records = ProfileFolder(tmp_path).packages[UNIT.package].records
    assert len(records) == MOST_RECORDS
    assert ("k9", "13.0") not in records
    assert ("k10", "13.0") in records


def test_a_writer_that_is_killed_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """Killed at any moment: a child writes two versions in turn until SIGKILL."""
    file = tmp_path / "p.json"
    versions = [b"old" * 50_000, b"new" * 50_000]
    write_durably(file, versions[0])
    for pause in (0.01, 0.03, 0.06):
        child = os.fork()
        if child == 0:
            while True:
                for version in versions:
                    write_durably(file, version)
        signal.sigtimedwait(set(), pause)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert file.read_bytes() in versions


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_durably(file, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]
