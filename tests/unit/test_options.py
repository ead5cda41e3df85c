"""Options and switches that several commands share: what is understood, and what is refused before anything is done."""

from __future__ import annotations

import io
import json
from pathlib import Path

import click
import pytest

from buildkit.build.admission import is_guarded
from buildkit.build.context import Context
from buildkit.cli.main import cli, main
from buildkit.cli.options import Asked, make_context
from buildkit.errors import ConfigError
from buildkit.guard.client import Registration
from buildkit.guard.wire import decode
from buildkit.progress import Silent

pytestmark = pytest.mark.usefixtures("empty_machine")


def asked(*words: str) -> Asked:
    """What a build with these options asks for."""
    command = cli.get_command(click.Context(cli), "build")
    assert command is not None
    return Asked.read(command.make_context("build", ["one", *words]).params)


def context() -> Context:
    return make_context(Asked.read({}), Silent())


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0.0), ("0s", 0.0), ("0 min", 0.0), ("90s", 90.0), (None, 600.0)]
)  # fmt: skip
def test_a_build_may_be_idle_for_ever(text: str | None, seconds: float) -> None:
    words = [] if text is None else ["--stall-timeout", text]
    assert asked(*words).request("one").stall_timeout == seconds


@pytest.mark.parametrize("words", [("--timeout", "0"), ("--timeout", "0s"), ("--stall-timeout", "30")])
def test_no_other_time_is_nothing_or_without_a_unit(words: tuple[str, str]) -> None:
    with pytest.raises(click.BadParameter):
        asked(*words)


@pytest.mark.parametrize(
    ("value", "guarded"),
    [("off", False), ("OFF", False), (" Off ", False), ("on", True), ("", True), ("0123456789abcdef", True)],
)
def test_the_guard_is_on_or_off_whatever_the_case(value: str, guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDABUILD_GUARD", value)
    assert is_guarded(context()) is guarded


@pytest.mark.parametrize("name", ["CUDABUILD_GUARD", "CUDABUILD_CONTAINMENT", "CUDABUILD_DEFER"])
@pytest.mark.parametrize("value", ["0", "nonsense"])
def test_a_switch_with_another_word_is_refused_at_once(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"^{name}: .*'{value}'") as caught:
        Asked.read({})
    assert "--help" not in caught.value.hint
    assert "Input" not in caught.value.message


def test_deferring_may_be_switched_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDABUILD_DEFER", "OFF")
    monkeypatch.setenv("CUDABUILD_CONTAINMENT", "Subreaper")
    assert asked().request("one").defer is False


@pytest.mark.parametrize("words", [["build"], ["build", "--detach"], ["install"], ["fetch"], ["plan"]])
def test_a_package_that_is_no_text_is_refused_in_json(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="utf-8", errors="strict"))
    assert main([*words, "--json", "./nope\udcff"]) == 2
    error = json.loads(raw.getvalue())["error"]
    assert error["kind"] == "usage"
    assert "'./nope\\udcff' is not UTF-8" in error["message"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("encoding", "name"), [("utf-8", "nope\udcff"), ("ascii", "nöpe\U0001f600")])
def test_json_is_json_on_any_output(encoding: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
    assert main(["report", name, "--json"]) == 10
    assert name in json.loads(raw.getvalue().decode(encoding))["error"]["message"]


@pytest.mark.parametrize("words", [("--memory", "999999TiB"), ("--memory", "9" * 15 + "T"), ("-j", "1" + "0" * 18)])
def test_more_than_any_machine_has_is_refused(words: tuple[str, str]) -> None:
    with pytest.raises(click.BadParameter, match=r"at most 16384 TiB|100000"):
        asked(*words)


def test_the_most_that_can_be_asked_for_is_understood_by_the_broker() -> None:
    request = asked("--memory", "16384TiB", "-j", "100000").request("one")
    told = Registration("one", "13.0", 1, jobs=request.jobs or 0, budget=request.memory or 0).message()
    message = decode(told.rstrip(b"\n"))
    assert (message.number("budget"), message.number("jobs")) == (2**54, 100_000)
