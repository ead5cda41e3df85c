"""``cudabuild report``: the critical path, the page at any width, the file for Perfetto, the JSON."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from rich.cells import cell_len
from traces import GIB, event, memory, ran, trace_of

from buildkit.build.recorded import Recorded, find_recorded
from buildkit.build.recording import this_process
from buildkit.cli.main import main
from buildkit.cli.report_command import terminal_width, with_printable_names
from buildkit.cli.report_schema import REPORTED, report_object, report_schema_text
from buildkit.errors import NoSuchBuild
from buildkit.guard.trace import Trace, read_trace
from buildkit.report.canvas import BLOCKS, PLAIN, glyphs_for, text_of
from buildkit.report.chrome import MEMORY, RUNNING, WAITING, chrome_trace, lanes
from buildkit.report.critical import critical_path
from buildkit.report.page import report_lines
from buildkit.report.summary import summarise
from buildkit.store.builds import BuildRecord, BuildRecords
from buildkit.store.store import Store
from buildkit.store.traces import Traces

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"
EMPTY = trace_of([], seconds=0.0)


def two_lanes() -> list[Mapping[str, str]]:
    """0 and 1 at once; 2 stands in line until 1 gives its memory back; 3 is the link, once 2 and 0 are there."""
    return [
        *ran(0, 0.0, 0.0, 6.0), *ran(1, 0.0, 0.0, 4.0), *ran(2, 0.5, 4.0, 24.0, peak=3 * GIB),
        *ran(3, 25.0, 25.5, 27.0, kind="link"),
        memory(1.0, 2 * GIB, running=2, waiting=1), memory(10.0, 3 * GIB), memory(26.0, GIB),
    ]  # fmt: skip


def killed_once() -> list[Mapping[str, str]]:
    """1 is ended for 0's sake, and made again after it."""
    return [
        *ran(0, 0.0, 0.0, 10.0),
        event("queued", 0.0, 1), event("started", 1.0, 1), event("killed", 5.0, 1, peak=GIB, cpu=3.0),
        event("started", 10.0, 1), event("ended", 30.0, 1, peak=2 * GIB, cpu=18.0),
        memory(2.0, 3 * GIB, running=2), memory(20.0, 2 * GIB),
    ]  # fmt: skip


def names(trace: Trace) -> list[str]:
    return [link.unit.name for link in critical_path(trace.units).links]


# the critical path


def test_the_path_goes_back_over_the_ends_that_let_the_next_one_start() -> None:
    trace = trace_of(two_lanes(), seconds=28.0)
    path = critical_path(trace.units)
    assert names(trace) == ["u1.cu", "u2.cu", "u3.cu"]
    assert path.seconds == 27.0
    assert [(link.waited, link.backend) for link in path.links] == [(0, 0), (0, 0), (0.5, 1.0)]
    assert path.seconds_of(trace.units[2]) == 20.0
    assert path.seconds_of(trace.units[0]) == 0.0


def test_a_run_that_was_ended_can_be_on_the_path() -> None:
    events = [
        event("queued", 0.0), event("started", 0.0), event("killed", 8.0, peak=GIB, cpu=1.0, reason="memory"),
        event("started", 8.0), event("ended", 20.0, peak=GIB),
    ]  # fmt: skip
    trace = trace_of(events, seconds=20.0)
    path = critical_path(trace.units)
    assert [link.run.outcome for link in path.links] == ["killed", "done"]
    assert path.seconds_of(trace.units[0]) == path.seconds == 20.0


def test_nothing_ended_nothing_on_the_path() -> None:
    assert critical_path(EMPTY.units).links == ()
    started = trace_of([event("queued", 0.0), event("started", 0.0)], seconds=5.0, complete=False)
    assert critical_path(started.units).seconds == 0.0


SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5), st.integers(0, 30)), max_size=25)


@settings(max_examples=25)
@given(SPANS)
def test_a_path_is_a_chain_in_time_that_accounts_for_every_second(spans: list[tuple[int, int, int]]) -> None:
    events = [
        one
        for number, (queued, wait, length) in enumerate(spans)
        for one in ran(number, queued, queued + wait, queued + wait + length)
    ]
    trace = trace_of(events, seconds=0.0)
    path = critical_path(trace.units)
    assert bool(path.links) == bool(spans)
    inner = sum(link.run.seconds for link in path.links)
    assert inner + path.waited + path.backend == pytest.approx(path.seconds)
    for before, after in itertools.pairwise(path.links):
        assert before.run.end is not None
        assert after.run.start is not None
        assert before.run.end <= after.run.start + 0.002
    if spans:
        assert path.links[-1].run.end == max(queued + wait + length for queued, wait, length in spans)


# figures and advice


def test_the_longest_is_named_with_its_share() -> None:
    summary = summarise(trace_of(two_lanes(), seconds=28.0))
    assert summary.longest is not None
    assert (summary.longest.name, round(summary.share, 3)) == ("u2.cu", 0.741)
    assert (summary.units, summary.done, summary.together, summary.peak, summary.kills) == (4, 4, 2, 3 * GIB, 0)
    assert [text.split(":")[0] for text in summary.advice] == ["u2.cu bounds this build"]


def test_advice_on_kills_waiting_serial_backends_and_backends_that_do_other_things() -> None:
    assert "4 s went into runs that were ended" in summarise(trace_of(killed_once(), seconds=30.0)).advice[-1]
    line = [*ran(0, 0.0, 0.0, 10.0), *ran(1, 0.0, 14.0, 24.0), *ran(2, 0.0, 24.0, 34.0)]
    assert any("stood in line for 4 s" in text for text in summarise(trace_of(line, seconds=34.0)).advice)
    serial = [one for number in range(3) for one in ran(number, 10.0 * number, 10.0 * number, 10.0 * number + 9)]
    assert any("one compilation at a time" in text for text in summarise(trace_of(serial, seconds=30.0)).advice)
    assert not any("at a time" in text for text in summarise(trace_of(serial, seconds=30.0, jobs=1)).advice)
    slow = [*ran(0, 10.0, 10.0, 12.0), *ran(1, 12.0, 12.0, 12.5)]
    (advice,) = summarise(trace_of(slow, seconds=20.0)).advice
    assert advice.startswith("17.5 s of 20.0 s are the backend's own")


def test_what_is_known_of_a_build_that_runs() -> None:
    events = [*ran(0, 0, 0, 2), event("queued", 2.0, 1), event("started", 2.0, 1), event("queued", 2.0, 2)]
    trace = trace_of(events, seconds=5.0, complete=False)
    summary = summarise(trace)
    assert (summary.done, summary.running, summary.waiting) == (1, 1, 1)
    page = text(trace, 80)
    assert "5.0 s so far, 3 compilations, 1 running, 1 waiting" in page


# the page


def text(trace: Trace, width: int, *, most: int = 30, plain: bool = False) -> str:
    lines = report_lines(trace, width=width, glyphs=PLAIN if plain else BLOCKS, most=most)
    return "\n".join(text_of(line) for line in lines)


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("events", [two_lanes, killed_once])
def test_no_line_is_wider_than_the_terminal(width: int, events: Any) -> None:
    page = text(trace_of(events(), seconds=30.0), width)
    assert all(cell_len(line) <= width for line in page.splitlines())
    assert "longest: u" in page
    assert "u0.cu" in page


def test_the_page_of_a_build_that_was_short_of_memory() -> None:
    lines = text(trace_of(killed_once(), seconds=30.0), 66).splitlines()
    assert lines[0] == "30.0 s, 2 compilations, 2 at once at most, of 4, 1 ended and made"
    assert lines[1] == "again (4.0 s thrown away), 58.0 s of processor time"
    assert lines[3:7] == [
        "      0                                                     30.0 s",
        "u0.cu ████████████████████",
        "u1.cu ··▒▒▒▒▒▒▒▒··········████████████████████████████████████████",
        "█ runs   · waits   ▒ ended and made again",
    ]
    assert lines[8] == "memory of compilations: 3 GiB at most, budget 4 GiB at least"
    assert lines[9] == "     4 GiB " + 3 * " " + 52 * "─"
    assert lines[14].startswith("         0    █████")
    assert lines[16:19] == [
        "the longest  seconds  waited   peak   cpu  kills  path",
        "u1.cu           24.0     6.0  2 GiB  21.0      1   67%",
        "u0.cu           10.0     0.0  1 GiB   1.5      0   33%",
    ]
    assert lines[20] == "longest: u1.cu, 24.0 s: 67% of the critical path of 30.0 s"


def test_a_budget_far_above_leaves_the_curve_its_room() -> None:
    page = text(trace_of([*ran(0, 0, 0, 9), memory(1.0, GIB, 90 * GIB)], seconds=10.0), 80)
    assert "memory of compilations: 1 GiB at most, budget 90 GiB at least: far above" in page
    assert "─" not in page


def test_many_compilations_are_cut_to_the_longest() -> None:
    events = [one for number in range(60) for one in ran(number, 0.0, number, number + 1.0 + number / 100)]
    page = text(trace_of(events, seconds=62.0), 80, most=20)
    assert "and 40 shorter ones" in page
    assert "u59.cu" in page
    assert "u10.cu" not in page


def test_an_empty_trace_and_one_without_the_broker_have_a_page() -> None:
    assert text(EMPTY, 80).startswith("0.0 s, 0 compilations")
    alone = trace_of([], seconds=5.0).model_copy(update={"admitted": False})
    page = text(alone, 80)
    assert "not known: they were not admitted one by one" in page
    assert "memory of all processes: 1 GiB at most, budget 8 GiB at least: far above" in page


def test_control_characters_are_shown_and_wide_ones_keep_the_columns() -> None:
    events = [*ran(0, 0, 0, 5, name="\x1b[31mred\n\u202e.cu"), *ran(1, 0, 0, 5, name="漢字漢字漢字漢字漢字漢字漢字.cu")]
    page = text(with_printable_names(trace_of(events, seconds=5.0)), 60)
    assert "\x1b" not in page
    assert "\\x1b[31mred" in page
    assert all(cell_len(line) <= 60 for line in page.splitlines())


def test_an_output_that_knows_only_ascii_gets_ascii() -> None:
    assert glyphs_for("ascii") is glyphs_for(None) is PLAIN
    assert glyphs_for("utf-8") is BLOCKS
    assert text(trace_of(killed_once(), seconds=30.0), 80, plain=True).isascii()


# the file for Perfetto


def test_the_file_holds_to_the_trace_event_format() -> None:
    trace = trace_of([*two_lanes(), *killed_once_shifted()], seconds=60.0)
    document = json.loads(json.dumps(chrome_trace(trace), allow_nan=False))
    assert document["displayTimeUnit"] in {"ms", "ns"}
    for one in document["traceEvents"]:
        assert one["ph"] in {"X", "C", "M"}
        assert isinstance(one["name"], str)
        assert isinstance(one["pid"], int)
        assert isinstance(one["tid"], int)
        assert isinstance(one["ts"], int)
        assert one["ts"] >= 0
        assert isinstance(one["args"], dict)
        if one["ph"] == "X":
            assert isinstance(one["dur"], int)
            assert one["dur"] >= 0
        if one["ph"] == "C":
            assert all(isinstance(value, (int, float)) for value in one["args"].values())
    named = {(one["pid"], one["tid"]) for one in document["traceEvents"] if one["name"] == "thread_name"}
    spans = [one for one in document["traceEvents"] if one["ph"] == "X"]
    assert {(one["pid"], one["tid"]) for one in spans} == named
    assert {one["pid"] for one in document["traceEvents"]} == {RUNNING, WAITING, MEMORY}


def killed_once_shifted() -> list[Mapping[str, str]]:
    """Its units behind those of the other build."""
    return [{**one, "unit": f"1{one['unit']}", "at": f"{float(one['at']) + 30:.3f}"} for one in killed_once()]


def test_runs_in_the_file_are_those_of_the_trace_in_microseconds() -> None:
    trace = trace_of(two_lanes(), seconds=28.0)
    events = chrome_trace(trace)["traceEvents"]
    runs = {one["name"]: one for one in events if one["ph"] == "X" and one["pid"] == RUNNING}
    assert (runs["u2.cu"]["ts"], runs["u2.cu"]["dur"], runs["u2.cu"]["args"]["peak"]) == (
        4_000_000,
        20_000_000,
        3 * GIB,
    )
    waits = [(one["name"], one["ts"], one["dur"]) for one in events if one["ph"] == "X" and one["pid"] == WAITING]
    assert waits == [("u2.cu", 500_000, 3_500_000), ("u3.cu", 25_000_000, 500_000)]
    budget = [one["args"]["bytes"] for one in events if one["ph"] == "C" and one["name"] == "budget"]
    assert budget[0] == 4 * GIB


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=30))
def test_no_two_spans_of_a_lane_overlap_and_lanes_are_few(spans: list[tuple[int, int]]) -> None:
    placed = sorted((float(begin), float(begin + length)) for begin, length in spans)
    found = lanes(placed)
    for lane in set(found):
        own = [span for span, number in zip(placed, found, strict=True) if number == lane]
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(own))
    together = max((sum(begin <= at < end for begin, end in placed) for at, _ in placed), default=0)
    assert len(set(found)) == together


# which build


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Builds: one that ended well with a trace, one that failed without, one that runs here, one that was killed."""
    store = Store(tmp_path / "store")
    records = BuildRecords(store.root)
    base = BuildRecord(id="b1", key="a" * 64, recipe="fast", started="2026-11-21T06:00:00Z", status="succeeded")
    records.write(base)
    records.write(base.model_copy(update={"id": "b2", "recipe": "slow", "status": "failed", "error": "timeout",
                                          "log": "/logs/b2.log"}))  # fmt: skip
    mine = this_process()
    assert mine is not None
    before = mine.model_copy(update={"start": mine.start - 1})  # the number was given anew
    running = {"status": "running", "started": "2026-11-21T07:00:00Z"}
    records.write(base.model_copy(update={"id": "b3", **running, "process": this_process()}))
    records.write(base.model_copy(update={"id": "b4", "recipe": "gone", **running, "process": before}))
    Traces(store.root).write("b1", trace_of(two_lanes(), seconds=28.0).as_bytes())
    return store


def test_a_build_is_found_with_its_trace_and_how_it_stands(store: Store) -> None:
    found = find_recorded("b1", store)
    assert found.trace is not None
    assert (found.recipe, found.status, len(found.trace.units)) == ("fast", "succeeded", 4)
    failed = find_recorded("slow", store)
    assert (failed.status, failed.cause, failed.trace) == ("failed", "timeout", None)
    assert find_recorded("b3", store).status == "running"
    assert find_recorded("gone", store).status == "killed"
    with pytest.raises(NoSuchBuild, match="no build nothing is recorded"):
        find_recorded("nothing", store)


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": "Infinity"}, {"seconds": "NaN"}, {"seconds": "1e308"}, {"queued": "6.5"}, {"end": "3.0"},
        {"cpu": "1e308"}, {"at": "-Infinity"}, {"units": "1" + "0" * 4000}, {"threads": "1" + "0" * 4000},
    ],
)  # fmt: skip
def test_a_damaged_trace_is_said_to_be_one(
    change: dict[str, str], store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDABUILD_CACHE", str(store.root.parent))
    ((key, value),) = change.items()
    events = [*ran(0, 1.0, 4.0, 6.0), memory(1.0, GIB)]
    written = trace_of(events, seconds=28.0).as_bytes().decode()
    data = re.sub(rf'"{key}":[0-9.]+', f'"{key}":{value}', written)
    assert data != written
    Traces(store.root).write("b1", data.encode())
    assert main(["report", "b1"]) == 0
    assert "its trace cannot be read: it is damaged" in capsys.readouterr().out
    assert main(["report", "b1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trace"] is None
    assert main(["report", "b1", "--trace", str(store.root / "trace.json")]) == 10


def test_a_trace_of_an_instant_is_shown() -> None:
    data = trace_of([*ran(0, 0.0, 0.0, 6.0), memory(0.0, GIB)], seconds=28.0).as_bytes()
    trace = read_trace(data.replace(b'"seconds":28.0', b'"seconds":5e-324'))
    assert trace is not None
    assert "u0.cu" in text(trace, 80)
    assert report_object(Recorded("b", "r", None, "succeeded", "2026", None, None, None, trace)).trace == trace


def test_the_published_schema_is_the_models() -> None:
    published = (DOCS / "report.schema.json").read_text("utf-8")
    assert published == report_schema_text(), "make it anew: python -m buildkit.cli.reference"


def test_what_is_printed_holds_to_the_schema(store: Store) -> None:
    validator = Draft202012Validator(json.loads(report_schema_text()))
    for name in ("b1", "b2", "b3", "b4"):
        printed = report_object(find_recorded(name, store)).model_dump(mode="json", by_alias=True)
        validator.validate(printed)
        assert REPORTED.validate_python(printed).schema_ == 1
    (link, *_) = report_object(find_recorded("b1", store)).summary.critical_path.links  # type: ignore[union-attr]
    assert (link.name, link.order) == ("u1.cu", 1)


def test_the_command(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CUDABUILD_CACHE", str(store.root.parent))
    monkeypatch.setenv("COLUMNS", "70")
    target = store.root.parent / "trace.json"
    assert main(["report", "b1", "--trace", str(target)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("fast, build b1 of 2026-11-21 06:00 UTC: succeeded\n28.0 s, 4 compilations")
    assert max(len(line) for line in out.splitlines()) <= 70
    assert "ui.perfetto.dev" in err
    assert json.loads(target.read_text())["otherData"]["recipe"] == "fast"
    assert main(["report", "slow"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("failed (timeout)")
    assert main(["report", "slow", "--trace", str(target), "--json"]) == 10
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "no-such-build"
    assert main(["report", "b3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "running"


@pytest.mark.parametrize(
    ("columns", "width"), [("70", 70), ("0070", 70), ("0", 100), ("x", 100), ("100000", 1000), ("9" * 5000, 1000)]
)
def test_a_pipe_is_as_wide_as_it_is_said_to_be_within_reason(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setenv("COLUMNS", columns)
    assert terminal_width() == width


def test_a_page_on_an_ascii_output_has_any_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from buildkit.cli.report_command import print_lines

    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    print_lines([(("ünï.cu", "green"),)])
    assert raw.getvalue() == b"\\xfcn\\xef.cu\n"


def test_a_record_without_a_trace_is_no_error() -> None:
    recorded = Recorded("b9", "r", None, "failed", "2026-11-21T06:00:00Z", None, "no-target", None, None)
    assert report_object(recorded).summary is None
