"""Every rule of diagnosis knows the log of its failure, says a cause and a next step, and is short when shown."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import click
import pytest

from buildkit.cli.commands import COMMANDS
from buildkit.cli.explain_command import cause_lines
from buildkit.cli.main import cli
from buildkit.cli.schema import causes
from buildkit.diagnose import shown
from buildkit.diagnose.engine import MOST_EVIDENCE, findings
from buildkit.diagnose.first import as_error
from buildkit.diagnose.rule import FOLDER, Rule, canary_rules, read_rules, rules
from buildkit.diagnose.shown import MOST_LINES, hint_of_kind, lines_of
from buildkit.diagnose.text import read_log
from buildkit.errors import BuildFailed, CudabuildError

ROOT = Path(__file__).resolve().parents[2]
LOGS = Path(__file__).parent / "data" / "logs"
NAMES = sorted(path.name for path in LOGS.glob("*.log"))
EVERY = [*rules(), *canary_rules()]
PROGRAMS = (
    "apt-file", "apt-get", "bash", "c++filt", "cudabuild", "df", "dmesg", "dnf", "docker", "echo", "env", "export",
    "file", "findmnt", "git", "ldd", "ls", "nvcc", "nvidia-smi", "pip", "python3", "reboot", "rm", "set", "ulimit",
    "uname", "unset", "uv", "which", "--",
)  # fmt: skip
"""What a hint may begin a command with; ``--`` is an option of cudabuild."""


def by_id(rule: Rule) -> str:
    return rule.id


@pytest.mark.parametrize("name", NAMES)
def test_a_real_log_is_known_as_what_it_is(name: str) -> None:
    log = read_log((LOGS / name).read_text("utf-8"))
    found = findings(log)
    assert [finding.rule.id for finding in found][:1] == [name.split(".", maxsplit=1)[0]]
    first = found[0]
    assert any(first.line == each.line for each in first.evidence)
    for each in first.evidence:
        assert each.text in (LOGS / name).read_text("utf-8").splitlines()[each.line - 1] or "CMake" in log.whole
    assert 1 <= len(first.evidence) <= MOST_EVIDENCE
    assert len(list(cause_lines(first))) <= MOST_LINES
    assert not re.search(r"[{}]|  | ,|\bNone\b", first.cause), first.cause


@pytest.mark.parametrize("name", NAMES)
def test_a_real_log_as_the_error_of_a_build(name: str) -> None:
    first = findings(read_log((LOGS / name).read_text("utf-8")))[0]
    error = as_error(first, BuildFailed, "/build/build.log")
    assert (error.kind, error.rule) == (first.rule.kind, name.split(".", maxsplit=1)[0])
    told = lines_of(error)
    assert len(told) <= MOST_LINES
    assert told[0] == f"error: {first.cause}"
    assert told[-2:] == [f"next: {first.hint}", "log: /build/build.log"]


def test_every_rule_has_its_log_and_every_log_its_rule() -> None:
    assert {name.split(".")[0] for name in NAMES} == {rule.id for rule in rules()}
    assert len({rule.id for rule in EVERY}) == len(EVERY)


@pytest.mark.parametrize("rule", EVERY, ids=by_id)
def test_a_rule_holds_together(rule: Rule) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.id)
    assert rule.kind in {cause.kind for cause in causes()}
    assert set(rule.consequence_of) <= {each.id for each in rules()} - {rule.id}
    assert rule.text
    assert all(rule.text)
    assert rule.provoked == (not rule.source), "what was not provoked says where its text is from"
    assert not rule.source or rule.source.startswith("https://github.com/")
    groups = set(rule.pattern.groupindex) if rule.pattern else set()
    used = set(re.findall(r"\{(\w*)\}", rule.cause + rule.hint))
    assert used <= groups
    for link in rule.links:
        assert link.startswith("https://") or (ROOT / link).is_file(), link


@pytest.mark.parametrize("rule", EVERY, ids=by_id)
def test_a_rule_is_searched_in_time_that_grows_with_the_line(rule: Rule) -> None:
    for pattern in filter(None, (rule.pattern, rule.forbidden, *rule.near)):
        assert not re.search(r"[*+}]\)[*+{]", pattern.pattern), "a repetition of a repetition"
        assert len(re.findall(r"(?<!\\)\.[*+]", pattern.pattern)) <= 2, "say how long: .{0,80}"


@pytest.mark.parametrize("rule", EVERY, ids=by_id)
def test_a_rule_says_a_cause_in_plain_words_and_a_next_step(rule: Rule) -> None:
    assert 10 < len(re.sub(r"\{\w+\}", "x", rule.cause)) < 160
    assert not rule.cause.endswith((".", "!"))
    assert not re.search(r"\b(?:ABI|ELF|SASS|JIT|PEP|soname|gencode|EROFS|ENOSPC|cubin|fatbin|TU)\b", rule.cause)
    assert is_a_step(rule.hint), rule.hint


def is_a_step(hint: str) -> bool:
    """Whether a hint holds a command, or a page of docs/ that is there."""
    pages = re.findall(r"docs/[\w/-]+\.md", hint)
    assert all((ROOT / page).is_file() for page in pages), hint
    for name in re.findall(r"`?cudabuild ([a-z]+)", hint):
        assert name in COMMANDS, hint
    starts = "|".join(re.escape(program) for program in PROGRAMS)
    command = rf"(?:^|[`(:;,]\s?|\b(?:or|by|to|then|and|as|for|with) )(?:{starts})"
    return bool(pages or re.search(command, hint) or re.search(r"\b[A-Z][A-Z_]{2,}=\S|(?:^|\s)--[a-z-]+ ", hint))


@cache
def own_options() -> frozenset[str]:
    context = click.Context(cli, info_name="cudabuild")
    commands = [cli.get_command(context, name) for name in COMMANDS]
    return frozenset(option for command in commands if command for item in command.params for option in item.opts)


@pytest.mark.parametrize("kind", [CudabuildError.kind, *(cause.kind for cause in causes())])
def test_every_kind_of_error_has_a_next_step(kind: str) -> None:
    hint = hint_of_kind(kind)
    assert kind in shown._hints()
    assert is_a_step(hint), hint
    for option in re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", hint):
        assert option in own_options() | {"--help", "--once"}, hint


@pytest.mark.parametrize("cause", [CudabuildError, *causes()], ids=lambda cause: str(cause.kind))
def test_every_error_is_told_in_six_lines(cause: type[CudabuildError]) -> None:
    error = cause("what failed\nand more of it", evidence="\n".join(f"line {n}" for n in range(30)), log="/x.log")
    told = lines_of(error)
    assert len(told) == MOST_LINES
    assert told[0] == "error: what failed"
    assert told[1] == "  | ... (29 lines before these: --json shows them)"
    assert told[3] == "  | line 29"
    assert told[-2].startswith("next: ")
    assert lines_of(cause("what failed", hint="type this")) == ["error: what failed", "next: type this"]


def test_no_kind_is_named_that_is_none() -> None:
    assert shown._hints().keys() == {CudabuildError.kind, *(cause.kind for cause in causes())}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('stage = "any"\nhelp = "x"', "help"),
        ('stage = "sometimes"', "no such stage"),
    ],
)
def test_what_is_no_rule_is_refused(tmp_path: Path, entry: str, said: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(f'[[rule]]\nid = "x"\ntext = ["x"]\ncause = "c"\nhint = "h"\n{entry}\n', "utf-8")
    with pytest.raises(ValueError, match=said):
        read_rules(file)


def test_every_file_of_rules_is_read() -> None:
    assert sum(len(read_rules(path)) for path in FOLDER.glob("*.toml")) == len(EVERY)
