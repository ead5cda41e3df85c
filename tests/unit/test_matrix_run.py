"""Running a matrix: order, retries by cause, what is kept of a run, what people are told."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from jsonschema import Draft202012Validator

from buildkit.build.recording import this_process
from buildkit.cli.matrix_inputs import common_words
from buildkit.cli.matrix_page import run_lines, show_lines
from buildkit.cli.matrix_schema import RUN, SHOWN, run_matrix_schema_text, show_matrix_schema_text, show_object
from buildkit.cli.matrix_watch import LineWatcher, TableWatcher
from buildkit.errors import Interrupted, NoSuchBuild, UsageError
from buildkit.matrix.cell import Cell
from buildkit.matrix.executor import Began, EndCause, Ended, Job, Need, cell_environment
from buildkit.matrix.executors import ExecutorContext, make_executor
from buildkit.matrix.expand import Dropped
from buildkit.matrix.history import Estimate, Past, estimate, past_cells
from buildkit.matrix.junit import junit_text
from buildkit.matrix.local import LocalExecutor
from buildkit.matrix.outlook import Outlook
from buildkit.matrix.packages import Wanted
from buildkit.matrix.results import DroppedObject, RunObject, cell_object, counts_of
from buildkit.matrix.retry import again, cause_of
from buildkit.matrix.run import MatrixRun, Policy, Task
from buildkit.matrix.schedule import longest_first, lower_bound, makespan
from buildkit.matrix.state import Runs
from buildkit.matrix.tasks import continued, fingerprint, need_of, tasks_of, words_of
from buildkit.matrix.worker_process import CellProcess
from buildkit.store.locks import LockBusy, file_lock

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"
GIB = 1 << 30
PATIENT = Policy()
NEED = Need(memory=2 * GIB, cpus=4, gpu=None, seconds=10.0, walltime=1800.0)
VOX = Wanted("vox", "1.2", "vox", sha256="0" * 64, memory_per_unit=2 * GIB, timeout=1800.0)


def a_cell(name: str = "a", **more: Any) -> Cell:
    whole = Cell(name, "vox", "1.2", "2.13.0+cu130", "13.0", "3.11", ("8.6",), "cuda", "linux_x86_64")
    return replace(whole, **more)


ROW = {"target": "8.6", "sass": ["a.so"], "ptx": [], "lacking": [], "executed": True, "summary": "executed on H (8.6)",
       "runs": [{"gpu": "H", "uuid": "", "capability": "8.6", "driver": "", "by": "sass"}]}  # fmt: skip


def good(cache: str = "miss", seconds: float = 12.0, grade: str = "executed") -> dict[str, Any]:
    """As `cudabuild build --json` answers."""
    return {
        "schema": 1, "build": "20261122-aa11", "recipe": "vox", "device": "cuda", "version": "1.2", "key": "f" * 64,
        "cache": cache, "wheel": {"path": "/w/v.whl", "filename": "v.whl", "sha256": "0" * 64, "size": 9},
        "plan": {"jobs": 3}, "verdict": {"grade": grade, "rows": [ROW]},
        "guard": {"peak_memory": 3 * GIB}, "seconds": seconds,
    }  # fmt: skip


def bad(kind: str, code: int) -> dict[str, Any]:
    error = {"kind": kind, "exit_code": code, "message": "it is broken", "evidence": "x.cu:1", "hint": "mend it",
             "log": "/l", "rule": None}  # fmt: skip
    return {"schema": 1, "build": None, "error": error}


def ended(
    cell: str = "a", attempt: int = 1, code: int | None = 0, answer: Any = None, cause: EndCause = "exited"
) -> Ended:
    return Ended(cell, attempt, "host", code, answer, Path("/log"), cause)


class Script:
    """An executor that runs nothing: what becomes of each try of a cell is written down beforehand."""

    def __init__(self, slots: int, fates: dict[str, list[Ended | BaseException]], now: list[float]) -> None:
        self.slots = slots
        self._now = now
        self.jobs: list[Job] = []
        self.most = 0
        self.closed = False
        self.cancelled: list[str] = []
        self._fates = fates
        self._line: list[Job] = []

    def start(self, job: Job) -> None:
        self.jobs.append(job)
        self._line.append(job)
        self.most = max(self.most, len(self._line))
        assert len(self._line) <= self.slots

    def wait(self, seconds: float) -> Sequence[Began | Ended]:
        if not self._line:
            self._now[0] += seconds
            return ()
        job = self._line.pop(0)
        fate = self._fates[job.cell][job.attempt - 1] if job.cell in self._fates else ended(answer=good())
        if isinstance(fate, BaseException):
            raise fate
        return Began(job.cell, job.attempt, "host"), replace(fate, cell=job.cell, attempt=job.attempt)

    def cancel(self, cell: str) -> None:
        self.cancelled.append(cell)
        self._fates[cell] = [ended(code=143, answer=bad("terminated", 143))] * 9

    def close(self) -> None:
        self.closed = True


def a_run(cells: Sequence[Cell], **more: Any) -> RunObject:
    objects = tuple(cell_object(cell) for cell in cells)
    values: dict[str, Any] = {
        "run": "20261122-aaaaaa", "file": "/m/cudabuild.toml", "fingerprint": "f", "executor": "local", "slots": 2,
        "status": "running", "started": "2026-11-22T01:00:00.0Z", "counts": counts_of(objects, 0), "cells": objects,
        "dropped": (),
    }  # fmt: skip
    return RunObject(**{**values, **more})


def ran(
    fates: dict[str, list[Ended | BaseException]], names: str = "abc", *, policy: Policy = PATIENT, slots: int = 2
) -> tuple[RunObject, Script, list[RunObject]]:
    """A run of cells by these names, where no time passes but that which is waited for."""
    now = [0.0]
    saved: list[RunObject] = []
    script = Script(slots, fates, now)
    tasks = [Task(name, lambda memory: ("build", f"{memory}"), NEED, None) for name in names]
    state = a_run([a_cell(name) for name in names])
    loop = MatrixRun(state, script, LineWatcher(), policy, save=saved.append, clock=lambda: now[0])
    try:
        loop.run(tasks)
    finally:
        assert script.closed
        assert saved[-1] == loop.state
    return loop.state, script, saved


def test_all_cells_are_run_and_no_more_than_there_are_slots() -> None:
    state, script, saved = ran({})
    assert [cell.status for cell in state.cells] == ["succeeded"] * 3
    assert (state.status, state.exit_code, state.counts.built) == ("done", 0, 3)
    assert (script.most, [job.cell for job in script.jobs]) == (2, ["a", "b", "c"])
    assert {cell.status for document in saved for cell in document.cells} == {"waiting", "running", "succeeded"}
    a = state.cells[0]
    assert (a.grade, a.peak_memory, a.jobs, a.proven[0].runs[0].gpu) == ("executed", 3 * GIB, 3, "H")


@pytest.mark.parametrize(
    ("fates", "tries", "status", "memory"),
    [
        pytest.param([ended(answer=good())], 1, "succeeded", 2, id="made at once"),
        pytest.param([ended(code=6, answer=bad("build-failed", 6))], 1, "failed", 2, id="never after a compile error"),
        pytest.param([ended(code=9, answer=bad("import-failed", 9))], 1, "failed", 2, id="never after a failed proof"),
        pytest.param([ended(code=8, answer=bad("timeout", 8))], 1, "failed", 2, id="never after its own deadline"),
        pytest.param(
            [ended(code=4, answer=bad("index-unreachable", 4)), ended(answer=good())], 2, "succeeded", 2, id="network"
        ),
        pytest.param([ended(code=4, answer=bad("index-unreachable", 4))] * 9, 4, "failed", 2, id="no network at all"),
        pytest.param([ended(code=4, answer=bad("hash-mismatch", 4))], 1, "failed", 2, id="a wrong hash is no network"),
        pytest.param(
            [ended(code=7, answer=bad("out-of-memory", 7)), ended(answer=good())], 2, "succeeded", 4, id="more memory"
        ),
        pytest.param([ended(code=7, answer=bad("out-of-memory", 7))] * 9, 3, "failed", 8, id="memory without end"),
        pytest.param(
            [ended(code=None, cause="memory"), ended(answer=good())], 2, "succeeded", 4, id="the node's limit"
        ),
        pytest.param([ended(code=None, cause="lost"), ended(answer=good())], 2, "succeeded", 2, id="a lost worker"),
        pytest.param([ended(code=-9)] * 9, 4, "failed", 2, id="killed from outside, again and again"),
        pytest.param(
            [ended(code=None, cause="walltime")] * 5 + [ended(answer=good())], 6, "succeeded", 2, id="resumed"
        ),
        pytest.param([ended(code=1)], 1, "failed", 2, id="it ended without a word"),
    ],
)
def test_whether_a_cell_is_tried_again_is_a_matter_of_the_cause(
    fates: list[Ended | BaseException], tries: int, status: str, memory: int
) -> None:
    state, script, _ = ran({"a": fates}, "a")
    cell = state.cells[0]
    assert (len(script.jobs), cell.status) == (tries, status)
    assert script.jobs[-1].need.memory == memory * GIB
    assert [attempt.number for attempt in cell.attempts] == list(range(1, tries + 1))
    assert all(attempt.again for attempt in cell.attempts[:-1])
    assert not cell.attempts[-1].again
    assert state.exit_code == (cell.error.exit_code if cell.error else 0)
    assert state.counts.retries == tries - 1


def test_more_memory_has_an_end_and_is_said_to_the_build() -> None:
    out_of_memory = ended(code=7, answer=bad("out-of-memory", 7))
    more = again(out_of_memory, ("memory",), NEED, 1 * GIB, largest=3 * GIB)
    assert more is not None
    assert (more.need.memory, more.memory) == (3 * GIB, 3 * GIB)
    assert again(out_of_memory, ("memory", "memory"), more.need, more.memory, largest=3 * GIB) is None
    mixed = ("network", "lost", "memory", "network")
    assert again(ended(code=4, answer=bad("index-unreachable", 4)), mixed, NEED, None, largest=None) is not None


def test_pauses_grow_where_the_network_fails_and_others_go_on_meanwhile() -> None:
    failed = ended(code=4, answer=bad("index-unreachable", 4))
    assert [
        (more.after if (more := again(failed, ("network",) * tries, NEED, None, largest=None)) else None)
        for tries in (1, 2, 3, 4)
    ] == [5.0, 20.0, 60.0, None]
    _, script, _ = ran({"a": [failed, ended(answer=good())]}, "abcd", slots=1)
    assert [job.cell for job in script.jobs] == ["a", "b", "c", "d", "a"]


def test_fail_fast_ends_what_runs_and_begins_no_more() -> None:
    broken = ended(code=6, answer=bad("build-failed", 6))
    state, script, _ = ran({"a": [broken]}, "abcd", policy=Policy(fail_fast=True))
    assert [cell.status for cell in state.cells] == ["failed", "not-run", "not-run", "not-run"]
    assert script.cancelled == ["b"]
    assert (state.exit_code, state.counts.left) == (6, 3)
    slow, _, _ = ran({"a": [broken], "c": [ended(code=9, answer=bad("probe-failed", 9))]}, "abcd")
    assert (slow.exit_code, slow.counts.failed, slow.counts.built) == (6, 2, 2)


def test_an_interrupted_run_ends_all_and_is_gone_on_with() -> None:
    fates: dict[str, list[Ended | BaseException]] = {"b": [Interrupted("interrupted (Ctrl-C)")]}
    with pytest.raises(Interrupted):
        ran(fates)
    # The same, looked at: what was done is done, what ran is to be run again.
    saved: list[RunObject] = []
    state = a_run([a_cell(name) for name in "abc"])
    tasks = [Task(name, lambda _memory: (), NEED, None) for name in "abc"]
    with pytest.raises(Interrupted):
        MatrixRun(state, Script(2, fates, [0.0]), LineWatcher(), Policy(), save=saved.append).run(tasks)
    left = saved[-1]
    assert left.status == "interrupted"
    assert [cell.status for cell in left.cells] == ["succeeded", "waiting", "waiting"]
    assert [attempt.cause for attempt in left.cells[1].attempts] == ["cancelled"]

    new = a_run([a_cell(name) for name in "abcd"], run="20261122-bbbbbb", started="2026-11-22T02:00:00.0Z")
    gone_on = continued(new, left, lambda _cell: True)
    assert (gone_on.run, gone_on.started) == (left.run, left.started)
    assert [cell.status for cell in gone_on.cells] == ["succeeded", "waiting", "waiting", "waiting"]
    assert len(gone_on.cells[1].attempts) == 1
    assert continued(new, left, lambda _cell: False).cells[0].status == "waiting", "its wheel was cleared away"


def test_causes() -> None:
    assert cause_of(ended(answer=good())) == ""
    assert cause_of(ended(code=0)) == "failed", "no answer is no wheel"
    assert cause_of(ended(code=None)) == "lost"
    assert cause_of(ended(code=None, cause="walltime")) == "walltime"


# The order


def test_longest_first_and_what_nobody_knows_is_long() -> None:
    seconds = {"a": 3.0, "b": 9.0, "c": None, "d": 9.0, "e": 0.0}
    assert longest_first(list("abcde"), seconds) == ["b", "c", "d", "a", "e"]
    assert longest_first(list("ab"), {}) == ["a", "b"]


@pytest.mark.parametrize(
    ("times", "slots", "took", "least"),
    [
        ([3, 3, 2, 2, 2], 2, 7, 6),  # Graham's own: the best is 6
        ([5, 5, 4, 4, 3, 3], 3, 8, 8),
        ([8, 1, 1], 2, 8, 8),
        ([], 2, 0, 0),
        ([2, 2], 5, 2, 2),
    ],
)
def test_the_makespan_of_list_scheduling(times: list[float], slots: int, took: float, least: float) -> None:
    seconds = {str(number): float(time) for number, time in enumerate(times)}
    order = longest_first(list(seconds), seconds)
    assert makespan(order, seconds, slots) == took
    assert lower_bound(seconds, slots) == least
    best = min((makespan(one, seconds, slots) for one in permutations(order)), default=0.0)
    assert least <= best
    assert took <= best * (4 / 3 - 1 / (3 * slots)) + 1e-9


# What is remembered


def past(**more: Any) -> Past:
    return replace(
        Past("vox", "1.2+pt2.13.cu130.sm86", "2.13.0+cu130", "cp311", ("8.6",), "cuda", 100.0, 4 * GIB, 2, "1"), **more
    )


@pytest.mark.parametrize(
    ("pasts", "cell", "wanted"),
    [
        pytest.param([], a_cell(), (None, 2 * GIB, None, "recipe"), id="nothing but the recipe"),
        pytest.param([past()], a_cell(), (100.0, 4 * GIB, 2, "same"), id="the same"),
        pytest.param([past(), past(seconds=90.0, created="2")], a_cell(), (90.0, 4 * GIB, 2, "same"), id="the newest"),
        pytest.param(
            [past(), past(seconds=3.0, created="2", whole=False)], a_cell(), (100.0, 4 * GIB, 2, "same"), id="whole"
        ),
        pytest.param([past()], a_cell(targets=("8.6;9.0;12.0",)), (200.0, 4 * GIB, 2, "alike"), id="more targets"),
        pytest.param(
            [past(seconds=50.0, torch="2.12.0+cu130", created="9"), past()], a_cell(), (100.0, 4 * GIB, 2, "same"),
            id="its own torch before a newer build",
        ),
        pytest.param([past(device="cpu")], a_cell(), (None, 2 * GIB, None, "recipe"), id="not that for the CPU"),
        pytest.param([past(package="other")], a_cell(), (None, 2 * GIB, None, "recipe"), id="nor another package"),
    ],
)  # fmt: skip
def test_estimates_are_of_what_is_most_alike(pasts: list[Past], cell: Cell, wanted: tuple[Any, ...]) -> None:
    found = estimate(cell, VOX, pasts)
    assert (found.seconds, found.memory, found.jobs, found.source) == wanted


def test_earlier_runs_are_remembered_wherever_they_were() -> None:
    state, _, _ = ran({"b": [ended(answer=good("hit"))], "c": [ended(code=6, answer=bad("build-failed", 6))]})
    (found,) = past_cells([state], {("vox", "1.2"): VOX})
    assert (found.seconds, found.memory, found.python, found.targets) == (12.0, 3 * GIB, "cp311", ("8.6",))
    assert not list(past_cells([state], {}))


def test_words_and_needs() -> None:
    cell = a_cell(memory=8 * GIB, timeout=3600.0, require="executed", gpu="h100")
    words = words_of(cell, ["--recipes", "/r"], "python3.13", 2, cell.memory)
    assert words == (
        "build", "vox==1.2", "--torch", "2.13.0+cu130", "--device", "cuda", "--target", "8.6", "--python", "python3.13",
        "--memory", "8192MiB", "--timeout", "3600s", "--require", "executed", "--jobs", "2", "--recipes", "/r",
    )  # fmt: skip
    plain = a_cell(recipe="./mine", version="", device="cpu", targets=())
    assert words_of(plain, [], None, None, None) == ("build", "./mine", "--torch", "2.13.0+cu130", "--device", "cpu")
    assert need_of(cell, VOX, Estimate(60.0, GIB, 2, "same"), None) == Need(
        8 * GIB, 2, "h100", 60.0, 4500.0, cell.platform
    )
    learned = need_of(a_cell(), VOX, Estimate(900.0, 10 * GIB, 2, "same"), 8)
    assert (learned.memory, learned.cpus, learned.walltime) == (round(12.5 * GIB), 8, 3600.0)
    assert need_of(a_cell(), VOX, Estimate(None, 2 * GIB, None, "recipe"), None).memory == round(8.5 * GIB)
    tasks = tasks_of(
        [a_cell("a"), a_cell("b")], {("vox", "1.2"): VOX},
        {"a": Estimate(1.0, None, None, "same"), "b": Estimate(2.0, None, None, "same")}, [], lambda _cell: None, None,
    )  # fmt: skip
    assert [task.cell for task in tasks] == ["b", "a"]
    assert tasks[0].words(3 * GIB)[-2:] == ("--memory", "3072MiB")


def test_a_matrix_with_another_recipe_is_another_one() -> None:
    packages = {("vox", "1.2"): VOX}
    mine = fingerprint([a_cell()], packages, [])
    assert mine == fingerprint([a_cell()], dict(packages), [])
    others = {
        fingerprint([a_cell(require="built")], packages, []),
        fingerprint([a_cell()], {("vox", "1.2"): replace(VOX, sha256="1")}, []),
        fingerprint([a_cell()], packages, ["--refresh"]),
    }
    assert len(others | {mine}) == 4


# What is kept


def test_runs_are_kept_found_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildkit.matrix.state.KEPT", 2)
    runs = Runs(tmp_path / "matrix")
    with pytest.raises(NoSuchBuild, match="no matrix was run here"):
        runs.find("last")
    for number in range(5):
        runs.write(a_run([a_cell()], run=f"r{number:04}", status="done", file=f"/{number % 2}"))
        os.utime(runs.folder / f"r{number:04}.json", (number, number))
        runs.logs(f"r{number:04}").mkdir()
    (runs.folder / "damaged.json").write_text("{", encoding="utf-8")
    assert runs.find("last").run == "r0004"
    assert runs.find("r0001").run == "r0001"
    newest = runs.newest_of("/0")
    assert newest is not None
    assert newest.run == "r0004"
    with pytest.raises(NoSuchBuild, match="no run nothing"):
        runs.find("nothing")
    runs.clear(keep="r0004")
    assert not runs.logs("r0001").exists()
    assert runs.logs("r0002").is_dir()
    assert len(list(runs.folder.glob("r*.json"))) == 3


def test_whether_a_run_is_at_work(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    mine = this_process()
    assert mine is not None
    state = a_run([a_cell()], process=mine)
    runs.write(state)
    assert runs.is_alive(state)
    assert not runs.is_alive(state.model_copy(update={"status": "done"}))
    gone = mine.model_copy(update={"start": mine.start + 1})
    assert not runs.is_alive(state.model_copy(update={"process": gone})), "another process by the same number"
    elsewhere = state.model_copy(update={"process": mine.model_copy(update={"host": "node7"})})
    assert runs.is_alive(elsewhere), "it gave a sign just now"
    os.utime(tmp_path / f"{state.run}.json", (1, 1))
    assert not runs.is_alive(elsewhere)


# What people and programs read


def several() -> RunObject:
    fates: dict[str, list[Ended | BaseException]] = {
        "b": [ended(code=6, answer=bad("build-failed", 6))],
        "c": [ended(code=4, answer=bad("index-unreachable", 4)), ended(answer=good("hit", 0.2, "imported"))],
    }
    state, _, _ = ran(fates, "abc")
    dropped = DroppedObject(id="d", kind="impossible", reason="there is no such torch\x00")
    return state.model_copy(update={"dropped": (dropped,), "counts": counts_of(state.cells, 1)})


def test_the_summary_says_what_was_proven_where_and_what_failed_why() -> None:
    text = "\n".join(run_lines(several()))
    assert "proven: executed on H (8.6): 1; imported on host: 1" in text
    assert "b: it is broken\n  x.cu:1\n  next: mend it\n  log: /l\n" in text
    assert "3 cells, 1 built, 1 from the store, 1 failed, 1 tried again" in text
    assert "  d  impossible  there is no such torch" in text


def test_lines_while_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    several()
    said = capsys.readouterr().err.splitlines()
    assert "[0/3] a: begun on host" in said
    assert "[1/3] a: built in 0:12, proven: executed" in said
    assert "[2/3] b: failed (build-failed): it is broken" in said
    assert "c: the network failed: again in 5 s" in said
    assert "[2/3] c: begun on host, try 2" in said
    assert "[3/3] c: from the store, proven: imported" in said
    assert len(said) == len(set(said)) == 8


def test_the_table_stands_below_the_lines_and_is_taken_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    watcher = TableWatcher()
    state = a_run([a_cell("a"), a_cell("b")])
    tasks = [Task(name, lambda _memory: (), NEED, None) for name in "ab"]
    MatrixRun(state, Script(1, {}, [0.0]), watcher, PATIENT, save=lambda _state: None).run(tasks)
    watcher.close()
    said = capsys.readouterr().err
    assert "1 running, 1 waiting, 0 built, 0 from the store, 0 failed" in said
    assert "[2/2] b: built in 0:12, proven: executed" in said
    assert said.endswith("\x1b[2K"), "nothing of the table is left"


def test_junit(tmp_path: Path) -> None:
    file = tmp_path / "junit.xml"
    file.write_text(junit_text(several()), encoding="utf-8")
    root = ElementTree.parse(file).getroot()  # noqa: S314  (our own)
    assert [root.get(name) for name in ("tests", "failures", "skipped")] == ["4", "1", "1"]
    cases = {case.get("name"): case for case in root.iter("testcase")}
    failure = cases["b"].find("failure")
    assert failure is not None
    assert (failure.get("type"), failure.text) == ("build-failed", "x.cu:1\nmend it")
    skipped = cases["d"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "impossible: there is no such torch?"
    assert "8.6: executed on H (8.6)" in (cases["a"].findtext("system-out") or "")


def test_the_objects_are_as_published() -> None:
    for name, text in (("show", show_matrix_schema_text()), ("run", run_matrix_schema_text())):
        published = (DOCS / f"matrix-{name}.schema.json").read_text("utf-8")
        assert published == text, "make it anew: python -m buildkit.cli.reference"
    document = json.loads(several().model_dump_json(by_alias=True))
    Draft202012Validator(json.loads(run_matrix_schema_text())).validate(document)
    RUN.validate_python(document)
    shown = show_object("/m", [Outlook(a_cell("a"), "missing", Estimate(60.0, GIB, 2, "alike"), note="nothing"),
                               Outlook(a_cell("b"), "stale", Estimate(30.0, GIB, 2, "same"), differs=("rev: a -> b",)),
                               Outlook(a_cell("c"), "missing", Estimate(None, None, None, "recipe")),
                               Outlook(a_cell("e"), "not-here", Estimate(None, None, None, "recipe"), note="no nvcc",
                                       hint="cudabuild toolkit install 12.8")],
                        [Dropped(a_cell("d"), "excluded", "because")], 2)  # fmt: skip
    document = json.loads(shown.model_dump_json(by_alias=True))
    Draft202012Validator(json.loads(show_matrix_schema_text())).validate(document)
    SHOWN.validate_python(document)
    assert (shown.totals.seconds, shown.totals.makespan, shown.totals.unknown) == (90.0, 60.0, 1)
    lines = "\n".join(show_lines(shown))
    rows = [line.split() for line in lines.splitlines()]
    assert ["a", "missing", "~1:00", "1", "GiB", "nothing"] in rows
    assert ["b", "stale", "0:30", "1", "GiB", "rev:", "a", "->", "b"] in rows
    assert "to do: about 1:30 of work, and 1 of which no time is known; about 1:00 with 2 cells at a time" in lines
    assert "  d  excluded  because" in lines
    assert "no nvcc\n  next: cudabuild toolkit install 12.8" in lines


def test_executors_by_their_names(tmp_path: Path) -> None:
    context = ExecutorContext(tmp_path, tmp_path, {}, 3, 8, tmp_path)
    executor = make_executor("local", context)
    assert isinstance(executor, LocalExecutor)
    assert executor.slots == 3
    assert make_executor("local", replace(context, slots=None, cpus=16)).slots == 4
    for spec, said in (
        ("locl", "did you mean 'local'"),
        ("local:2", "takes nothing after the colon"),
        ("slurm:x", "no such kind"),
    ):
        with pytest.raises(UsageError, match=said):
            make_executor(spec, context)


def test_folders_are_those_of_who_typed_them_not_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"find_links": ("links", "https://wheels.example/", "file:///x"), "store": "store", "pass_env": ("A=b",)}
    assert common_words(given) == [
        "--pass-env", "A=b", "--find-links", f"{tmp_path}/links", "--find-links", "https://wheels.example/",
        "--find-links", "file:///x", "--store", f"{tmp_path}/store",
    ]  # fmt: skip


def test_a_cell_goes_to_no_server(tmp_path: Path) -> None:
    """The executor has chosen where it is built: what a person's environment names is not asked again."""
    command = [sys.executable, "-c", "import json, os; print(json.dumps(os.environ['CUDABUILD_SERVER']))"]
    environ = {**os.environ, "CUDABUILD_SERVER": "http://192.0.2.1:9"}
    assert cell_environment(environ) == {**environ, "CUDABUILD_SERVER": ""}
    running = CellProcess(command, environ, tmp_path / "cell", tmp_path).start()
    running.wait()
    assert (tmp_path / "cell" / "answer.json").read_text() == '""\n'


def test_two_commands_do_not_both_begin_a_run(tmp_path: Path) -> None:
    """The second looks what runs only when the first has written that it does."""
    runs = Runs(tmp_path / "matrix")
    with runs.choosing(), pytest.raises(LockBusy), file_lock(runs.folder / "choosing.lock", patience=0.0):
        pass
    with runs.choosing():
        assert list(runs.newest_first()) == []
