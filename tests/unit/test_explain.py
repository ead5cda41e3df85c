"""``cudabuild explain``: any log, from a file, a build or standard input; what it prints, and how it ends."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from buildkit.cli import explain_input
from buildkit.cli.explain_schema import EXPLAINED, ExplainObject, explain_schema_text
from buildkit.cli.main import main
from buildkit.store.builds import BuildRecord, BuildRecords

pytestmark = pytest.mark.usefixtures("empty_machine")

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"
ERROR = "c++: fatal error: Killed signal terminated program cc1plus"
LOG = f"[1/2] c++ -c x.cpp\n{ERROR}\nninja: build stopped: subcommand failed.\n"
UNKNOWN = "one\nx.cpp:3:1: error: expected ';' [with T = int] [/b]\n  detail\n"


def explained(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["explain", *words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "build.log").write_text(LOG, "utf-8")
    code, out, err = explained(["build.log"], capsys)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "cause: a compiler was killed for lack of memory"
    assert lines[1] == f"  | 2: {ERROR}"
    assert lines[2].startswith("next: fewer at a time: --jobs 1")
    assert lines[3] == "see: docs/how-to/limit-memory-and-time.md"


def test_what_no_rule_knows_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_text(UNKNOWN, "utf-8")
    code, out, _ = explained(["x"], capsys)
    assert code == 1
    assert out.splitlines() == [
        "no rule knows the cause; the first error is:",
        "  | 2: x.cpp:3:1: error: expected ';' [with T = int] [/b]",
        "  | 3: detail",
        "next: read on from there: less +2 x",
    ]


@pytest.mark.parametrize(("text", "said"), [("", "this log is empty"), ("all is well\n", "this log reports no error")])
def test_a_log_without_an_error(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_text(text, "utf-8")
    code, out, _ = explained(["x"], capsys)
    assert code == 1
    assert out.splitlines()[0] == said


def test_further_causes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        "sh: 1: nvcc: not found",
        "Your installed Caffe2 version uses CUDA but I cannot find the CUDA libraries",
        "x.cpp:1:1: fatal error: glm/glm.hpp: No such file or directory",
    ]
    (tmp_path / "x").write_text("\n".join(lines), "utf-8")
    _, out, _ = explained(["x"], capsys)
    assert [line.split(":")[0] for line in out.splitlines()] == ["cause", "  | 3", "next", "also", "then"]
    assert out.splitlines()[-1].endswith("(line 2)")
    _, out, _ = explained(["x", "--all"], capsys)
    assert out.count("cause: ") == 3


def test_control_characters_are_shown_not_obeyed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_text(f"{ERROR} \x9b2J\u202e\n", "utf-8")
    _, out, _ = explained(["x"], capsys)
    assert "\\x9b2J\\u202e" in out


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(LOG.encode())))
    code, out, _ = explained(["-"], capsys)
    assert code == 0
    assert f"  | 2: {ERROR}" in out


@pytest.mark.parametrize(
    "data",
    [
        LOG.encode("utf-16"),
        b"caf\xe9 \xff\n" + LOG.encode(),
        b"\xef\xbb\xbf" + LOG.encode(),
        LOG.replace("\n", "\r\n").encode(),
    ],
    ids=["utf-16", "not-utf-8", "mark", "crlf"],
)
def test_however_it_is_encoded(data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_bytes(data)
    code, out, _ = explained(["x"], capsys)
    assert code == 0
    assert f": {ERROR}" in out


@pytest.mark.parametrize(
    ("data", "said", "hint"),
    [
        (b"\x7fELF\x02\x01\0\0\0", "x is no text", "cudabuild explain FILE"),
        (gzip.compress(LOG.encode()), "x is packed", "zcat x | cudabuild explain -"),
        (b"PK\x03\x04...", "x is packed", "unzip -p x | cudabuild explain -"),
    ],
)
def test_what_is_no_text(data: bytes, said: str, hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_bytes(data)
    code, out, err = explained(["x"], capsys)
    assert (code, out) == (2, "")
    assert said in err
    assert hint in err


@pytest.mark.parametrize(
    ("word", "code", "said"),
    [
        (".", 2, ". is a folder"),
        ("./nothing", 2, "there is no file ./nothing"),
        ("nothing.log", 2, "there is no file nothing.log"),
        ("", 2, "there is no file ''"),
        ("nothing", 10, "there is no file nothing, and no build nothing is recorded here"),
        ("loop", 2, "loop cannot be read"),
    ],
)
def test_what_is_not_there(word: str, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    found, out, err = explained([word], capsys)
    assert (found, out) == (code, "")
    assert said in err
    assert "next: " in err


def test_of_a_long_log_the_end_is_read_with_the_numbers_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(explain_input, "LOG_TAIL", 3000)
    monkeypatch.setattr(explain_input, "_CHUNK", 512)
    (tmp_path / "x").write_text("nvcc: not found\n" + "line of no interest\n" * 5000 + LOG, "utf-8")
    code, out, _ = explained(["x", "--json"], capsys)
    answer = json.loads(out)
    assert code == 0
    assert answer["cut"]
    assert answer["lines"] < 250
    assert [finding["rule"] for finding in answer["findings"]] == ["out-of-memory"]
    assert answer["findings"][0]["evidence"] == [{"line": 5003, "text": ERROR}]


@pytest.mark.parametrize(("text", "code"), [(LOG, 0), (UNKNOWN, 1), ("", 1)])
def test_the_answer_for_programs(text: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_text(text, "utf-8")
    found, out, err = explained(["x", "--json"], capsys)
    assert (found, err) == (code, "")
    answer = json.loads(out)
    Draft202012Validator(json.loads(explain_schema_text())).validate(answer)
    assert isinstance(EXPLAINED.validate_python(answer), ExplainObject)
    assert answer["explained"] == (code == 0)
    assert (answer["first_error"] or {}).get("line") == (2 if text else None)


def test_the_published_schema_is_the_models() -> None:
    published = (DOCS / "explain.schema.json").read_text("utf-8")
    assert published == explain_schema_text(), "make it anew: python -m buildkit.cli.reference"


def build(tmp_path: Path, text: str | None, error: str | None = "out-of-memory") -> BuildRecord:
    log = tmp_path / "logs" / "b1.log"
    log.parent.mkdir()
    if text is not None:
        log.write_text(text, "utf-8")
    status = "failed" if error else "succeeded"
    record = BuildRecord(
        id="20261121-b1", recipe="fast", started="2026-11-21T06:00:00Z", status=status, log=str(log), error=error
    )
    BuildRecords(tmp_path / "cache" / "store").write(record)
    return record


@pytest.mark.parametrize("word", ["last", "20261121-b1", "fast"])
def test_a_build(word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path, LOG)
    code, out, _ = explained([word, "--json"], capsys)
    answer = json.loads(out)
    assert code == 0
    assert (answer["build"], answer["ended"]) == ("20261121-b1", "out-of-memory")


def test_a_build_whose_log_shows_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path, "compiling\n", error="timeout")
    code, out, _ = explained(["last"], capsys)
    assert code == 1
    assert out.splitlines()[0] == "build 20261121-b1 ended with timeout; its log shows no cause that is known"
    assert "--timeout" in out.splitlines()[1]


def test_a_build_whose_log_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path, None)
    code, _, err = explained(["last"], capsys)
    assert code == 10
    assert "the log of build 20261121-b1 is gone" in err
