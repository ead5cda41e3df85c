"""What programs read: the JSON answers hold to the published schema, and the reference pages say what the code does."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from buildkit import errors
from buildkit.build.pipeline import BuildResult
from buildkit.cli import reference
from buildkit.cli.commands import COMMANDS
from buildkit.cli.json_model import EarlyFailure
from buildkit.cli.main import main
from buildkit.cli.output import SCHEMA
from buildkit.cli.results import print_results, result_object
from buildkit.cli.schema import (
    ANSWER,
    Answer,
    BuildObject,
    SeveralBuilds,
    build_schema,
    causes,
    schema_text,
)
from buildkit.cli.settings import Settings, variables
from buildkit.errors import CpuOnlyWheel, CudabuildError, NoTarget, OutOfMemory
from buildkit.plan.model import PlanSummary
from buildkit.store.model import Entry
from buildkit.verify.verdict import Stage, Verdict, make_verdict

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"
REFRESH = "make it anew: python -m buildkit.cli.reference"
HASH = "a" * 64

PLAN = PlanSummary(
    targets=("12.0",),
    torch="2.13.0+cu130",
    cuda="13.0",
    python="cp311",
    jobs=2,
    memory_budget=1 << 34,
    timeout=1800.0,
    stall_timeout=600.0,
    toolkit="13.0.88 (wheels)",
    compiler="gcc 12.2.0",
    require="imported",
    expected_seconds=None,
)
STAGES = (
    Stage(name="build", outcome="passed", seconds=100.0),
    Stage(name="audit", outcome="passed", seconds=0.5, evidence={"targets": ["12.0"]}),
    Stage(name="import", outcome="passed", seconds=4.0),
    Stage(name="probe", outcome="not-executed", seconds=0.0, detail="no GPU visible"),
)
VERDICT: Verdict = make_verdict(STAGES, wheel_sha256=HASH, device="cuda", targets=("12.0",), torch="2.13.0+cu130")
GUARD: dict[str, Any] = {
    "peak_memory": 1 << 30,
    "memory_budget": 1 << 34,
    "requeued": 0,
    "units": 3,
    "containment": "cgroup",
    "isolation": "namespace",
    "survivors": 0,
}
ENTRY = Entry(
    key=HASH,
    family=HASH,
    recipe="sample",
    version="1.0+pt2.13.cu130.sm120",
    build="20261121-3f2a",
    created="2026-11-21T06:00:00.0Z",
    filename="sample-1.0+pt2.13.cu130.sm120-cp311-cp311-linux_x86_64.whl",
    sha256=HASH,
    size=1,
    inputs={},
    verdict={},
    plan={},
    seconds=100.0,
)


def built(**changes: Any) -> BuildResult:
    """A build that went well, with what is changed about it."""
    values: dict[str, Any] = {
        "recipe": "sample",
        "build": "20261121-3f2a",
        "version": ENTRY.version,
        "key": HASH,
        "wheel": Path("/cache") / ENTRY.filename,
        "entry": ENTRY,
        "plan": PLAN,
        "verdict": VERDICT,
        "guard": GUARD,
        "seconds": 109.25,
        "notes": ["a note"],
    }
    return BuildResult(**{**values, **changes})


def failed(error: CudabuildError, **known: Any) -> BuildResult:
    return BuildResult(recipe="sample", build="20261121-3f2a", error=error, **known)


RESULTS = {
    "miss": built(),
    "hit": built(cache="hit", guard=None),
    "cpu": built(device="cpu"),
    "no target": failed(NoTarget("no GPU is visible", hint="--target 12.0"), device="auto"),
    "cpu-only": failed(
        CpuOnlyWheel("CPU-only wheel", evidence="not compiling with CUDA", log="/cache/logs/x.log"),
        key=HASH,
        plan=PLAN,
        verdict=make_verdict(
            [STAGES[0], Stage(name="audit", outcome="failed", seconds=0.1)],
            wheel_sha256=HASH,
            device="cuda",
            torch="2.13.0+cu130",
        ),
        guard=GUARD,
    ),
    "memory": failed(OutOfMemory("ended for lack of memory"), key=HASH, version="1.0", plan=PLAN, guard=GUARD),
}


@cache
def published() -> Draft202012Validator:
    return Draft202012Validator(json.loads((DOCS / "build.schema.json").read_text("utf-8")))


def validated(value: dict[str, Any]) -> Answer:
    """The answer as its model (which refuses keys the schema does not know), after the published schema took it."""
    published().validate(value)
    answer: Answer = ANSWER.validate_json(json.dumps(value))
    return answer


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_holds_to_the_schema(name: str) -> None:
    result = RESULTS[name]
    value = json.loads(json.dumps(result_object(result), allow_nan=False))
    answer = validated(value)
    assert isinstance(answer, BuildObject)
    assert ("error" in value) == (result.error is not None)
    if result.error is not None and answer.error is not None:
        assert (answer.error.kind, answer.error.exit_code) == (result.error.kind, result.error.exit_code)


def test_the_keys_of_the_interface_are_there() -> None:
    value = json.loads(json.dumps(result_object(built())))
    assert {"schema", "build", "recipe", "device", "version", "key", "cache", "wheel", "plan", "verdict", "guard",
            "seconds"} <= value.keys()  # fmt: skip
    assert {"path", "filename", "sha256", "size"} == value["wheel"].keys()
    assert {"targets", "torch", "cuda", "python", "jobs", "memory_budget", "timeout"} <= value["plan"].keys()
    assert {"grade", "stages"} <= value["verdict"].keys()
    assert {"name", "outcome", "seconds", "evidence"} <= value["verdict"]["stages"][0].keys()
    assert {"peak_memory", "memory_budget", "requeued", "units", "containment", "survivors"} <= value["guard"].keys()
    assert value["schema"] == SCHEMA == 1


def test_one_object_is_printed_for_one_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_results([built()], as_json=True) == 0
    printed = capsys.readouterr()
    assert isinstance(validated(json.loads(printed.out)), BuildObject)
    assert printed.out.count("\n") == 1


def test_several_packages_give_results_and_the_first_failures_code(capsys: pytest.CaptureFixture[str]) -> None:
    results = [RESULTS["miss"], RESULTS["cpu-only"], RESULTS["no target"]]
    assert print_results(results, as_json=True) == CpuOnlyWheel.exit_code
    answer = validated(json.loads(capsys.readouterr().out))
    assert isinstance(answer, SeveralBuilds)
    assert [getattr(result, "error", None) is None for result in answer.results] == [True, False, False]


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a home without anything in them."""
    monkeypatch.setenv("CUDABUILD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CUDABUILD_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["build", "no-such-recipe", "--target", "12.0"], errors.UnknownRecipe),
        (["build", "--target", "12.0"], errors.UsageError),
        (["build", "x", "--jobs", "none"], errors.UsageError),
    ],
)
def test_a_failed_command_prints_one_object_too(
    words: list[str], cause: type[CudabuildError], empty_machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--json"]) == cause.exit_code
    printed = capsys.readouterr().out
    answer = validated(json.loads(printed))
    assert isinstance(answer, (BuildObject, EarlyFailure))
    assert answer.error is not None
    assert answer.error.kind == cause.kind


def test_a_broken_configuration_is_an_early_failure(
    empty_machine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDABUILD_JOBS", "many")
    assert main(["build", "x", "--json"]) == errors.ConfigError.exit_code
    answer = validated(json.loads(capsys.readouterr().out))
    assert isinstance(answer, EarlyFailure)
    assert answer.error.kind == errors.ConfigError.kind


def test_the_schema_on_disk_is_the_models() -> None:
    assert (DOCS / "build.schema.json").read_text("utf-8") == schema_text(), REFRESH


def test_the_schema_is_one_and_lets_later_keys_pass() -> None:
    Draft202012Validator.check_schema(build_schema())
    value = json.loads(json.dumps(result_object(built())))
    Draft202012Validator(build_schema()).validate(value | {"later": 1, "wheel": value["wheel"] | {"later": 1}})
    with pytest.raises(ValueError, match="later"):
        ANSWER.validate_python(value | {"later": 1})


@pytest.mark.parametrize("key", ["schema", "build", "cache", "verdict", "seconds"])
def test_the_schema_refuses_an_answer_without_a_key(key: str) -> None:
    value = json.loads(json.dumps(result_object(built())))
    del value[key]
    assert not published().is_valid(value)


@pytest.mark.parametrize("page", reference.PAGES)
def test_the_reference_pages_say_what_the_code_does(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    assert reference.with_generated(text, reference.PAGES[page]()) == text, REFRESH


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the two lines"):
        reference.with_generated("# nothing here\n", "")


def test_every_cause_is_on_the_page_and_no_kind_means_two_things() -> None:
    page = (DOCS / "exit-codes.md").read_text("utf-8")
    kinds = [cause.kind for cause in causes()]
    assert len(set(kinds)) == len(kinds) > 30
    for cause in causes():
        assert f"| {cause.exit_code} | `{cause.kind}` |" in page
        assert f"\n| {cause.exit_code} | " in page.partition(reference.BEGIN)[0]
        assert cause.__doc__


def test_every_command_option_and_setting_is_on_its_page() -> None:
    commands = (DOCS / "commands.md").read_text("utf-8")
    assert all(f"## cudabuild {name}\n" in commands for name in COMMANDS)
    assert {"--target", "--torch", "--require", "--pass-env"} <= set(re.findall(r"--[a-z-]+", commands))
    configuration = (DOCS / "configuration.md").read_text("utf-8")
    assert all(f"`{variable}`" in configuration for variable in variables())
    assert all(f"| `{field.alias}` |" in configuration for field in Settings.model_fields.values())


def test_the_json_page_names_every_key_of_plan_and_verdict() -> None:
    page = (DOCS / "json.md").read_text("utf-8")
    for model in (PlanSummary, Verdict, Stage):
        for name, field in model.model_fields.items():
            assert f"`{field.alias or name}`" in page, name


def test_the_examples_on_the_json_page_hold_to_the_schema() -> None:
    page = (DOCS / "json.md").read_text("utf-8")
    examples = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        assert isinstance(validated(json.loads(example)), BuildObject)
