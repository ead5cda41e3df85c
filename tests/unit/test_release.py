"""Releases of what was built: what is said of a wheel follows from the wheel and from its entry."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from wheels import METADATA, wheel

from buildkit.build.canary import RECIPE as CANARY
from buildkit.build.final import finalise
from buildkit.build.finishing import record_sha256
from buildkit.build.release import complete_releases, release_of
from buildkit.machine.arch import parse_targets
from buildkit.store.model import Entry
from buildkit.store.store import Store

FACTS = {"cuda": "13.0", "licence": "MIT", "redistributable": True}
INPUTS = {"device": "cuda", "targets": ["12.0"], "torch": "2.13.0+cu130 cafe abcd"}
AUDITED = {"grade": "imported", "stages": [{"name": "audit", "evidence": {"targets": ["12.0", "8.6+PTX"]}}]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def built(folder: Path, facts: dict[str, Any] | None = None, *, metadata: str = METADATA, **changes: Any) -> Entry:
    """An entry for a wheel that was given its final bytes in this folder."""
    path = finalise(
        wheel(folder / "in", metadata=metadata),
        folder,
        torch_version="2.13.0+cu130",
        targets=parse_targets(["12.0"]),
        device="cuda",
        build_facts=FACTS if facts is None else facts,
    )
    fields: dict[str, Any] = {
        "key": "a" * 64,
        "family": "f" * 64,
        "recipe": "pack-age",
        "version": "1.0+pt2.13.cu130.sm120",
        "build": "20261121-3f2a",
        "created": "2026-11-21T10:00:00.000000Z",
        "filename": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "size": path.stat().st_size,
        "inputs": INPUTS,
        "verdict": AUDITED,
        "plan": {"cuda": "13.2"},
        "seconds": 1.0,
    }
    return Entry(**{**fields, **changes})


def test_a_release_says_what_the_wheel_and_its_entry_say(tmp_path: Path, store: Store) -> None:
    entry = built(tmp_path, metadata=METADATA.replace("Requires-Dist: numpy", "Requires-Python: >=3.9", 1))
    path = tmp_path / entry.filename
    release = release_of(entry, path, store, built_sha256="0" * 64)
    assert release is not None
    with zipfile.ZipFile(path) as archive:
        metadata = archive.read("Pack_Age-1.0+pt2.13.cu130.sm120.dist-info/METADATA")
    assert release.model_dump(exclude={"schema_", "verdict"}) == {
        "filename": entry.filename,
        "sha256": entry.sha256,
        "size": entry.size,
        "project": "pack-age",
        "version": "1.0+pt2.13.cu130.sm120",
        "created": entry.created,
        "metadata_sha256": hashlib.sha256(metadata).hexdigest(),
        "requires_python": ">=3.9",
        "torch": "2.13.0+cu130",
        "cuda": "13.0",
        "device": "cuda",
        "targets": ("12.0", "8.6+PTX"),
        "python": "cp311",
        "key": entry.key,
        "origin": "build",
        "by": "",
        "built_sha256": "0" * 64,
        "license": "MIT",
        "redistributable": True,
        "yanked": "",
    }
    assert release.verdict == AUDITED


@pytest.mark.parametrize(
    ("inputs", "facts", "cuda"),
    [
        ({"torch": ""}, {}, "13.2"),
        ({"torch": "2.13.0 cafe abcd"}, {"cuda": "13.1"}, "13.1"),
        ({}, {}, "13.0"),
        ({"device": "cpu", "torch": "2.13.0+cpu cafe"}, {}, ""),
    ],
    ids=["of the toolkit", "of the wheel's facts", "of torch's version", "none for the CPU"],
)
def test_the_cuda_release(
    tmp_path: Path, store: Store, inputs: dict[str, Any], facts: dict[str, Any], cuda: str
) -> None:
    entry = built(tmp_path, facts, inputs={**INPUTS, **inputs})
    release = release_of(entry, tmp_path / entry.filename, store)
    assert release is not None
    assert (release.cuda, release.torch) == (cuda, entry.inputs["torch"].split(" ")[0])
    assert (release.targets == ()) == (inputs.get("device") == "cpu")
    assert not release.redistributable, "nothing says that it is"


def test_the_canary_is_nobodys_to_install(tmp_path: Path, store: Store) -> None:
    entry = built(tmp_path, recipe=CANARY)
    assert release_of(entry, tmp_path / entry.filename, store) is None


def test_the_same_bytes_keep_what_was_said_of_them(tmp_path: Path, store: Store) -> None:
    entry = built(tmp_path)
    path = tmp_path / entry.filename
    first = release_of(entry, path, store, built_sha256="0" * 64)
    assert first is not None
    store.put(path, entry, first)
    store.amend_release(first, lambda known: known.model_copy(update={"yanked": "it is slow"}))
    again = release_of(
        entry.model_copy(update={"created": "2026-11-22T10:00:00.000000Z", "verdict": {"grade": "executed"}}),
        path,
        store,
    )
    assert again is not None
    assert (again.created, again.yanked, again.built_sha256) == (first.created, "it is slow", "0" * 64)
    assert again.grade == "executed"


def test_entries_of_before_get_their_releases(tmp_path: Path, store: Store) -> None:
    old = built(tmp_path / "old", created="2026-11-20T10:00:00.000000Z")
    new = built(tmp_path / "new", {"other": 1}, key="b" * 64)
    gone = built(
        tmp_path / "gone", {"gone": 1}, key="c" * 64, filename="Pack_Age-1.0+pt2.13.cu130-cp311-cp311-linux_x86_64.whl"
    )
    strange = tmp_path / "strange.whl"
    strange.write_bytes(b"no zip file")
    foreign = built(
        tmp_path / "foreign",
        key="d" * 64,
        filename="other-1.0-cp311-cp311-linux_x86_64.whl",
        sha256=hashlib.sha256(b"no zip file").hexdigest(),
        size=len(b"no zip file"),
    )
    store.put(strange, foreign)
    for name, entry in (("old", old), ("new", new), ("gone", gone)):
        store.put(tmp_path / name / new.filename, entry.model_copy(update={"filename": entry.filename}))
    store.wheel(gone).unlink(missing_ok=True)
    complete_releases(store)
    (release,) = store.releases()
    assert (release.filename, release.sha256, release.key) == (new.filename, new.sha256, new.key)
    complete_releases(store)
    assert store.releases() == [release]


def test_the_record_of_a_backends_wheel_is_told_by_its_contents(tmp_path: Path) -> None:
    one, two = wheel(tmp_path / "one"), wheel(tmp_path / "two", reverse=True)
    assert one.read_bytes() != two.read_bytes(), "other times, another order"
    assert record_sha256(one) == record_sha256(two)
    assert record_sha256(one) != record_sha256(wheel(tmp_path / "three", objects={}))
