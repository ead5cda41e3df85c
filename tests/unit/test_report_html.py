"""A build's page as one file: what is in it, that it stays small, and that nothing in it is obeyed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pages import CORPUS, failed_view, many_units, poisoned_view, some_units, view
from stored import entry_of, inputs_of, wheel_of
from traces import GIB, memory, ran, trace_of

from buildkit.cli.main import main
from buildkit.report.ansi import LONGEST, pieces
from buildkit.report.changes import of_inputs, of_plans
from buildkit.report.curves import curves_of
from buildkit.report.excerpt import HEAD, TAIL, Gap, LogLine, read_excerpt, shown_lines
from buildkit.report.gantt import gantt_of
from buildkit.report.gather import gather
from buildkit.report.html import LARGEST, single_file
from buildkit.report.summary import summarise
from buildkit.report.view import BuildView, Change, Excerpt
from buildkit.store.builds import BuildRecord, BuildRecords
from buildkit.store.store import Store
from buildkit.store.traces import Traces

VOID = {"meta", "input", "br", "rect", "link"}


class Page(HTMLParser):
    """A page's elements, with the texts of scripts and styles, and whether all of them are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in self.raw:
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]][-1] += data
        else:
            self.text += data

    def ids(self) -> list[str]:
        return [attrs["id"] or "" for _, attrs in self.elements if "id" in attrs]


# colours


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", []),
        ("plain", [("plain", "")]),
        ("\x1b[1;31mred\x1b[0m rest", [("red", "b c1"), (" rest", "")]),
        ("\x1b[1mbold\x1b[22m \x1b[4;3mboth\x1b[m", [("bold", "b"), (" ", ""), ("both", "i u")]),
        ("\x1b[97mbright\x1b[39;44mback\x1b[49m.", [("bright", "c15"), ("back", "k4"), (".", "")]),
        ("\x1b[38;5;9mnine\x1b[38;5;200mpink\x1b[38;2;1;2;3;1mbold", [("nine", "c9"), ("pink", ""), ("bold", "b")]),
        ("a\x1b[2K\x1b[1Ab\x1b]0;title\x07c\x1b(B", [("abc", "")]),
        ("10 %\r50 %\r100 %\r", [("100 %", "")]),
        ("a\tb\x07\u202e", [("a       b\\x07\\u202e", "")]),
        ("\x1b[31", [("\\x1b[31", "")]),
        ("\x1b[;;;m;m", [(";m", "")]),
        ("\x1b[38;5m\x1b[48m.", [(".", "")]),
    ],
)
def test_a_line_keeps_its_colours_and_nothing_else_that_a_terminal_obeys(
    line: str, expected: list[tuple[str, str]]
) -> None:
    assert pieces(line) == expected


def test_a_long_line_is_cut_with_a_word() -> None:
    ((text, _),) = pieces("x" * (LONGEST + 7))
    assert text.endswith("x ... (7 more characters)")


# the log


def numbers(log: Excerpt, budget: int) -> list[int | tuple[int, int]]:
    return [one.number if isinstance(one, LogLine) else (one.first, one.last) for one in shown_lines(log, budget)]


def test_a_long_log_is_read_at_its_ends_and_keeps_its_numbers(tmp_path: Path) -> None:
    file = tmp_path / "log"
    lines = [f"line {number} {'x' * 90}" for number in range(1, 30_001)]
    file.write_text("\n".join(lines) + "\n")
    log = read_excerpt(file)
    assert len(log.head) < HEAD // 90
    assert (log.total, log.size) == (30_000, file.stat().st_size)
    assert sum(map(len, log.tail)) <= TAIL
    shown = list(shown_lines(log, 100_000))
    gap = next(one for one in shown if isinstance(one, Gap))
    for one in shown:
        if isinstance(one, LogLine):
            assert one.pieces[0][0] == lines[one.number - 1]
            assert not gap.first <= one.number <= gap.last
    assert len(shown) + gap.last - gap.first == 30_000
    assert 60_000 < sum(60 + len(one.pieces[0][0]) for one in shown if isinstance(one, LogLine)) <= 100_000


def test_what_fits_is_shown_whole_and_what_does_not_says_so() -> None:
    log = Excerpt(head=("a", "b", "c"), size=6)
    assert numbers(log, 10_000) == [1, 2, 3]
    assert numbers(log, 0) == [(1, 3)]
    assert numbers(Excerpt(head=("a",), tail=("z",), skipped=5), 10_000) == [1, (2, 6), 7]
    assert numbers(Excerpt(), 100) == []


def test_bytes_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"caf\xc3\xa9 \xff\nlast without an end")
    assert read_excerpt(tmp_path / "log").head == ("caf\xe9 \\xff", "last without an end")


# bars and curves


def test_bars_are_where_the_runs_were_and_the_longest_is_marked() -> None:
    trace = some_units()
    gantt = gantt_of(trace, summarise(trace))
    (longest,) = [row for row in gantt.rows if row.longest]
    assert longest.beginning + longest.end == longest.name == "attention_forward_hdim256_bf16_causal_sm120.cu"
    assert [(bar.kind, bar.x, bar.width) for bar in longest.bars] == [("wait", 1.786, 12.5), ("run", 14.286, 71.429)]
    killed = next(row for row in gantt.rows if row.name == "sorting.cu")
    assert [bar.kind for bar in killed.bars] == ["wait", "kill", "wait", "run"]
    assert "(memory)" in killed.bars[1].title
    assert (gantt.left_out, gantt.lanes) == (0, ())


def test_many_compilations_have_lanes_and_the_longest_rows() -> None:
    trace = many_units(400)
    gantt = gantt_of(trace, summarise(trace), most=50)
    assert (len(gantt.rows), gantt.left_out, len(gantt.lanes)) == (50, 350, 8)
    assert sum(row.longest for row in gantt.rows) == 1
    assert sum("star" in bar.kind for lane in gantt.lanes for bar in lane) >= 1
    assert all(0 <= bar.x <= 100 and bar.x + bar.width <= 100.1 for lane in gantt.lanes for bar in lane)


def test_a_budget_far_above_is_told_and_not_drawn() -> None:
    trace = trace_of([*ran(0, 0, 0, 9), memory(1.0, GIB, 90 * GIB)], seconds=10.0)
    curves = curves_of(trace, summarise(trace))
    assert curves is not None
    assert curves.data["budget"] == [[], []]
    assert curves.words == "Compilations held 1 GiB at most; the budget was 90 GiB at least, far above."
    empty = trace_of([], seconds=0.0)
    assert curves_of(empty, summarise(empty)) is None


def test_changes_are_told_by_name() -> None:
    assert list(of_plans({"torch": "1", "jobs": 2}, {"torch": "2", "jobs": 2, "cuda": "13.0"})) == [
        Change("torch", "1", "2")
    ]
    old, new = {"environment": {"CFLAGS": "-O2"}, "torch": "1"}, {"environment": {"CFLAGS": "-O3"}, "torch": "2"}
    assert list(of_inputs(old, new)) == [Change("environment.CFLAGS", "-O2", "-O3")]


# the file


def test_the_file_names_its_own_scripts_and_styles_and_nothing_from_elsewhere() -> None:
    text = single_file(view())
    page = Page(text)
    assert page.open == []
    policy = next(attrs["content"] or "" for _, attrs in page.elements if attrs.get("http-equiv"))
    ran_here = [
        script
        for script, (_, attrs) in zip(page.raw["script"], [e for e in page.elements if e[0] == "script"], strict=True)
        if "type" not in attrs
    ]
    assert len(ran_here) == 2
    for piece in [*ran_here, *page.raw["style"]]:
        assert base64.b64encode(hashlib.sha256(piece.encode()).digest()).decode() in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert not [attrs for _, attrs in page.elements if "src" in attrs or "style" in attrs]
    links = [attrs["href"] or "" for _, attrs in page.elements if "href" in attrs]
    assert all(link.startswith("#") for link in links)
    assert len(page.ids()) == len(set(page.ids()))
    assert {link[1:] for link in links} <= set(page.ids())


def test_the_file_tells_all_of_a_success() -> None:
    page = Page(single_file(view()))
    for told in ("fast", "imported", "machine code present, never executed", "2.12.0+cu126", "python -m pip install",
                 "longest: attention_forward", "Compilations held 3.5 GiB at most", "no GPU visible"):  # fmt: skip
        assert told in page.text, told
    assert "Why it failed" not in page.text
    assert "L43" in page.ids()


def test_a_failure_stands_on_top_with_a_link_to_its_line() -> None:
    text = single_file(failed_view())
    page = Page(text)
    assert text.index("Why it failed") < text.index("Timeline of compilations")
    assert ("a", {"href": "#L2"}) in page.elements
    assert "cudabuild toolkit install 13.0" in page.text
    assert '<i class="b c1">fatal error:</i>' in text


def test_a_build_of_which_nothing_is_known_has_a_page() -> None:
    page = Page(single_file(BuildView(build="b", recipe="r", status="killed", started="2026-11-21T06:00:00Z")))
    for told in ("Nothing was measured", "No earlier success of r", "there is no verdict", "It is empty"):
        assert told in page.text, told


def test_two_thousand_compilations_and_a_long_log_stay_below_two_megabytes() -> None:
    log = Excerpt(head=("x" * 80,) * 1500, tail=("\x1b[31m<&>\x1b[0m" * 5,) * 5000, skipped=10**6, size=10**9)
    text = single_file(view(trace=many_units(2000), log=log))
    assert 500_000 < len(text.encode()) < LARGEST
    assert "1850 shorter ones have no row here" in text
    assert re.search(r"Lines \d+ to \d+ are left out here: <code>cudabuild log 20261121-3f2a<", text)
    assert 'id="L1006500"' in text


def test_names_that_are_too_long_are_cut() -> None:
    events = [one for n in range(300) for one in ran(n, 0, 0, 5.0 + n / 1000, name="n" * 5000)]
    assert len(single_file(view(trace=trace_of(events, seconds=9.0), recipe="r" * 10_000)).encode()) < LARGEST


def test_the_corpus_stays_text_wherever_it_stands() -> None:
    text = single_file(poisoned_view())
    page, clean = Page(text), Page(single_file(failed_view(verdict=view().verdict, wheel=view().wheel)))
    assert page.open == []
    names = {tag for tag, _ in page.elements}
    assert names <= {tag for tag, _ in clean.elements} | {"p"}
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on") or name == "srcdoc"]
    assert [one for one in page.raw["script"] if "owned" in one] == []
    assert "{{ 7 * 7 }}" in page.text
    assert CORPUS[0] in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u200b]", text.partition("<script>")[0])


# out of the cache


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Of one recipe a success, then a failure, then what the store had, then one that was killed."""
    store = Store(tmp_path / "store")
    records = BuildRecords(store.root)
    wheel = wheel_of(tmp_path / "made", 1)
    plan = {"torch": "2.12.0+cu126", "jobs": 2}
    entry = entry_of(wheel, 1, build="b1", plan=plan, verdict=json.loads(view().verdict.model_dump_json(by_alias=True)))  # type: ignore[union-attr]
    store.put(wheel, entry)
    base = BuildRecord(id="b1", key=entry.key, recipe="sample", started="2026-11-21T06:00:00Z", status="succeeded")
    records.write(base)
    Traces(store.root).write("b1", some_units().as_bytes())
    log = tmp_path / "b2.log"
    log.write_text("build        2\nk.cu:12: fatal error: here.h: No such file or directory\nninja: build stopped\n")
    answer = {"build": "b2", "version": "2.0", "plan": {"torch": "2.13.0+cu130", "jobs": 2}, "error": {
        "kind": "build-failed", "message": "the header here.h is missing", "hint": "look for it",
        "evidence": "k.cu:12: fatal error: here.h: No such file or directory", "exit_code": 6,
        "rule": None}}  # fmt: skip
    log.with_suffix(".json").write_text(json.dumps(answer))
    records.write(base.model_copy(update={"id": "b2", "key": "c" * 64, "started": "2026-11-21T07:00:00Z",
        "status": "failed", "error": "build-failed", "log": str(log), "finished": "2026-11-21T07:00:05Z"}))  # fmt: skip
    Traces(store.root).write("b2", trace_of([*ran(0, 0, 0, 2)], seconds=3.0).as_bytes())
    hit = tmp_path / "b3.log"
    hit.write_text("from the store\n")
    hit.with_suffix(".json").write_text(json.dumps({"build": "b1", "cache": "hit", "key": entry.key, "seconds": 0.1}))
    records.write(base.model_copy(update={"id": "b3", "key": None, "started": "2026-11-21T08:00:00Z",
                                          "log": str(hit)}))  # fmt: skip
    records.write(base.model_copy(update={"id": "b4", "started": "2026-11-21T09:00:00Z", "status": "failed",
                                          "error": "timeout", "recipe": "other", "log": "/gone"}))  # fmt: skip
    return store


def test_a_failure_is_gathered_with_its_line_and_what_changed(store: Store, tmp_path: Path) -> None:
    found = gather("b2", store, wheels=tmp_path / "wheels")
    assert found.diagnosis is not None
    assert [(one.line, one.text[:8]) for one in found.diagnosis.evidence] == [(2, "k.cu:12:")]
    assert (found.diagnosis.cause, found.diagnosis.hint) == ("the header here.h is missing", "look for it")
    assert found.since is not None
    changed = {change.what: (change.before, change.now) for change in found.since.changes}
    assert found.since.build == "b1"
    assert changed["torch"] == ("2.12.0+cu126", "2.13.0+cu130")
    assert changed["compilations"] == ("4", "1")
    assert (found.version, found.seconds, found.wheel, found.grade) == ("2.0", 5.0, None, "")


def test_a_success_is_gathered_with_its_proof_and_lines(store: Store, tmp_path: Path) -> None:
    found = gather("b1", store, wheels=tmp_path / "wheels")
    assert (found.status, found.grade, found.since, found.diagnosis) == ("succeeded", "imported", None, None)
    assert found.wheel is not None
    assert found.lines[0].text == f'python -m pip install "$(cudabuild cache path {found.key[:16]})"'
    assert dict(found.inputs)["torch"] == inputs_of(1).torch


def test_what_came_from_the_store_says_so(store: Store, tmp_path: Path) -> None:
    found = gather("b3", store, wheels=tmp_path / "wheels")
    assert (found.grade, found.no_trace) == ("imported", "The store had it: nothing was compiled.")
    assert found.seconds == 0.1


def test_a_log_that_is_gone_is_no_error(store: Store, tmp_path: Path) -> None:
    found = gather("b4", store, wheels=tmp_path / "wheels")
    assert found.log.note == "Its log cannot be read: No such file or directory."
    assert found.diagnosis is not None
    assert (found.diagnosis.cause, found.diagnosis.kind) == ("it ended with timeout", "timeout")


def test_the_command_writes_the_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDABUILD_CACHE", str(store.root.parent))
    target = tmp_path / "out.html"
    assert main(["report", "b2", "--html", str(target)]) == 0
    assert f"{target}: open it in a browser" in capsys.readouterr().err
    assert "the header here.h is missing" in Page(target.read_text("utf-8")).text
    assert main(["report", "b2", "--html", str(tmp_path / "no" / "folder.html"), "--json"]) == 10
