"""Out of what other programs put around lines, and from lines to causes: the root cause first, wherever it stands."""

from __future__ import annotations

import re

import pytest

from buildkit.diagnose import text
from buildkit.diagnose.engine import findings
from buildkit.diagnose.rule import Rule
from buildkit.diagnose.text import core, read_log

ERROR = "g++: fatal error: Killed signal terminated program cc1plus"


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "      {}",
        "#12 34.56 {}",
        "#7 0.310       {}",
        "2026-11-21T06:01:02.1234567Z {}",
        "2026-11-21T06:01:02.1234567Z ##[error]{}",
        "build (3.11)\tInstall\t2026-11-21T06:01:02.1234567Z {}",
        "[2026-11-21T06:01:02.123Z] {}",
        "\x1b[31m{}\x1b[0m",
        "\x1b]8;;file:///x\x07{}\x1b]8;;\x07",
        "  │   {}",
        "      ╰─▶ {}",
        "\ufeff2026-11-21T06:01:02.1234567Z {}",
        "progress 10%\rprogress 50%\r{}",
        "{}\r",
        "> {}",
    ],
)
def test_what_is_around_a_line_is_taken_off(around: str) -> None:
    lines = ["[1/2] c++ -c x.cpp", "FAILED: x.o", ERROR, "ninja: build stopped: subcommand failed."]
    log = read_log("".join(around.format(line) + "\n" for line in lines))
    (finding, *_) = findings(log)
    assert finding.rule.id == "out-of-memory"
    assert [(each.line, each.text) for each in finding.evidence] == [(3, ERROR)]


def test_the_end_of_a_failed_docker_build() -> None:
    printed = f" > [4/5] RUN pip install example:\n0.412 Collecting example\n12.34 {ERROR}\n------\n"
    log = read_log("#8 ERROR: process did not complete\n------\n" + printed)
    assert [each.text for each in findings(log)[0].evidence] == [ERROR]


def test_lines_of_windows_and_numbers() -> None:
    log = read_log("one\r\ntwo\r\n\r\nfour\r\n")
    assert (list(log.lines), list(log.numbers)) == (["one", "two", "", "four"], [1, 2, 3, 4])
    assert list(read_log("a\nb\n", first=101).numbers) == [101, 102]
    assert list(read_log("").lines) == []


def test_what_cmake_broke_is_found_and_keeps_its_number() -> None:
    broken = "        CMake 3.99 or higher is\n        required.  You are running version 3.25.1\n"
    report = f"-- ok\n      CMake Error at CMakeLists.txt:3 (find_package):\n{broken}"
    (finding,) = findings(read_log(report))
    assert finding.rule.id == "cmake-too-old"
    assert finding.line == 3
    assert finding.cause == "the package wants CMake 3.99, and this is 3.25.1"


def test_of_a_long_line_both_ends_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "LONGEST_LINE", 100)
    log = read_log(f"c++ {'-I/x ' * 100}{ERROR}\n")
    assert len(log.lines[0]) < 120
    assert findings(log)[0].rule.id == "out-of-memory"


def test_template_errors_are_taken_as_they_are() -> None:
    line = "x.cu:3:5: error: no match for 'f(T) [with T = int]' in namespace thrust [/b] <b> {0} %s"
    assert core(f"   {line}") == line
    log = read_log(f"{line}\n{ERROR} [with T = int] [/b]\n")
    assert findings(log)[0].evidence[0].text == f"{ERROR} [with T = int] [/b]"


def rule(name: str, **more: object) -> Rule:
    return Rule(**{"id": name, "text": (name,), "cause": f"{name} it is", "hint": "ls", **more})  # type: ignore[arg-type]


def ids(lines: list[str], *known: Rule) -> list[str]:
    return [finding.rule.id for finding in findings(read_log("\n".join(lines)), known)]


def test_a_cause_stands_before_its_consequence_whatever_the_ranks() -> None:
    root = rule("root", rank=90)
    shallow = rule("shallow", rank=10, consequence_of=("root",))
    assert ids(["shallow", "root"], shallow, root) == ["root", "shallow"]
    assert ids(["shallow"], shallow, root) == ["shallow"]
    found = findings(read_log("shallow\nroot"), [shallow, root])
    assert [finding.because_of for finding in found] == ["", "root"]


def test_then_the_rank_counts_then_the_place() -> None:
    assert ids(["late", "early"], rule("early", rank=10), rule("late", rank=20)) == ["early", "late"]
    assert ids(["two", "one"], rule("one"), rule("two")) == ["two", "one"]


def test_a_line_is_told_once() -> None:
    assert ids(["one two"], rule("one", rank=20), rule("two", rank=10)) == ["two"]


def test_near_anywhere_and_not() -> None:
    near = rule("one", near=(re.compile("two"),), reach=2)
    assert ids(["one", "", "two"], near) == ["one"]
    assert ids(["one", "", "", "two"], near) == []
    assert ids(["one", "", "", "two", "one"], near) == ["one"], "a later line that has it counts"
    evidence = findings(read_log("one\n\ntwo"), [near])[0].evidence
    assert [(each.line, each.text) for each in evidence] == [(1, "one"), (3, "two")]
    assert ids(["one", *["x"] * 50, "two"], rule("one", anywhere=("three", "two"))) == ["one"]
    assert ids(["one"], rule("one", anywhere=("two",))) == []
    assert ids(["one not", "one"], rule("one", forbidden=re.compile("not"))) == ["one"]
    assert ids(["one not"], rule("one", forbidden=re.compile("not"))) == []


def test_sentences_take_over_what_the_line_says() -> None:
    known = rule(
        "lib",
        pattern=re.compile(r"lib(?P<name>\w+)(?P<more>!)?"),
        cause="no lib{name} {more}, here",
        hint="find {name}",
    )
    (finding,) = findings(read_log("x liba{0}b"), [known])
    assert (finding.cause, finding.hint) == ("no liba, here", "find a")
    (finding,) = findings(read_log(f"lib{'a' * 500}"), [known])
    assert len(finding.cause) < 150


def test_lines_behind_belong_to_the_evidence_and_it_stays_short() -> None:
    lines = ["one", "a", "", "b", "c"]
    assert [each.text for each in findings(read_log("\n".join(lines)), [rule("one", after=9)])[0].evidence] == [
        "one",
        "a",
        "b",
    ]


def test_the_same_line_a_thousand_times_is_one_finding() -> None:
    (finding,) = findings(read_log(f"{ERROR}\n" * 1000))
    assert finding.line == 1


def test_what_a_traceback_quotes_is_not_what_was_said() -> None:
    lines = ['    raise ValueError(f"Unknown CUDA arch ({arch})")', "ValueError: Unknown CUDA arch (sm_86) or GPU"]
    (finding,) = findings(read_log("\n".join(lines)))
    assert finding.line == 2
    assert "the target sm_86 in" in finding.cause
