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
    Verdict,
    check_requirement,
    grade_of,
    make_verdict,
    meets,
    valid_here,
)

GPU: dict[str, Any] = {"device_uuid": "GPU-12345678"}


def stage(name: str, outcome: Outcome = "passed", **evidence: Any) -> Stage:
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
        ([BUILD, AUDIT, IMPORT, stage("probe", device_uuid="")], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("probe", "failed", **GPU)], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("smoke", **GPU), stage("probe", "failed", **GPU)], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("smoke", **GPU), stage("probe", "not-executed")], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("smoke", "failed", **GPU), stage("probe", **GPU)], "imported"),
        ([BUILD, AUDIT, IMPORT, stage("probe", **GPU)], "executed"),
        ([BUILD, AUDIT, IMPORT, stage("smoke", **GPU)], "executed"),
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


def test_a_verdict_survives_its_json() -> None:
    original = verdict(BUILD, stage("audit", targets=["12.0"]), targets=("12.0",), capability=None)
    text = original.model_dump_json(by_alias=True)
    assert json.loads(text)["schema"] == 1
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
    stored = verdict(BUILD, AUDIT, IMPORT, stage("probe", **GPU), torch_record_sha256="aa", capability="9.0")
    same: dict[str, Any] = {"torch": "2.13.0+cu130", "torch_record_sha256": "aa"}
    assert valid_here(stored, require="imported", **same)
    assert valid_here(stored, require="executed", **same, capabilities=["12.0", "9.0"])
    assert not valid_here(stored, require="executed", **same, capabilities=["12.0"])
    assert not valid_here(stored, require="executed", **same)
    assert not valid_here(stored, require="imported", torch="2.13.0+cu130", torch_record_sha256="bb")
    assert not valid_here(verdict(BUILD, AUDIT, torch_record_sha256="aa"), require="imported", **same)
