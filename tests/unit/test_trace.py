"""A build's trace: what the recorder makes of events and samples, its bounds, where it is kept."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from traces import GIB, Clock, event, memory, ran, recorder, trace_of

from buildkit.build.tracing import Tracing
from buildkit.errors import StoreError
from buildkit.guard.curve import Curve
from buildkit.guard.protocol import Sample
from buildkit.guard.trace import MOST_BYTES, MOST_RUNS, MOST_SECONDS, MOST_UNITS, Trace, read_trace
from buildkit.progress import Silent
from buildkit.store.model import Entry
from buildkit.store.store import Store
from buildkit.store.traces import Traces

# events


def test_a_unit_from_its_place_in_line_to_its_end() -> None:
    trace = trace_of([*ran(0, 1.0, 3.5, 13.5, peak=3 * GIB, cpu=9.25, code=0)], seconds=20.0)
    (unit,) = trace.units
    (run,) = unit.runs
    assert (unit.name, unit.kind, unit.key, unit.kills) == ("u0.cu", "nvcc", "k0", 0)
    assert (run.queued, run.start, run.end, run.outcome) == (1.0, 3.5, 13.5, "done")
    assert (run.wait, run.seconds, run.peak, run.cpu, run.bound, run.source) == (
        2.5, 10.0, 3 * GIB, 9.25, 2 * GIB, "seen",
    )  # fmt: skip
    assert (trace.seconds, trace.complete, trace.build, trace.cores) == (20.0, True, "20261121-3f2a", 4)


def test_a_killed_unit_stands_in_line_again() -> None:
    events = [
        event("queued", 0.0), event("started", 0.5),
        event("killed", 4.5, reason="pressure", peak=GIB, cpu=3.0, strikes=0),
        event("started", 6.0), event("ended", 16.0, peak=2 * GIB, cpu=8.0),
    ]  # fmt: skip
    (unit,) = trace_of(events, seconds=20.0).units
    assert [(run.outcome, run.queued, run.start, run.end) for run in unit.runs] == [
        ("killed", 0.0, 0.5, 4.5), ("done", 4.5, 6.0, 16.0),
    ]  # fmt: skip
    assert (unit.kills, unit.runs[0].reason, unit.peak, unit.cpu, unit.seconds, unit.wait) == (
        1, "pressure", 2 * GIB, 11.0, 14.0, 2.0,
    )  # fmt: skip


def test_how_else_a_unit_ends() -> None:
    events = [
        *ran(0, 0.0, 1.0, 2.0, code=1),
        event("queued", 0.0, 1), event("started", 1.0, 1), event("failed", 3.0, 1, reason="too-big", peak=GIB, cpu=1.0),
        event("queued", 0.0, 2), event("started", 1.0, 2), event("lost", 4.0, 2, peak=0),
        event("queued", 0.0, 3), event("started", 1.0, 3),
        event("queued", 0.0, 4),
    ]  # fmt: skip
    over = [(unit.runs[-1].outcome, unit.runs[-1].end) for unit in trace_of(events, seconds=9.0).units]
    assert over == [("failed", 2.0), ("given-up", 3.0), ("lost", 4.0), ("lost", 9.0), ("lost", 9.0)]
    so_far = trace_of(events, seconds=9.0, complete=False).units
    assert [unit.runs[-1].outcome for unit in so_far] == ["failed", "given-up", "lost", "running", "waiting"]
    assert so_far[3].runs[-1].end is None


def test_units_are_the_same_ones_after_the_broker_was_started_again() -> None:
    """Its numbers begin anew; what ran and what waited comes back by its process."""
    events = [
        event("queued", 0.0, 1), event("started", 0.0, 1),
        event("queued", 0.0, 2),
        event("queued", 5.0, 1, name="u2.cu", key="k2", pid=102),
        event("queued", 5.1, 2, name="u1.cu", key="k1", pid=101, running=55),
        event("ended", 9.0, 2, peak=GIB), event("started", 9.0, 1), event("ended", 12.0, 1, peak=GIB),
    ]  # fmt: skip
    units = trace_of(events, seconds=12.0).units
    assert [(unit.name, len(unit.runs), unit.runs[0].start, unit.runs[0].end) for unit in units] == [
        ("u1.cu", 1, 0.0, 9.0), ("u2.cu", 1, 9.0, 12.0),
    ]  # fmt: skip


def test_what_is_no_event_of_ours_is_passed_over() -> None:
    strange = [
        {"what": "reused", "name": "x"}, {}, {"what": "ended", "unit": "9", "at": "1"},
        {"what": "started", "at": "x", "unit": "1"}, {"what": "memory", "at": "1.0", "units": "-"},
        event("ended", 1.0, 77),
    ]  # fmt: skip
    clock = Clock()
    kept = recorder(clock)
    for one in strange:
        kept.hear(one)
    trace = kept.trace(complete=True)
    assert (trace.units, trace.memory, kept.progress()) == ((), (), None)


def test_what_a_client_claims_beyond_all_bounds_does_not_end_the_build() -> None:
    events = [event("queued", 0.0), event("started", 1.0, bound="9" * 30, threads="9" * 12)]
    trace = trace_of([*events, event("ended", 2.0, code="9" * 12, peak="9" * 30, cpu="9" * 12)], seconds=3.0)
    ((run,),) = (unit.runs for unit in trace.units)
    assert (run.outcome, run.peak, run.cpu) == ("failed", MOST_BYTES, MOST_SECONDS)
    assert read_trace(trace.as_bytes()) == trace


def test_names_that_json_cannot_hold_and_long_ones() -> None:
    trace = trace_of([*ran(0, 0, 1, 2, name="a\udcff\x1b[31m.cu"), *ran(1, 0, 1, 2, name="x" * 5000)], seconds=2.0)
    assert trace.units[0].name == "a\\udcff\x1b[31m.cu"
    assert len(trace.units[1].name) == 200
    assert read_trace(trace.as_bytes()) == trace


def test_progress_while_it_runs() -> None:
    clock = Clock()
    kept = recorder(clock)
    for one in [*ran(0, 0, 1, 2), event("queued", 2.0, 1), event("started", 2.0, 1), event("queued", 2.0, 2)]:
        kept.hear(one)
    assert kept.progress() is None
    kept.hear(memory(2.5, 3 * GIB))
    progress = kept.progress()
    assert progress is not None
    assert (progress.running, progress.waiting, progress.done) == (1, 1, 1)
    assert (progress.memory, progress.budget) == (3 * GIB, 4 * GIB)


def test_the_curve_comes_down_when_the_last_one_has_ended() -> None:
    trace = trace_of([*ran(0, 0.0, 1.0, 5.0), memory(4.9, GIB)], seconds=10.0)
    assert [(point.at, point.units, point.running) for point in trace.memory] == [(4.9, GIB, 1), (5.0, 0, 0)]


def test_processor_seconds_go_on_over_a_second_command() -> None:
    clock = Clock()
    kept = recorder(clock)
    for elapsed, cpu in ((1.0, 0.5), (2.0, 1.5), (0.2, 0.1), (1.2, 1.0)):
        clock.now += 1
        kept.sample(Sample(memory=5, cpu_seconds=cpu, processes=2, elapsed=elapsed))
    assert [point.cpu for point in kept.trace(complete=True).tree] == [0.5, 1.5, 1.6, 2.5]


# bounds


@settings(max_examples=30)
@given(st.lists(st.integers(0, 1000), max_size=300), st.integers(2, 20))
def test_a_curve_stays_short_and_keeps_its_extremes(values: list[int], most: int) -> None:
    curve: Curve[int] = Curve(max, most)
    for value in values:
        curve.add(value)
    kept = curve.points()
    assert len(kept) <= 2 * most
    assert len(kept) >= min(len(values), most)
    assert max(kept, default=0) == max(values, default=0)


def test_a_curve_is_folded_evenly() -> None:
    curve: Curve[tuple[int, int]] = Curve(lambda one, other: (one[0], other[1]), 4)
    for number in range(29):
        curve.add((number, number))
    widths = [last - first + 1 for first, last in curve.points()]
    assert widths == [4, 4, 4, 4, 4, 4, 4, 1]


def test_a_trace_of_a_huge_build_has_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildkit.guard.trace_recorder.MOST_UNITS", MOST_UNITS // 50)
    kept, most = recorder(Clock()), MOST_UNITS // 50
    for number in range(most + 20):
        end = 9.0 if number == most // 2 else 0.001 * (number + 2)
        for one in ran(number, 0.0, 0.001, end, name="n" * 500):
            kept.hear(one)
    for number in range(2500):
        kept.hear(memory(number / 4, number))
    trace = kept.trace(complete=True)
    assert (len(trace.units), trace.left_out) == (most, 20)
    assert most // 2 in {unit.order for unit in trace.units}
    assert [unit.order for unit in trace.units] == sorted(unit.order for unit in trace.units)
    assert max(point.units for point in trace.memory) == 2499
    assert len(trace.memory) <= 1200
    curve = len(trace.model_copy(update={"units": ()}).as_bytes())
    assert curve < 256 << 10
    assert (len(trace.as_bytes()) - curve) * 50 < 4 << 20


def test_a_unit_that_is_sent_back_for_ever_keeps_its_first_and_its_last_runs() -> None:
    events = [event("queued", 0.0)]
    for number in range(100):
        events += [
            event("started", number + 0.2),
            event("killed", number + 0.5, peak=number, cpu=0, reason="preempted"),
        ]
    (unit,) = trace_of([*events, event("started", 100.0), event("ended", 101.0)], seconds=101.0).units
    assert (unit.kills, len(unit.runs)) == (100, MOST_RUNS)
    assert (unit.runs[0].start, unit.runs[-1].outcome) == (0.2, "done")


# the file


def test_a_trace_is_read_as_it_was_written_and_nothing_else_is() -> None:
    trace = trace_of([*ran(0, 0, 1, 2), memory(1.5, GIB)], seconds=3.0)
    data = trace.as_bytes()
    assert read_trace(data) == trace
    assert read_trace(data[:-20]) is None
    assert read_trace(b"") is None
    assert read_trace(data.replace(b'"schema":1', b'"schema":2')) is None
    with pytest.raises(ValidationError):
        Trace.model_validate({**trace.model_dump(by_alias=True), "colour": "red"})


def test_traces_lie_beside_the_entries(tmp_path: Path) -> None:
    traces = Traces(tmp_path / "store")
    assert traces.read("20261121-3f2a") is None
    traces.write("20261121-3f2a", b"one", lasting=False)
    traces.write("20261121-3f2a", b"two")
    assert traces.read("20261121-3f2a") == b"two"
    assert [path.name for path in traces.folder.iterdir()] == ["20261121-3f2a.json"]
    traces.remove("20261121-3f2a")
    traces.remove("20261121-3f2a")
    assert traces.read("20261121-3f2a") is None
    with pytest.raises(StoreError):
        traces.path("../../etc/passwd")


def test_a_trace_goes_with_its_entry(tmp_path: Path) -> None:
    wheel = tmp_path / "p-1-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    key = "c" * 64
    entry = Entry(
        key=key, family=key, recipe="p", version="1", build="b1", created="2026-11-21T06:00:00Z", filename=wheel.name,
        sha256=hashlib.sha256(b"a wheel").hexdigest(), size=7, inputs={}, verdict={}, plan={}, seconds=1,
    )  # fmt: skip
    store = Store(tmp_path / "store")
    store.put(wheel, entry)
    traces = Traces(store.root)
    for build in ("b1", "b2"):
        traces.write(build, b"{}")
    store.remove(key)
    assert (traces.read("b1"), traces.read("b2")) == (None, b"{}")


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.seen: list[dict[str, int]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def admission(self, **now: int) -> None:
        self.seen.append(now)


def test_it_is_written_while_the_build_goes_on_and_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildkit.build.tracing.EVERY", 0.0)
    clock, heard, traces = Clock(), Heard(), Traces(tmp_path)
    tracing = Tracing(recorder(clock), traces, "b1", heard)
    samples: list[Sample] = []
    on_sample = tracing.around(samples.append)
    for one in (event("queued", 0.0), event("started", 0.0), memory(0.1, GIB)):
        tracing.hear(one)
    sample = Sample(memory=7, cpu_seconds=0.1, processes=1, elapsed=0.1)
    on_sample(sample)
    so_far = read_trace(traces.read("b1") or b"")
    assert so_far is not None
    assert (so_far.complete, so_far.units[0].runs[0].outcome, so_far.tree[0].memory) == (False, "running", 7)
    assert samples == [sample]
    assert heard.seen == [{"running": 1, "waiting": 0, "done": 0, "memory": GIB, "budget": 4 * GIB}]
    tracing.hear(event("ended", 2.0, peak=GIB))
    tracing.close(restarts=1)
    whole = read_trace(traces.read("b1") or b"")
    assert whole is not None
    assert (whole.complete, whole.restarts, whole.units[0].runs[0].outcome) == (True, 1, "done")


def test_a_trace_that_cannot_be_written_is_said_once_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "traces").write_text("a file where a folder should be")
    heard = Heard()
    tracing = Tracing(recorder(Clock()), Traces(tmp_path), "b1", heard)
    tracing.close(restarts=0)
    tracing.close(restarts=0)
    (note,) = heard.notes
    assert note.startswith("the trace of this build is not kept: ")
