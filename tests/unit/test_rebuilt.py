"""Built again: the same bytes keep their name, others get a build tag, and what was there before is yanked."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename
from wheels import wheel

from buildkit.build.final import finalise, with_build_tag
from buildkit.build.rebuilt import named
from buildkit.machine.arch import parse_targets
from buildkit.store.rebuilds import build_number, yank_older
from buildkit.store.release import Release
from buildkit.store.store import Store
from buildkit.verify.wheel import open_wheel

STEM = "Pack_Age-1.0+pt2.13.cu130.sm120"
TAGS = "cp311-cp311-linux_x86_64.whl"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def made(folder: Path, content: str, build: str = "") -> Path:
    """A wheel in its final bytes, as a build of this content makes it."""
    return finalise(
        wheel(folder / "in", build=build),
        folder,
        torch_version="2.13.0+cu130",
        targets=parse_targets(["12.0"]),
        device="cuda",
        build_facts={"content": content},
    )


def put(path: Path, store: Store) -> Release:
    """Store a wheel as a build does, under the name it has."""
    data = path.read_bytes()
    release = Release(
        filename=path.name,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        project="pack-age",
        version="1.0",
        created="2026-11-21T10:00:00Z",
        metadata_sha256="0" * 64,
        device="cuda",
        python="cp311",
        origin="build",
    )
    known = store.release(path.name)
    if known is not None and known.sha256 == release.sha256:
        release = known
    store.publish(path, release)
    yank_older(release, store)
    return release


def build(folder: Path, content: str, store: Store, tag: str = "") -> Release:
    with named(made(folder / content, content, tag), store) as path:
        return put(path, store)


def test_a_first_build_keeps_its_name(tmp_path: Path, store: Store) -> None:
    assert build(tmp_path, "one", store).filename == f"{STEM}-{TAGS}"


def test_the_same_bytes_keep_their_name(tmp_path: Path, store: Store) -> None:
    first = build(tmp_path, "one", store)
    assert build(tmp_path / "again", "one", store) == first
    assert store.releases() == [first]


def test_other_bytes_get_the_next_build_tag_and_the_older_is_yanked(tmp_path: Path, store: Store) -> None:
    first = build(tmp_path, "one", store)
    second = build(tmp_path, "two", store)
    third = build(tmp_path, "three", store)
    assert [second.filename, third.filename] == [f"{STEM}-1-{TAGS}", f"{STEM}-2-{TAGS}"]
    assert {release.filename: release.yanked for release in store.releases()} == {
        first.filename: f"built again as {second.filename}",
        second.filename: f"built again as {third.filename}",
        third.filename: "",
    }
    for release in (first, second, third):
        assert not store.blobs.flaw(release.sha256, release.size)


def test_the_tag_stands_in_the_name_in_wheel_and_in_record(tmp_path: Path, store: Store) -> None:
    build(tmp_path, "one", store)
    with named(made(tmp_path / "two", "two"), store) as path:
        opened = open_wheel(path)  # RECORD tells the truth of all
        with zipfile.ZipFile(path) as archive:
            lines = archive.read(f"{opened.dist_info}/WHEEL").decode().splitlines()
    assert opened.build == "1"
    assert [line for line in lines if line.startswith("Build:")] == ["Build: 1"]
    assert with_build_tag(path, "").read_bytes() == made(tmp_path / "plain", "two").read_bytes()


def test_built_as_an_older_one_it_has_that_ones_name(tmp_path: Path, store: Store) -> None:
    first, second = build(tmp_path, "one", store), build(tmp_path, "two", store)
    third = build(tmp_path, "three", store)
    assert build(tmp_path / "again", "two", store).sha256 == second.sha256
    assert build(tmp_path / "again", "one", store).sha256 == first.sha256
    assert [release.filename for release in store.releases() if not release.yanked] == [third.filename]


def test_a_lower_tag_that_comes_later_is_yanked_too(tmp_path: Path, store: Store) -> None:
    newer = put(made(tmp_path / "two", "two", "-2"), store)
    older = put(made(tmp_path / "one", "one", "-1"), store)
    assert {each.filename: each.yanked for each in store.releases()} == {
        newer.filename: "",
        older.filename: f"built again as {newer.filename}",
    }


def test_a_backends_own_build_tag_counts(tmp_path: Path, store: Store) -> None:
    assert build(tmp_path, "one", store, "-1").filename == f"{STEM}-1-{TAGS}"
    assert build(tmp_path, "two", store).filename == f"{STEM}-2-{TAGS}"
    assert (
        build_number(f"{STEM}-2a-{TAGS}")
        == (2, "a")
        > build_number(f"{STEM}-2-{TAGS}")
        > build_number(f"{STEM}-{TAGS}")
    )


def test_other_versions_and_tags_have_names_of_their_own(tmp_path: Path, store: Store) -> None:
    first = build(tmp_path, "one", store)
    other = tmp_path / "elsewhere" / "Pack_Age-1.0-cp311-cp311-linux_x86_64.whl"
    other.parent.mkdir()
    other.write_bytes(b"PK another version")
    put(other, store)
    assert not any(release.yanked for release in store.releases())
    assert build(tmp_path / "again", "one", store) == first


def test_a_lost_wheel_keeps_its_name_to_itself(tmp_path: Path, store: Store) -> None:
    first = build(tmp_path, "one", store)
    store.blobs.path(first.sha256).unlink()
    assert build(tmp_path, "two", store).filename == f"{STEM}-1-{TAGS}"


def test_two_builds_of_one_name_wait_for_each_other(tmp_path: Path, store: Store) -> None:
    one, two = made(tmp_path / "one", "one"), made(tmp_path / "two", "two")
    waits, names = threading.Event(), []

    def second() -> None:
        with named(two, store, waits.set) as path:
            names.append(put(path, store).filename)

    thread = threading.Thread(target=second)
    with named(one, store) as path:
        thread.start()
        assert waits.wait(timeout=30)
        put(path, store)
    thread.join(timeout=30)
    assert names == [f"{STEM}-1-{TAGS}"]
    assert parse_wheel_filename(names[0])[2] == (1, "")
