"""A later proof of the same wheel raises what the store keeps of it, and never lowers it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from buildkit.build.amending import Raised, amended, raise_stored
from buildkit.build.context import Context
from buildkit.build.places import Places
from buildkit.machine.identity import Memo
from buildkit.progress import Silent
from buildkit.source.index_settings import read_index_settings
from buildkit.store.model import Entry
from buildkit.store.release import Release
from buildkit.store.store import Store
from buildkit.verify.verdict import Stage, StageName, Verdict, make_verdict, read_verdict

DATA = b"PK" + bytes(range(256))
SHA256 = hashlib.sha256(DATA).hexdigest()
RECORD = "ab" * 32
AUDIT = {"objects": [{"path": "fast/_C.so", "elf": ["8.6"], "ptx": ["8.6"], "units": 1}]}
FACTS: dict[str, Any] = {
    "wheel_sha256": SHA256,
    "device": "cuda",
    "targets": ("8.6+PTX",),
    "python": "cp311",
    "torch": "2.13.0+cu130",
    "torch_record_sha256": RECORD,
}


def stage(name: StageName, **evidence: Any) -> Stage:
    return Stage(name=name, outcome="passed", seconds=1.0, evidence=evidence)


def ran_on(gpu: str, capability: str, by: str = "sass") -> Stage:
    kernels = [{"name": "add_one", "object": "fast/_C.so", "launches": 1}]
    ran = [{"object": "fast/_C.so", "by": by, "target": "8.6"}]
    return stage("probe", device=gpu, device_uuid=gpu, capability=capability, driver="580", kernels=kernels, ran=ran)


def verdict(*stages: Stage, **changes: Any) -> Verdict:
    return make_verdict([stage("audit", **AUDIT), stage("import"), *stages], **{**FACTS, **changes})


IMPORTED = make_verdict([stage("build"), stage("audit", **AUDIT), stage("import")], **FACTS)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    places = Places(tmp_path / "cache", elsewhere=tmp_path / "elsewhere")
    return Context(
        places, Memo(places.memo), Store(places.store), read_index_settings({}), Silent(), os.environ, tmp_path
    )


def stored(context: Context, kept: dict[str, Any], **inputs: Any) -> Entry:
    """An entry with this verdict, in the store."""
    wheel = context.cwd / "any.whl"
    wheel.write_bytes(DATA)
    known = {"device": "cuda", "targets": ["8.6+PTX"], "torch": f"2.13.0+cu130 cafe {RECORD}"}
    entry = Entry(
        key="a" * 64,
        family="f" * 64,
        recipe="fast",
        version="1.0",
        build="20261121-3f2a",
        created="2026-11-21T10:00:00.000000Z",
        filename="fast-1.0-cp311-cp311-linux_x86_64.whl",
        sha256=SHA256,
        size=len(DATA),
        inputs={**known, "python": "cpython 3.11.7 cp311", **inputs},
        verdict=kept,
        plan={},
        seconds=12.5,
    )
    return context.store.put(wheel, entry)


def dumped(found: Verdict) -> dict[str, Any]:
    return found.model_dump(by_alias=True, mode="json")


def kept(context: Context) -> Verdict:
    (entry,) = context.store.entries()
    found = read_verdict(entry.verdict)
    assert found is not None
    return found


def test_a_gpu_raises_the_grade(context: Context) -> None:
    stored(context, dumped(IMPORTED))
    assert raise_stored(verdict(ran_on("RTX 3060", "8.6")), context) == [Raised("a" * 64, "imported", "executed")]
    found = kept(context)
    assert [each.name for each in found.stages] == ["build", "audit", "import", "probe"]
    assert found.rows[0].summary == "executed on RTX 3060 (8.6, driver 580) by SASS of 8.6"


def test_another_gpu_is_added_and_the_same_one_again_is_no_news(context: Context) -> None:
    stored(context, dumped(IMPORTED))
    raise_stored(verdict(ran_on("RTX 3060", "8.6")), context)
    later = verdict(ran_on("NVIDIA H200", "9.0", "ptx-jit"))
    assert raise_stored(later, context) == [Raised("a" * 64, "executed", "executed")]
    assert [run.by for run in kept(context).rows[0].runs] == ["sass", "ptx-jit"]
    assert raise_stored(later, context) == []


def test_a_proof_that_shows_less_changes_nothing(context: Context) -> None:
    before = dumped(make_verdict([*IMPORTED.stages, ran_on("RTX 3060", "8.6")], **FACTS))
    entry = stored(context, before)
    assert raise_stored(verdict(), context) == []
    failed = Stage(name="import", outcome="failed", seconds=1.0)
    assert amended(entry, make_verdict([stage("audit", **AUDIT), failed], **FACTS), context) == entry
    assert dumped(kept(context)) == before


@pytest.mark.parametrize(
    "old", [{"schema": 1, "grade": "imported", "stages": []}, {"schema": 9, "grade": "executed"}, {"grade": "imported"}]
)
def test_a_verdict_of_another_schema_gives_way(context: Context, old: dict[str, Any]) -> None:
    stored(context, old)
    raised = raise_stored(verdict(ran_on("RTX 3060", "8.6")), context)
    assert [each.now for each in raised] == ([] if old["grade"] == "executed" else ["executed"])
    found = kept(context)
    assert (found.grade, found.stages[0].name, found.stages[0].seconds) == ("executed", "build", 12.5)


@pytest.mark.parametrize(
    "inputs",
    [
        {"device": "cpu"},
        {"targets": ["12.0"]},
        {"torch": "2.14.0+cu130 cafe " + "cd" * 32},
        {"torch": "2.13.0+cu130 cafe " + "cd" * 32},
        {"python": "cpython 3.12.1 cp312"},
    ],
)
def test_what_was_made_for_something_else_is_left_alone(context: Context, inputs: dict[str, Any]) -> None:
    stored(context, dumped(IMPORTED), **inputs)
    assert raise_stored(verdict(ran_on("RTX 3060", "8.6")), context) == []
    assert kept(context) == IMPORTED


def test_another_wheel_is_left_alone(context: Context) -> None:
    stored(context, dumped(IMPORTED))
    assert raise_stored(verdict(ran_on("RTX 3060", "8.6"), wheel_sha256="0" * 64), context) == []
    assert kept(context) == IMPORTED


def released(context: Context, known: Verdict | None, **changes: Any) -> Release:
    """A release of the very wheel, which nobody's entry stands for."""
    fields: dict[str, Any] = {
        "filename": "fast-1.0-cp311-cp311-linux_x86_64.whl",
        "sha256": SHA256,
        "size": len(DATA),
        "project": "fast",
        "version": "1.0",
        "created": "2026-11-21T10:00:00.000000Z",
        "metadata_sha256": "0" * 64,
        "torch": "2.13.0+cu130",
        "device": "cuda",
        "python": "cp311",
        "origin": "upload",
        "verdict": dumped(known) if known else {},
    }
    wheel = context.cwd / "any.whl"
    wheel.write_bytes(DATA)
    return context.store.publish(wheel, Release(**{**fields, **changes}))


def test_the_release_says_what_the_entry_says(context: Context) -> None:
    stored(context, dumped(IMPORTED))
    released(context, None, origin="build", key="a" * 64)
    raise_stored(verdict(ran_on("RTX 3060", "8.6")), context)
    (entry,), (release,) = context.store.entries(), context.store.releases()
    assert release.verdict == entry.verdict
    assert release.grade == "executed"


@pytest.mark.parametrize("entry", [True, False])
def test_a_yank_that_comes_while_a_verdict_is_kept_stays(
    context: Context, monkeypatch: pytest.MonkeyPatch, entry: bool
) -> None:
    if entry:
        stored(context, dumped(IMPORTED))
    release = released(context, IMPORTED)
    read = context.store.releases if not entry else context.store.release

    def then_yanked(*words: Any) -> Any:
        found = read(*words)
        Store(context.store.root).amend_release(release, lambda known: known.model_copy(update={"yanked": "slow"}))
        return found

    monkeypatch.setattr(context.store, "release" if entry else "releases", then_yanked)
    raise_stored(verdict(ran_on("RTX 3060", "8.6")), context)
    (now,) = Store(context.store.root).releases()
    assert (now.yanked, now.grade) == ("slow", "executed")


def test_what_a_strangers_wheel_holds_is_known_from_its_first_proof(context: Context) -> None:
    release = released(context, IMPORTED)
    strange = {"verdict": {}, "targets": (), "origin": "import"}
    context.store.amend_release(release, lambda known: known.model_copy(update=strange))
    raise_stored(make_verdict([stage("audit", **AUDIT, targets=["8.6+PTX"]), stage("import")], **FACTS), context)
    (now,) = context.store.releases()
    assert (now.grade, now.targets) == ("imported", ("8.6+PTX",))


def test_an_upload_is_raised_too(context: Context) -> None:
    released(context, IMPORTED)
    raise_stored(verdict(ran_on("RTX 3060", "8.6")), context)
    (release,) = context.store.releases()
    assert release.grade == "executed"
    raise_stored(verdict(), context)
    assert context.store.releases() == [release]


@pytest.mark.parametrize(
    "changes", [{"torch": "2.14.0"}, {"device": "cpu"}, {"sha256": hashlib.sha256(b"x").hexdigest()}]
)
def test_a_release_of_something_else_is_left_alone(context: Context, changes: dict[str, Any]) -> None:
    release = released(context, IMPORTED)
    context.store.add_release(release.model_copy(update={"filename": "fast-2.0-cp311-cp311-any.whl", **changes}))
    raise_stored(verdict(ran_on("RTX 3060", "8.6")), context)
    assert {each.filename: each.grade for each in context.store.releases()} == {
        "fast-1.0-cp311-cp311-linux_x86_64.whl": "executed",
        "fast-2.0-cp311-cp311-any.whl": "imported",
    }


def test_a_read_only_store_keeps_its_verdict(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    from buildkit.errors import ReadOnlyCache

    entry = stored(context, dumped(IMPORTED))

    def refuse(_entry: Entry) -> Entry:  # root, which tests may be run as, can write everywhere
        raise ReadOnlyCache("read-only")

    monkeypatch.setattr(context.store, "amend", refuse)
    assert amended(entry, verdict(ran_on("RTX 3060", "8.6")), context) == entry
