"""The solver against sixty machines whose answers were written before it existed, and against reported ones."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import pytest
from machines import host_of, machines

from buildkit.machine.solver.answer import CAUSES, KINDS, STEPS, Verdict
from buildkit.machine.solver.examine import examine
from buildkit.machine.solver.solve import solve

ROWS = machines()
REPORTED = machines("reported.toml")
"""Looked up afterwards: what the threads say, and nothing that is known better."""


def test_the_table_is_a_table_of_sixty_machines() -> None:
    assert len(ROWS) == 60
    assert len({row["name"] for row in ROWS}) == 60
    assert len({row["source"] for row in ROWS if "source" in row}) >= 10
    for row in ROWS:
        assert row["verdict"] in get_args(Verdict), row["name"]
        assert row["why"], row["name"]
        assert set(row.get("change", ())) <= set(KINDS), row["name"]
        if row["verdict"] == "works":
            assert not {"step", "cause", "change"} & row.keys(), row["name"]
        else:
            assert row["step"] in STEPS, row["name"]
            assert row["cause"] in CAUSES, row["name"]
            assert bool(row["change"]) is (row["verdict"] == "cannot"), row["name"]


def test_the_table_holds_what_people_run_into() -> None:
    verdicts = Counter(row["verdict"] for row in ROWS)
    assert min(verdicts.values()) >= 3
    assert {row["place"] for row in ROWS} == {"linux", "wsl2", "container", "slurm", "jetson"}
    assert len({row["cause"] for row in ROWS if "cause" in row}) >= 20


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_a_machine(row: dict[str, Any]) -> None:
    answer = solve(host_of(row))
    first = answer.first
    assert answer.verdict == row["verdict"]
    assert (first.step if first else None) == row.get("step")
    assert (first.cause if first else None) == row.get("cause")
    assert (list(answer.advice[0].kinds) if answer.advice else []) == row.get("change", [])


@pytest.mark.parametrize("row", [row for row in ROWS if row["verdict"] == "cannot"], ids=lambda row: str(row["name"]))
def test_every_advice_on_a_machine_makes_it_work(row: dict[str, Any]) -> None:
    for advice in solve(host_of(row)).advice:
        assert examine(advice.host) == advice.problems
        assert advice.verdict != "cannot"
        assert all(change.ways for change in advice.changes)


@pytest.mark.parametrize("row", REPORTED, ids=[row["source"] for row in REPORTED])
def test_a_reported_machine(row: dict[str, Any]) -> None:
    answer = solve(host_of(row))
    first = answer.first
    assert answer.verdict == row["verdict"]
    assert (first.step if first else None) == row.get("step")
    assert (first.cause if first else None) == row.get("cause")
    if "change" in row:
        assert list(answer.advice[0].kinds) == row["change"]


def test_the_reported_machines_are_others() -> None:
    assert len(REPORTED) >= 10
    assert not {row["source"] for row in REPORTED} & {row["source"] for row in ROWS if "source" in row}
