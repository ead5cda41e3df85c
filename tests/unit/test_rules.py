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
from buildkit.diagnose.engine import MOST_EVIDENCE, Finding, findings
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


NOISE = (
    "/bin/sh: 1: git: not found",
    "-- Could NOT find Git (missing: GIT_EXECUTABLE)",
    "fatal: ambiguous argument 'HEAD': unknown revision or path not in the working tree.",
    "fatal: bad object HEAD",
    "-- Could NOT find Python3 (missing: Python3_LIBRARIES Development Development.Embed)",
    "UserWarning: CUDA initialization: The NVIDIA driver on your system is too old (found version 11040).",
    "UserWarning: Failed to initialize NumPy: _ARRAY_API not found",
    "nvcc not found, building for CPU",
    "Building example without CUDA support",
    "WARNING: Retrying (Retry(total=4)) after 'NewConnectionError(Failed to establish a new connection)': /simple/",
    "cc1plus: note: unrecognized command-line option '-Wno-x' may have been intended to silence earlier diagnostics",
    "  123 |   } catch (std::bad_alloc e) {",
    "x.cpp:7:9: error: 'SIGKILL' was not declared in this scope",
    "curl: (28) Operation timed out after 30000 milliseconds with 0 bytes received",
)
"""What an ordinary build prints on its way, or a package's own error that looks like the machine's."""
UNKNOWN = "x.cpp:7:1: error: expected ';'"

SAID = (
    ("library-not-named", "ld: /usr/lib/libdl.so.2: error adding symbols: DSO missing from command line"),
    ("", "ninja: error: 'third_party/libfoo.a', needed by 'x.so', missing and no known rule to make it"),
    ("library-damaged", "ninja: error: '/usr/local/cuda/lib64/libcudart.so', needed by 'x', missing and no known rule"),
    ("torch-not-linked", "x.cpp:(.text+0x5): undefined reference to `THPVariableClass'"),
    ("missing-library", "/usr/bin/ld: cannot find -lcurl: No such file or directory"),
    ("missing-cuda-library", "/usr/bin/ld: cannot find -lcublasLt: No such file or directory"),
    ("missing-header", "x.cu:1:10: fatal error: cublas_utils.h: No such file or directory"),
    ("missing-cuda-header", "x.cu:1:10: fatal error: cublas_v2.h: No such file or directory"),
    ("missing-cuda-header", "x.cu:1:10: fatal error: cub/device/device_scan.cuh: No such file or directory"),
    ("", "g++: error: unrecognized command-line option '-msse4'"),
    ("index-unreachable", "fatal: unable to access 'https://x/': Connection timed out after 30001 milliseconds"),
    ("out-of-memory", "terminate called after throwing an instance of 'std::bad_alloc'"),
    ("out-of-memory", "  what():  std::bad_alloc"),
    (
        "unsupported-host-compiler",
        "The current installed version of g++ (12.2) is greater than the maximum required version by CUDA 11.7 (11.5)",
    ),
    ("gpu-newer-than-torch", "X with CUDA capability sm_120 is not compatible with the current PyTorch installation"),
    ("gpu-older-than-torch", "X with CUDA capability sm_70 is not compatible with the current PyTorch installation"),
)
"""Single lines that lie close to each other, and before each the rule that is to know it; empty for none."""


@pytest.mark.parametrize("name", NAMES)
def test_a_real_log_is_known_as_what_it_is(name: str) -> None:
    found = findings(read_log((LOGS / name).read_text("utf-8")))
    assert [finding.rule.id for finding in found][:1] == [name.split(".", maxsplit=1)[0]]
    first = found[0]
    assert any(first.line == each.line for each in first.evidence)
    for each in first.evidence:
        assert stands(each.text, (LOGS / name).read_text("utf-8").splitlines()[each.line - 1 :])
    assert 1 <= len(first.evidence) <= MOST_EVIDENCE
    assert len(list(cause_lines(first))) <= MOST_LINES
    assert not re.search(r"[{}]|  | ,|\bNone\b", first.cause), first.cause
    assert_it_makes_the_error_of_a_build(first, name)


def stands(text: str, lines: list[str]) -> bool:
    """Whether a text is in the first line, or is that line and those behind it, which CMake broke."""
    return text in lines[0] or " ".join(" ".join(lines).split()).startswith(" ".join(text.split()))


def assert_it_makes_the_error_of_a_build(first: Finding, name: str) -> None:
    error = as_error(first, BuildFailed, "/build/build.log")
    assert (error.kind, error.rule) == (first.rule.kind, name.split(".", maxsplit=1)[0])
    told = lines_of(error)
    assert len(told) <= MOST_LINES
    assert told[0] == f"error: {first.cause}"
    assert told[-2:] == [f"next: {first.hint}", "log: /build/build.log"]


@pytest.mark.parametrize("line", NOISE)
def test_what_a_build_prints_on_its_way_is_no_cause(line: str) -> None:
    assert findings(read_log(line)) == []
    assert {each.rule.kind for each in findings(read_log(f"{line}\n{UNKNOWN}\n{line}"))[:1]} <= {BuildFailed.kind}


@pytest.mark.parametrize(("rule", "line"), SAID)
def test_lines_that_lie_close_are_told_apart(rule: str, line: str) -> None:
    assert "".join(each.rule.id for each in findings(read_log(line))[:1]) == rule


@pytest.mark.parametrize("types", ["int64_t *, int64_t", "bool *, bool", "c10::Half *, c10::Half"])
def test_a_type_without_any_atomic_add_is_not_the_targets_fault(types: str) -> None:
    known = (LOGS / "atomic-add-double.log").read_text("utf-8")
    found = findings(read_log(known.replace("double *, double", types)))
    assert [each.rule.id for each in found] == ["atomic-add-type"]


def test_the_newest_compiler_that_nvcc_takes_is_the_one_to_install() -> None:
    log = "host_config.h:132:2: error: #error -- unsupported GNU version! gcc versions later than 11 are not supported!"
    assert "g++-11`" in findings(read_log(log))[0].hint


def test_what_pip_says_without_failing_ranks_last() -> None:
    conflict = (LOGS / "pinned-then-upgraded.log").read_text("utf-8")
    other = (LOGS / "missing-library.log").read_text("utf-8")
    assert findings(read_log(conflict + other))[0].rule.id == "missing-library"


def test_every_rule_has_its_log_and_every_log_its_rule() -> None:
    assert {name.split(".")[0] for name in NAMES} == {rule.id for rule in rules()}
    assert len({rule.id for rule in EVERY}) == len(EVERY)


@pytest.mark.parametrize("rule", EVERY, ids=lambda rule: str(rule.id))
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
    assert_it_is_searched_in_time_that_grows_with_the_line(rule)
    assert_it_says_a_cause_in_plain_words_and_a_next_step(rule)


def assert_it_is_searched_in_time_that_grows_with_the_line(rule: Rule) -> None:
    for pattern in filter(None, (rule.pattern, rule.forbidden, *rule.near)):
        assert not re.search(r"[*+}]\)[*+{]", pattern.pattern), "a repetition of a repetition"
        assert len(re.findall(r"(?<!\\)\.[*+]", pattern.pattern)) <= 2, "say how long: .{0,80}"


def assert_it_says_a_cause_in_plain_words_and_a_next_step(rule: Rule) -> None:
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
    return frozenset(
        option for command in (cli, *commands) if command for item in command.params for option in item.opts
    )


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
