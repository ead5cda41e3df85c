"""``cache show``: what is proven of a stored wheel, as JSON that holds to its schema, and as a page for people."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from buildkit.cli.show_page import lines_of, show
from buildkit.cli.show_schema import OLDER, SHOWN, EntryObject, entry_object, show_schema_text
from buildkit.store.model import Entry
from buildkit.verify.verdict import Stage, make_verdict

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"
CHECKS = [
    {"name": "sum", "expected": 3.0, "got": 3.0, "tolerance": 0.0, "difference": 0.0, "passed": True},
    {"name": "mean", "expected": 1.0, "got": 1.25, "tolerance": 0.5, "difference": 0.25, "passed": True},
    {"name": "max", "expected": 1.0, "got": "nan", "tolerance": 0.5, "difference": "nan", "passed": False},
]
PROBE = {
    "device": "NVIDIA H200",
    "device_uuid": "GPU-1",
    "capability": "9.0",
    "driver": "580.65",
    "checks": CHECKS,
    "kernels": [{"name": "add_one(float*, long)", "object": "fast/_C.so", "launches": 3}],
    "ran": [{"object": "fast/_C.so", "by": "ptx-jit", "target": "8.6"}],
}
AUDIT = {"objects": [{"path": "fast/_C.so", "elf": ["8.6"], "ptx": ["8.6"], "units": 1}]}
STAGES = (
    Stage(name="build", outcome="passed", seconds=12.5),
    Stage(name="audit", outcome="passed", seconds=0.5, evidence=AUDIT),
    Stage(name="import", outcome="passed", seconds=4.0, evidence={"torch": "2.13.0+cu130"}),
    Stage(name="probe", outcome="passed", seconds=9.0, evidence=PROBE, detail="on NVIDIA H200: by JIT from PTX of 8.6"),
)
VERDICT = make_verdict(
    STAGES, wheel_sha256="a" * 64, device="cuda", targets=("8.6+PTX", "12.0"), torch="2.13.0+cu130", recipe="fast"
)


def entry(verdict: dict[str, Any]) -> Entry:
    return Entry(
        key="b" * 64,
        family="b" * 64,
        recipe="fast",
        version="1.0+pt2.13.cu130.sm86ptx",
        build="20261121-3f2a",
        created="2026-11-21T06:00:00.0Z",
        filename="fast-1.0+pt2.13.cu130.sm86ptx-cp311-cp311-linux_x86_64.whl",
        sha256="a" * 64,
        size=18_844,
        inputs={"targets": ["8.6+PTX", "12.0"], "torch": "2.13.0+cu130 cafe dead", "environment": {"A": "x" * 500}},
        verdict=verdict,
        plan={},
        seconds=12.5,
    )


@pytest.fixture
def proven() -> EntryObject:
    return entry_object(entry(VERDICT.model_dump(by_alias=True, mode="json")))


@pytest.fixture
def older() -> EntryObject:
    return entry_object(entry({"schema": 1, "grade": "imported", "stages": [{"name": "command"}]}))


def test_the_published_schema_is_the_models() -> None:
    published = (DOCS / "show.schema.json").read_text("utf-8")
    assert published == show_schema_text(), "make it anew: python -m buildkit.cli.reference"


def test_what_is_printed_holds_to_the_schema(proven: EntryObject, older: EntryObject) -> None:
    validator = Draft202012Validator(json.loads(show_schema_text()))
    for shown in (proven, older):
        value = json.loads(json.dumps(shown.model_dump(mode="json", by_alias=True), allow_nan=False))
        validator.validate(value)
        assert SHOWN.validate_python(value) == shown
    assert {"schema", "key", "grade", "verdict", "inputs"} <= value.keys()


def test_the_schema_lets_later_keys_pass_and_refuses_wrong_ones(proven: EntryObject) -> None:
    validator = Draft202012Validator(json.loads(show_schema_text()))
    value = proven.model_dump(mode="json", by_alias=True)
    validator.validate({**value, "later": 1})
    assert not validator.is_valid({**value, "grade": "proven"})
    assert not validator.is_valid({key: value[key] for key in value if key != "verdict"})


def test_the_page_says_what_ran_where_and_how(proven: EntryObject) -> None:
    lines = list(lines_of(proven))
    assert lines[0] == proven.filename
    assert "  proven         executed" in lines
    assert "  target 8.6+PTX  executed on NVIDIA H200 (9.0, driver 580.65) by JIT from PTX of 8.6" in lines
    assert "  target 12.0     no code of it, never executed" in lines
    assert "    | fast/_C.so: every unit lacks sm_120" in lines
    assert "  proof probe    passed        on NVIDIA H200: by JIT from PTX of 8.6" in lines
    assert "    | right: sum" in lines
    assert "    | right: mean (off by 0.25 of 0.5)" in lines
    assert "    | WRONG: max (off by nan)" in lines
    assert "    | ran 3 times: add_one(float*, long) (fast/_C.so)" in lines
    assert all(len(line) < 200 for line in lines)


def test_an_older_verdict_is_said_and_not_shown(older: EntryObject) -> None:
    lines = list(lines_of(older))
    assert older.verdict is None
    assert f"  proven         imported: {OLDER}" in lines
    assert not [line for line in lines if line.startswith(("  proof ", "  target "))]


class Terminal(io.StringIO):
    """A terminal to write to."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_gets_tables_and_a_pipe_plain_lines(
    proven: EntryObject, older: EntryObject, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    show(proven)
    show(older)
    text = stream.getvalue()
    assert ("\x1b[" in text) is terminal
    assert "executed on NVIDIA H200 (9.0, driver 580.65) by JIT from PTX of 8.6" in text
    assert "add_one(float*, long)" in text
    assert OLDER in " ".join(text.split())


def test_control_characters_in_a_kernels_name_are_shown_and_not_obeyed(
    proven: EntryObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert proven.verdict is not None
    proven.verdict.stages[3].evidence["kernels"][0]["name"] = "evil\x1b]0;title\x07"
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", "160")
        show(proven)
        assert "\x1b]0;" not in stream.getvalue()
        assert "evil\\x1b]0;title\\x07" in stream.getvalue()
