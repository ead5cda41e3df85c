"""The outermost shell: which words mean which command, and what every kind of failure ends as."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from buildkit.cli import streams
from buildkit.cli.commands import COMMANDS
from buildkit.cli.main import cause_of, cli, main
from buildkit.diagnose.shown import hint_of_kind
from buildkit.errors import CudabuildError, OutOfMemory, Terminated, UnknownRecipe
from buildkit.plan.request import parse_torch

EVERY_COMMAND = [
    *((name,) for name in COMMANDS),
    *(("recipes", name) for name in ("list", "show", "check", "test", "new", "schema")),
    *(("cache", name) for name in ("path", "list", "show", "verify")),
    *(("toolkit", name) for name in ("list", "install", "path", "uninstall")),
]


pytestmark = pytest.mark.usefixtures("empty_machine")


@pytest.mark.parametrize("words", EVERY_COMMAND, ids=" ".join)
def test_every_command_helps_with_an_example(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "-h"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: cudabuild {' '.join(words)}")
    _, _, examples = shown.partition("Example")
    assert f"cudabuild {' '.join(words)}" in examples


def test_the_whole_helps_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert "cudabuild diso --target 12.0" in shown


@pytest.mark.parametrize("words", [["thing"], ["--target", "12.0", "thing"], ["-v", "thing"], ["./thing"], [""]])
def test_what_is_no_command_is_built(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def parse(_self: click.Group, _context: click.Context, arguments: list[str]) -> list[str]:
        seen.append(arguments)
        raise click.Abort

    monkeypatch.setattr(click.Group, "parse_args", parse)
    assert main(words) == 130
    assert seen == [["build", *words]]


@pytest.mark.parametrize("words", [["plan", "x"], ["-h"], ["--version"], []])
def test_a_command_stays_one(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def parse(_self: click.Group, _context: click.Context, arguments: list[str]) -> list[str]:
        seen.append(arguments)
        raise click.Abort

    monkeypatch.setattr(click.Group, "parse_args", parse)
    main(words)
    assert seen == [words]


def test_no_words_show_the_help_as_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["recipes"], ["cache"], ["toolkit"]):
        assert main(words) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith(f"Usage: {' '.join(['cudabuild', *words])} ")
        assert "error:" not in shown.err


def test_a_group_alone_with_json_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"]["kind"] == "usage"
    assert answer["error"]["hint"]


def test_usage_errors_name_the_commands_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diso", "--jobs", "0"]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.splitlines()[-1]) == ("", "next: see `cudabuild build --help`")
    assert main(["diso", "--jobs", "0", "--json"]) == 2
    shown = capsys.readouterr()
    answer = json.loads(shown.out)
    assert shown.err == ""
    assert list(answer) == ["schema", "build", "error"]
    assert (answer["schema"], answer["build"], answer["error"]["exit_code"]) == (1, None, 2)


CAUSES: list[tuple[BaseException, str, int]] = [
    (UnknownRecipe("x"), "unknown-recipe", 3),
    (OutOfMemory("x"), "out-of-memory", 7),
    (click.UsageError("x"), "usage", 2),
    (click.exceptions.Abort(), "interrupted", 130),
    (KeyboardInterrupt(), "interrupted", 130),
    (OSError(errno.ENOSPC, "full"), "disk-full", 10),
    (OSError(errno.EFBIG, "too large"), "disk-full", 10),
    (OSError(errno.EROFS, "read-only", "/x"), "read-only-cache", 10),
    (OSError(errno.EIO, "broken", "/x"), "store", 10),
]


@pytest.mark.parametrize(("error", "kind", "code"), CAUSES, ids=repr)
def test_everything_that_comes_up_has_a_cause(
    error: BaseException, kind: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: Any) -> None:
        raise error

    cause = cause_of(error)
    assert isinstance(cause, CudabuildError)
    assert (cause.kind, cause.exit_code) == (kind, code)
    monkeypatch.setattr(cli, "main", fail)
    assert main(["x", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == kind


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["toolkit", "install", "12.8"], "the same command again: it goes on with what was downloaded"),
        (["doctor"], "the same command again"),
        (["recipes", "list"], "the same command again"),
        (["recipes", "test", "diso"], hint_of_kind("interrupted")),
        (["install", "diso"], hint_of_kind("interrupted")),
        (["diso"], hint_of_kind("interrupted")),
    ],
)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Terminated("terminated by SIGTERM")], ids=repr)
def test_who_ends_a_command_is_told_what_that_command_goes_on_with(
    error: BaseException,
    words: list[str],
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def end(**_: Any) -> None:
        raise type(error)(*error.args)  # each time another: the hint is written into it

    monkeypatch.setattr(cli, "main", end)
    assert main(words) in {130, 143}
    assert capsys.readouterr().err.splitlines()[-1] == f"next: {hint}"


@pytest.mark.parametrize(
    "words", [("log",), ("report",), ("cancel",), ("monitor", "--once"), ("cache", "list"), ("cache", "verify")],
    ids=" ".join,
)  # fmt: skip
def test_a_cache_that_is_a_file_is_not_an_empty_one(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").touch()
    assert main(list(words)) == 10
    said = capsys.readouterr().err
    assert f"Not a directory: '{tmp_path / 'cache'}'" in said
    assert "next: set CUDABUILD_CACHE to a folder" in said


def test_a_package_without_a_form_for_the_cpu_is_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cumcubes", "--device", "cpu", "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], error["message"]) == ("no-cpu-form", "cumcubes has no form for the CPU")


def test_a_reader_that_has_gone_ends_it_quietly(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writing, "w", encoding="utf-8"))
    assert main(["recipes", "schema"]) == streams.READER_GONE
    sys.stdout.close()  # what was left in the buffer went to the null device
    assert capfd.readouterr().err == ""


def test_a_full_output_still_ends_with_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["recipes", "show", "no-such", "--json"]) == 3


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("active", "active"),
        ("2.13", "2.13.0"),
        ("2.13.0", "2.13.0"),
        (" 2.13.0+cu130 ", "2.13.0+cu130"),
        ("2.14+cpu", "2.14.0+cpu"),
        ("2.14.0.dev20260101+cu130", "2.14.0.dev20260101+cu130"),
        ("2.14.0rc1", "2.14.0rc1"),
    ],
)
def test_torch_versions(text: str, version: str) -> None:
    assert parse_torch(text) == version


@pytest.mark.parametrize("text", ["", "latest", "2", "2.13.0+", "../x", "2.13.0/../x", "==2.13.0", "2.13.0 +cu130"])
def test_what_is_no_torch_version(text: str) -> None:
    with pytest.raises(ValueError, match=r"write active, 2\.13\.0 or"):
        parse_torch(text)
