"""Grades follow from stages; nothing that was only inspected is called executed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from buildkit.errors import BelowRequirement, ImportFailed
from buildkit.verify.stages import NO_GPU, Recorder
from buildkit.verify.verdict import (
    GRADES,
    Grade,
    Outcome,
    Stage,
    StageName,
    Verdict,
    check_requirement,
    executed_on,
    grade_of,
    make_verdict,
    meets,
    merged,
    read_verdict,
    stored_grade,
    valid_here,
)

KERNEL = {"name": "add_one(float*, long)", "object": "fast/_C.so", "launches": 1}
GPU: dict[str, Any] = {
    "device": "NVIDIA H200",
    "device_uuid": "GPU-12345678",
    "capability": "9.0",
    "driver": "580.65",
    "kernels": [KERNEL],
    "ran": [{"object": "fast/_C.so", "by": "sass", "target": "9.0"}],
}
OBJECT = {"path": "fast/_C.so", "elf": ["9.0"], "ptx": ["9.0"], "units": 1}


def stage(name: StageName, outcome: Outcome = "passed", **evidence: Any) -> Stage:
    return Stage(name=name, outcome=outcome, seconds=0.5, evidence=evidence)


BUILD, AUDIT, IMPORT = stage("build"), stage("audit"), stage("import")


def verdict(*stages: Stage, **facts: Any) -> Verdict:
    return make_verdict(stages, wheel_sha256="00", device="cuda", torch="2.13.0+cu130", **facts)


@pytest.mark.parametrize(
    ("stages", "grade"),
    [
        ([], "none"),
        ([stage("build", "failed")], "none"),
        ([BUILD], "built"),
        ([BUILD, stage("audit", "failed")], "built"),
        ([BUILD, AUDIT], "audited"),
        ([BUILD, AUDIT, stage("import", "failed")], "audited"),
        ([BUILD, AUDIT, stage("import", "not-executed")], "audited"),
        ([BUILD, AUDIT, stage("import", "not-executed"), stage("probe", **GPU)], "audited"),
        ([BUILD, AUDIT, IMPORT], "imported"),
        ([BUILD, stage("audit", "failed"), IMPORT], "built"),
        ([BUILD, AUDIT, IMPORT, stage("smoke", "not-executed"), stage("probe", "not-executed")], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("probe")], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("probe", **{**GPU, "device": ""})], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("probe", **{**GPU, "capability": None})], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("probe", **{**GPU, "kernels": []})], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("probe", **{**GPU, "kernels": None})], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("probe", **{**GPU, "kernels": [{**KERNEL, "launches": 0}]})], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("probe", **{**GPU, "kernels": [{**KERNEL, "object": ""}]})], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("probe", device="cpu", checks=[])], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("probe", "failed", **GPU)], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("smoke", **GPU), stage("probe", "failed", **GPU)], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("smoke", **GPU), stage("probe", "not-executed")], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("smoke", "failed", **GPU), stage("probe", **GPU)], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("probe", **GPU)], "executed"),
        ([BUILD, AUDIT, IMPORT, stage("smoke", **GPU)], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("app", **GPU)], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("probe", **GPU), stage("app", "failed")], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("probe", **{**GPU, "capability": "8.6"}), stage("probe", **GPU)], "executed"),
        ([stage("canary"), BUILD, AUDIT, IMPORT, stage("probe", **GPU)], "executed"),
        ([stage("canary", "failed"), stage("build", "not-executed")], "none"),
        ([BUILD, AUDIT, IMPORT, stage("smoke", "not-executed"), stage("probe", **GPU)], "executed"),
        ([AUDIT], "audited"),
        ([stage("audit", "failed")], "built"),
        ([AUDIT, IMPORT], "imported"),
    ],
)
def test_the_grade_follows_from_the_stages(stages: list[Stage], grade: Grade) -> None:
    assert grade_of(stages) == grade


def test_a_verdict_cannot_claim_another_grade() -> None:
    facts = verdict(BUILD, AUDIT).model_dump()
    with pytest.raises(ValidationError, match="does not follow"):
        Verdict.model_validate({**facts, "grade": "executed"})
    with pytest.raises(ValidationError, match="Extra inputs"):
        Verdict.model_validate({**facts, "surprise": 1})
    with pytest.raises(ValidationError, match="never executed on 9"):
        Verdict.model_validate({**facts, "capability": "9.0"})


def test_a_verdict_cannot_claim_another_row() -> None:
    found = verdict(BUILD, stage("audit", objects=[OBJECT]), IMPORT, stage("probe", **GPU), targets=("9.0",))
    (row,) = found.rows
    assert (row.executed, row.sass, found.capability) == (True, ("fast/_C.so",), "9.0")
    facts = found.model_dump()
    assert Verdict.model_validate(facts) == found
    with pytest.raises(ValidationError, match="rows do not follow"):
        Verdict.model_validate({**facts, "rows": [{**facts["rows"][0], "target": "12.0"}]})


@pytest.mark.parametrize(
    "value",
    [
        {"schema": 1, "grade": "executed", "stages": [], "wheel_sha256": "", "device": "cuda", "torch": ""},
        {"schema": 3},
        {},
        {"grade": "executed"},
    ],
)
def test_a_verdict_of_another_schema_is_none(value: dict[str, Any]) -> None:
    assert read_verdict(value) is None


def test_a_verdict_whose_evidence_is_garbage_is_none() -> None:
    facts = verdict(BUILD, AUDIT).model_dump(by_alias=True)
    assert read_verdict(facts) is not None
    facts["stages"][1]["evidence"] = {"objects": [{"path": "x"}]}
    assert read_verdict(facts) is None


@pytest.mark.parametrize(
    ("changes", "grade"),
    [({}, "built"), ({"grade": "executed"}, "none"), ({"schema": 1, "grade": "imported"}, "imported"),
     ({"schema": 1, "grade": "splendid"}, "none")],
)  # fmt: skip
def test_the_grade_told_of_a_stored_verdict_is_not_the_one_that_somebody_wrote(
    changes: dict[str, Any], grade: Grade
) -> None:
    assert stored_grade({**verdict(BUILD).model_dump(by_alias=True), **changes}) == grade


def test_a_verdict_survives_its_json() -> None:
    original = verdict(BUILD, stage("audit", targets=["12.0"]), targets=("12.0",))
    text = original.model_dump_json(by_alias=True)
    assert json.loads(text)["schema"] == 2
    assert json.loads(text)["stages"][1]["evidence"] == {"targets": ["12.0"]}
    assert Verdict.model_validate_json(text) == original


def test_meets_is_an_order() -> None:
    for index, grade in enumerate(GRADES):
        assert [meets(grade, other) for other in GRADES] == [position <= index for position in range(len(GRADES))]


def test_below_the_requirement_says_what_was_not_shown() -> None:
    recorder = Recorder()
    with recorder.stage("audit") as running:
        running.evidence["targets"] = ["12.0"]
    with recorder.stage("import") as running:
        running.outcome, running.detail = "not-executed", "not possible here: no driver (libcuda.so.1)"
    found = make_verdict(recorder.stages, wheel_sha256="00", device="cuda", torch="2.13.0+cu130")
    check_requirement(found, "audited")
    with pytest.raises(BelowRequirement) as caught:
        check_requirement(found, "imported")
    assert "'audited'" in caught.value.message
    assert "no driver" in caught.value.evidence
    assert "--require audited" in caught.value.hint


def test_a_failed_stage_is_recorded_and_its_cause_goes_on_up() -> None:
    recorder = Recorder()

    def failing() -> None:
        with recorder.stage("import") as running:
            running.evidence["torch"] = "2.13.0"
            raise ImportFailed("import x failed", evidence="undefined symbol: y")

    with pytest.raises(ImportFailed):
        failing()
    (found,) = recorder.stages
    assert (found.outcome, found.detail) == ("failed", "import x failed")
    assert found.evidence == {"torch": "2.13.0", "kind": "import-failed", "line": "undefined symbol: y"}


def test_what_did_not_run_is_recorded_as_not_executed() -> None:
    recorder = Recorder()
    recorder.not_executed("smoke")
    assert (recorder.stages[0].outcome, recorder.stages[0].detail) == ("not-executed", NO_GPU)


def test_a_stored_verdict_counts_only_for_the_same_torch_and_gpu() -> None:
    stored = verdict(BUILD, AUDIT, IMPORT, stage("probe", **GPU), torch_record_sha256="aa")
    same: dict[str, Any] = {"torch": "2.13.0+cu130", "torch_record_sha256": "aa"}
    assert valid_here(stored, require="imported", **same)
    assert valid_here(stored, require="executed", **same, capabilities=["12.0", "9.0"])
    assert not valid_here(stored, require="executed", **same, capabilities=["12.0"])
    older = stage("probe", **{**GPU, "capability": "12.0"})
    both = verdict(BUILD, AUDIT, IMPORT, older, stage("probe", **GPU), torch_record_sha256="aa")
    assert valid_here(both, require="executed", **same, capabilities=["12.0"])
    assert not valid_here(stored, require="executed", **same)
    assert not valid_here(stored, require="imported", torch="2.13.0+cu130", torch_record_sha256="bb")
    assert not valid_here(verdict(BUILD, AUDIT, torch_record_sha256="aa"), require="imported", **same)


def test_merging_keeps_what_only_the_older_verdict_shows() -> None:
    before = verdict(stage("canary"), BUILD, AUDIT, IMPORT, stage("probe", **{**GPU, "capability": "8.6"}))
    later = verdict(AUDIT, IMPORT, stage("probe", **GPU))
    both = merged(before, later)
    assert [found.name for found in both.stages] == ["canary", "build", "audit", "import", "probe", "probe"]
    assert executed_on(both.stages) == ("9.0", "8.6")
    assert (both.grade, both.capability) == ("executed", "9.0")
    assert merged(both, later) == both


def test_merging_replaces_a_run_on_the_same_kind_of_gpu() -> None:
    before = verdict(BUILD, AUDIT, IMPORT, stage("probe", **{**GPU, "driver": "1"}))
    both = merged(before, verdict(AUDIT, IMPORT, stage("probe", **GPU)))
    assert [found.evidence["driver"] for found in both.stages if found.name == "probe"] == ["580.65"]


def test_what_could_not_run_takes_nothing_away() -> None:
    before = verdict(BUILD, AUDIT, IMPORT, stage("probe", **GPU))
    both = merged(before, verdict(AUDIT, IMPORT, stage("probe", "not-executed")))
    assert (both.grade, both.stages) == ("executed", before.stages)


@pytest.mark.parametrize("changed", [{"torch_record_sha256": "bb"}, {"probe_sha256": "cc"}, {"targets": ("12.0",)}])
def test_runs_with_another_torch_or_probe_do_not_count_on(changed: dict[str, Any]) -> None:
    before = verdict(BUILD, AUDIT, IMPORT, stage("probe", **GPU))
    assert merged(before, verdict(AUDIT, IMPORT, **changed)).grade == "imported"
    other = make_verdict([AUDIT], wheel_sha256="11", device="cuda", torch="2.13.0+cu130")
    assert merged(before, other) == other


def test_a_busy_gpu_is_said_with_what_to_do() -> None:
    found = verdict(BUILD, AUDIT, IMPORT, Stage(name="probe", outcome="not-executed", seconds=0.1, detail="busy: full"))
    with pytest.raises(BelowRequirement) as caught:
        check_requirement(found, "executed")
    assert "probe: busy: full" in caught.value.evidence
    assert "free the GPU and run the same command again" in caught.value.hint
