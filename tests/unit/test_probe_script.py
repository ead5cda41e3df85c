"""The runner of probes: it compares, a probe only says what it expected and got; and it tells how far it came."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.errors import ProbeFailed
from buildkit.verify.probe_answer import ProbeAnswer, read_answer
from buildkit.verify.probe_request import SCRIPT
from buildkit.verify.probe_script import difference, read_check

NAN, INF = math.nan, math.inf
CHECKS = "def checks(device, tools):\n"
ONE = "yield {'name': 'one', 'expected': 1, 'got': 1}"


@pytest.mark.parametrize(
    ("expected", "got", "off"),
    [
        (1, 1, 0.0),
        (1.0, 1, 0.0),
        (1.0, 1.25, 0.25),
        ([1, 2], [1, 2.5], 0.5),
        ([[1, 2], [3, 4]], [[1, 2], [3, 3]], 1.0),
        ((1, 2), [1, 2], 0.0),
        ([], [], 0.0),
        ("a", "a", 0.0),
        (True, True, 0.0),
        (INF, INF, 0.0),
        (2**80, 2**80 + 1, 1.0),
        # What is not alike is infinitely far.
        ("a", "b", INF),
        (True, False, INF),
        (True, 1, INF),
        (1, True, INF),
        (1, "1", INF),
        ([1], 1, INF),
        ([1, 2], [1], INF),
        ([[1]], [1], INF),
        (INF, -INF, INF),
        (INF, 1e308, INF),
        pytest.param(10**400, -(10**400), INF, id="beyond any float"),
        ([[[[[[[[[[1]]]]]]]]]], [[[[[[[[[[1]]]]]]]]]], INF),
    ],
)
def test_how_far_a_value_is_from_the_expected_one(expected: Any, got: Any, off: float) -> None:
    assert difference(expected, got) == off


@pytest.mark.parametrize(
    ("expected", "got"), [(NAN, NAN), (1.0, NAN), (NAN, 1.0), ([1, NAN], [1, NAN]), ([NAN, 1], [1, 5])]
)
def test_nan_never_passes(expected: Any, got: Any) -> None:
    for tolerance in (0.0, 1e300):
        assert not difference(expected, got) <= tolerance


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=8))
def test_equal_lists_pass_and_a_nan_in_any_place_does_not(values: list[float]) -> None:
    assert difference(values, list(values)) == 0.0
    for place in range(len(values)):
        broken = [*values[:place], NAN, *values[place + 1 :]]
        assert not difference(values, broken) <= 1e308


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ({"name": "a", "expected": 1, "got": 1, "passed": True}, "a check is a dict with"),
        ({"name": "a", "expected": 1}, "a check is a dict with"),
        (True, "a check is a dict with"),
        ({"name": "", "expected": 1, "got": 1}, "name is a text"),
        ({"name": 3, "expected": 1, "got": 1}, "name is a text"),
        ({"name": "a", "expected": 1, "got": 1, "tolerance": -1}, "number from 0 on"),
        ({"name": "a", "expected": 1, "got": 1, "tolerance": INF}, "number from 0 on"),
        ({"name": "a", "expected": 1, "got": 1, "tolerance": NAN}, "number from 0 on"),
        ({"name": "a", "expected": 1, "got": 1, "tolerance": True}, "number from 0 on"),
        ({"name": "a", "expected": 1, "got": 1, "tolerance": 10**400}, "number from 0 on"),
        ({"name": "a", "expected": 1, "got": None}, "not NoneType"),
        ({"name": "a", "expected": {1}, "got": 1}, "expected is a number"),
        ({"name": "a", "expected": 1, "got": [object()]}, "not object"),
    ],
)
def test_what_is_no_check_is_refused(raw: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_check(raw)


def test_a_check_without_a_tolerance_has_none() -> None:
    assert read_check({"name": "a", "expected": (1, 2), "got": [1, 2]}) == {
        "name": "a",
        "expected": [1, 2],
        "got": [1, 2],
        "tolerance": 0.0,
    }


def run(folder: Path, text: str, *, mcubes: Path | None = None) -> tuple[ProbeAnswer, subprocess.CompletedProcess[str]]:
    """A probe through the real runner, on the CPU and without torch (which would take seconds to import)."""
    (folder / "probe.py").write_text(text)
    content = {"probe": str(folder / "probe.py"), "device": "cpu", "torch": False, "mcubes": mcubes and str(mcubes)}
    (folder / "request.json").write_text(json.dumps(content))
    answer = folder / "answer.json"
    command = [sys.executable, "-I", str(SCRIPT), str(folder / "request.json"), str(answer)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return read_answer(answer), done


def test_checks_come_through_in_order(tmp_path: Path) -> None:
    text = """
def checks(device, tools):
    yield {"name": "device", "expected": "cpu", "got": device}
    yield {"name": "mcubes", "expected": True, "got": tools.mcubes is None}
    yield {"name": "number", "expected": 1.0, "got": float("nan"), "tolerance": 5}
"""
    answer, done = run(tmp_path, text)
    assert (done.returncode, answer.done, answer.step, answer.error) == (0, True, "exit", None)
    assert [check["name"] for check in answer.checks] == ["device", "mcubes", "number"]
    assert math.isnan(answer.checks[2]["got"])
    assert (answer.mcubes, answer.gpu, answer.kernels, answer.recorder) == (False, None, (), "off")


def test_the_kernel_projects_module_is_lent_from_its_folder(tmp_path: Path) -> None:
    lent = tmp_path / "lent"
    lent.mkdir()
    (lent / "cudabuild_mcubes.py").write_text("answer = 42\n")  # stands for the module, which is built elsewhere
    text = """
import sys
def checks(device, tools):
    yield {"name": "lent", "expected": 42, "got": tools.mcubes.answer}
    yield {"name": "its folder", "expected": False, "got": any(path.endswith("lent") for path in sys.path)}
"""
    answer, done = run(tmp_path, text, mcubes=lent)
    assert done.returncode == 0, done.stderr
    assert answer.mcubes
    assert [check["got"] for check in answer.checks] == [42, False]


def test_a_folder_with_a_module_for_another_python_is_none(tmp_path: Path) -> None:
    (tmp_path / "cudabuild_mcubes.cpython-27-x86_64-linux-gnu.so").write_bytes(b"\x7fELF")
    text = (
        'def checks(device, tools):\n    yield {"name": "lent", "expected": False, "got": tools.mcubes is not None}\n'
    )
    answer, done = run(tmp_path, text, mcubes=tmp_path)
    assert (done.returncode, answer.mcubes, answer.checks[0]["got"]) == (0, False, False)


@pytest.mark.parametrize(
    ("text", "step", "line"),
    [
        ("1 / 0\n", "the probe's import", "ZeroDivisionError: division by zero"),
        ("checks = 3\n", "the first check", "TypeError: 'int' object is not callable"),
        (
            f"{CHECKS}    {ONE}\n    raise OSError('gone')\n",
            "after check 'one'",
            "OSError: gone",
        ),
        (
            f"{CHECKS}    {ONE[:-1]}, 'passed': True}}\n",
            "the first check",
            "ValueError: a check is a dict with name, expected, got, tolerance",
        ),
        (
            f"{CHECKS}    {ONE}\n    {ONE}\n",
            "after check 'one'",
            "ValueError: there are two checks called 'one'",
        ),
    ],
)
def test_a_probe_that_raises_says_where(tmp_path: Path, text: str, step: str, line: str) -> None:
    answer, done = run(tmp_path, text)
    assert done.returncode == 1
    assert not answer.done
    assert answer.step == step
    assert answer.error is not None
    assert answer.error.line.startswith(line)


def test_a_process_that_dies_leaves_what_it_reached(tmp_path: Path) -> None:
    text = """
import os, signal
def checks(device, tools):
    yield {"name": "one", "expected": 1, "got": 1}
    os.kill(os.getpid(), signal.SIGSEGV)
"""
    answer, done = run(tmp_path, text)
    assert done.returncode < 0
    assert (answer.done, answer.step, len(answer.checks), answer.error) == (False, "after check 'one'", 1, None)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"schema": 1, "done": true, "passed": true}', "passed"),
        ('{"schema": 2}', "schema"),
        ('{"schema": 1, "checks": [{"name": "a", "expected": 1, "got": 1, "tolerance": 0, "passed": true}]}', "check"),
        ('{"schema": 1, "kernels": [{"name": "k", "launches": 0, "microseconds": 1}]}', "launches"),
        ("[1, 2", "Expecting"),
        ("[" * 100_000, ""),
        ('"text"', ""),
    ],
)
def test_an_answer_of_another_form_is_a_failure(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "answer.json").write_text(content)
    with pytest.raises(ProbeFailed) as caught:
        read_answer(tmp_path / "answer.json")
    assert why in caught.value.evidence


def test_no_answer_at_all_is_the_start_of_python(tmp_path: Path) -> None:
    assert read_answer(tmp_path / "none.json") == ProbeAnswer()
    assert ProbeAnswer().step == "the start of Python"
