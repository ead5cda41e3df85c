"""What runs where, as a table, and what the rows of a verdict say of it."""

from __future__ import annotations

from typing import Any

import pytest

from buildkit.machine.arch import parse_targets
from buildkit.verify.coverage import how_it_ran, image_for, object_of, rows_of
from buildkit.verify.device_code import ObjectCode, UnitCode


@pytest.mark.parametrize(
    ("elf", "ptx", "device", "expected"),
    [
        # Machine code that fits best: same major, the highest minor that is not above the GPU's.
        ("8.0;8.6", "", (8, 6), ("sass", "8.6")),
        ("8.0;8.6", "", (8, 9), ("sass", "8.6")),
        ("8.0;8.9", "", (8, 6), ("sass", "8.0")),
        ("12.0", "", (12, 1), ("sass", "12.0")),
        # Machine code before PTX, whichever PTX there is.
        ("8.6", "8.6", (8, 6), ("sass", "8.6")),
        ("8.0", "8.6", (8, 6), ("sass", "8.0")),
        # PTX of 8.6 on a 9.0: compiled by the driver.
        ("8.6", "8.6", (9, 0), ("ptx-jit", "8.6")),
        ("8.0;8.6", "8.0;8.6", (9, 0), ("ptx-jit", "8.6")),
        ("8.6;12.0", "12.0", (12, 1), ("sass", "12.0")),
        # Nothing for it: another major, a lower minor, PTX that is too new.
        ("12.0", "", (9, 0), None),
        ("12.0", "12.0", (9, 0), None),
        ("8.9", "8.9", (8, 6), None),
        ("8.6", "", (9, 0), None),
        # The suffixes: a on its chip alone, f in its family; the most specific one first.
        ("9.0a", "", (9, 0), ("sass", "9.0a")),
        ("9.0;9.0a", "", (9, 0), ("sass", "9.0a")),
        ("9.0a", "9.0a", (10, 0), None),
        ("12.0f", "", (12, 1), ("sass", "12.0f")),
        ("10.0f", "10.0f", (12, 0), None),
        # Integrated GPUs are apart.
        ("8.6", "", (8, 7), None),
        ("8.6", "8.6", (8, 7), ("ptx-jit", "8.6")),
        ("8.7", "", (8, 9), None),
    ],
)
def test_what_a_gpu_runs(elf: str, ptx: str, device: tuple[int, int], expected: tuple[str, str] | None) -> None:
    found = image_for(parse_targets([elf]) if elf else (), parse_targets([ptx]) if ptx else (), device)
    assert (None if found is None else (found[0], str(found[1]))) == expected


def unit(name: str, elf: str, ptx: str = "") -> UnitCode:
    return UnitCode(name, parse_targets([elf]), parse_targets([ptx]) if ptx else ())


def test_units_that_differ_say_nothing_certain() -> None:
    same = ObjectCode("a.so", (), (), (unit("one", "8.6"), unit("two", "8.6", "8.6")))
    other = ObjectCode("a.so", (), (), (unit("one", "8.6"), unit("two", "8.0", "8.0")))
    assert how_it_ran(same, (8, 6)) is not None
    assert how_it_ran(other, (8, 6)) is None
    assert how_it_ran(ObjectCode("a.so", (), (), ()), (8, 6)) is None


AUDIT: dict[str, Any] = {
    "targets": ["8.6"],
    "objects": [
        {"path": "pkg/_a.so", "elf": ["8.6"], "ptx": ["8.6"], "units": 2},
        {
            "path": "pkg/_b.so",
            "elf": ["8.6"],
            "ptx": ["8.6"],
            "units": 2,
            "by_unit": [
                {"unit": "one.cu (unit 1 of 2)", "elf": ["8.6"], "ptx": ["8.6"]},
                {"unit": "two.cu (unit 2 of 2)", "elf": ["8.6"], "ptx": []},
            ],
        },
    ],
}
HOPPER: dict[str, Any] = {
    "device": "NVIDIA H200",
    "device_uuid": "GPU-1",
    "capability": "9.0",
    "driver": "580.65",
    "ran": [{"object": "pkg/_a.so", "by": "ptx-jit", "target": "8.6"}],
}


def test_code_that_is_present_is_not_called_executed() -> None:
    (row,) = rows_of(["8.6+PTX"], AUDIT, [])
    assert (row.target, row.executed, row.runs) == ("8.6+PTX", False, ())
    assert row.sass == ("pkg/_a.so", "pkg/_b.so")
    assert row.ptx == ("pkg/_a.so",)
    assert row.lacking == ("pkg/_b.so: two.cu (unit 2 of 2) lacks PTX of 8.6",)
    assert row.summary == "machine code and PTX present, never executed"


def test_a_run_by_jit_says_exactly_that() -> None:
    (row,) = rows_of(["8.6+PTX"], AUDIT, [HOPPER])
    assert row.executed
    assert row.runs[0].by == "ptx-jit"
    assert row.summary == "executed on NVIDIA H200 (9.0, driver 580.65) by JIT from PTX of 8.6"


def test_a_target_is_not_executed_by_another_targets_run() -> None:
    audit = {"objects": [{"path": "a.so", "elf": ["9.0", "12.0"], "ptx": [], "units": 1}]}
    probe = {**HOPPER, "ran": [{"object": "a.so", "by": "sass", "target": "9.0"}]}
    hopper, blackwell = rows_of(["9.0", "12.0"], audit, [probe])
    assert (hopper.executed, hopper.summary) == (True, "executed on NVIDIA H200 (9.0, driver 580.65) by SASS of 9.0")
    assert (blackwell.executed, blackwell.summary) == (False, "machine code present, never executed")


def test_a_target_that_nobody_asked_for_has_a_row_when_it_ran() -> None:
    audit = {"objects": [{"path": "a.so", "elf": ["8.6", "9.0"], "ptx": [], "units": 1}]}
    probe = {**HOPPER, "ran": [{"object": "a.so", "by": "sass", "target": "9.0"}]}
    assert [(row.target, row.executed) for row in rows_of(["8.6"], audit, [probe])] == [("8.6", False), ("9.0", True)]


def test_without_targets_asked_for_the_rows_are_those_held() -> None:
    assert [row.target for row in rows_of([], AUDIT, [])] == ["8.6"]
    assert rows_of([], {}, []) == ()
    (row,) = rows_of(["12.0"], AUDIT, [])
    assert row.summary == "no code of it, never executed"
    assert "pkg/_a.so: every unit lacks sm_120" in row.lacking


def test_several_gpus_and_an_unknown_driver() -> None:
    other = {**HOPPER, "device": "Orin", "capability": "8.7", "driver": ""}
    (row,) = rows_of(["8.6+PTX"], AUDIT, [HOPPER, HOPPER, other])
    assert [run.gpu for run in row.runs] == ["NVIDIA H200", "Orin"]
    assert row.summary.endswith("; executed on Orin (8.7) by JIT from PTX of 8.6")


def test_an_object_survives_its_evidence() -> None:
    code = ObjectCode("a.so", *(parse_targets(["8.6;9.0a"]),) * 2, (unit("one", "8.6;9.0a", "8.6;9.0a"),))
    read = object_of(code.evidence())
    assert (read.path, read.elf, read.ptx) == (code.path, code.elf, code.ptx)
    assert [(each.elf, each.ptx) for each in read.units] == [(each.elf, each.ptx) for each in code.units]
