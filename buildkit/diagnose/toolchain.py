"""From the log of a failed canary to what is wrong with the toolchain: the tool's own line, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from buildkit.diagnose.first import first_error

ANOTHER_TOOLKIT = "reinstall the CUDA toolkit, or give another one: --cuda-home PATH"
ANOTHER_COMPILER = "give another compiler, such as CC=gcc-12 CXX=g++-12"


@dataclass(frozen=True)
class Fault:
    """What is wrong in a few words, the line that shows it, and the next step."""

    message: str
    line: str
    hint: str


@dataclass(frozen=True)
class _Rule:
    """A line that names a fault. ``message`` and ``hint`` may use the groups of the pattern."""

    pattern: re.Pattern[str]
    message: str
    hint: str


_ABSENT = r"['\"]?:? (?:command )?(?:not found|No such file or directory|Permission denied)"
_TOOL = rf"(?:^|[\s/'\"])(?P<tool>ptxas|cicc|cudafe\+\+|fatbinary|nvlink|bin2c){_ABSENT}"
_HOST_TOOL = rf"(?:^|[\s/'\"])(?P<tool>cc1plus|cc1|as|ld|collect2|g\+\+|gcc|c\+\+){_ABSENT}"
_LIBRARY = (
    r"cannot find -l\S+|Could NOT find CUDAToolkit|lib\S+\.(?:a|so)\b.*(?:missing and no known rule|file too short|"
    r"file truncated|file format not recognized|malformed archive|error adding symbols|No such file)"
)

_RULES = (
    _Rule(re.compile(_TOOL), "the toolkit's {tool} cannot be started", ANOTHER_TOOLKIT),
    _Rule(re.compile(_HOST_TOOL), "the C++ compiler's {tool} cannot be started", ANOTHER_COMPILER),
    _Rule(
        re.compile(r"cannot execute \W(?P<tool>[\w+]+)\W"),
        "the C++ compiler's {tool} cannot be started",
        ANOTHER_COMPILER,
    ),
    _Rule(re.compile(r"unsupported (?:GNU|clang) version"), "nvcc refuses this C++ compiler", ANOTHER_COMPILER),
    _Rule(
        re.compile(r"/include/(?P<header>[^\s:(]+)(?:\(\d+\)|:\d+(?::\d+)?): (?:catastrophic |fatal )?error"),
        "the header {header} does not compile",
        f"reinstall what brings it; if it is the toolkit's, give another one: --cuda-home PATH; or {ANOTHER_COMPILER}",
    ),
    _Rule(re.compile(_LIBRARY), "a library of the toolkit is missing or damaged", ANOTHER_TOOLKIT),
    _Rule(
        re.compile(r"died due to signal|Segmentation fault|Bus error|Illegal instruction|internal (?:compiler )?error"),
        "a compiler crashed",
        f"{ANOTHER_TOOLKIT}; or {ANOTHER_COMPILER}",
    ),
)


def explain_toolchain(lines: Sequence[str]) -> Fault:
    """The fault that a log shows. Rules are tried from the plainest to the vaguest, each over the whole log."""
    whole = unwrapped(lines)
    for rule in _RULES:
        for line in whole:
            if found := rule.pattern.search(line):
                return Fault(rule.message.format(**found.groupdict()), line.strip(), rule.hint)
    return Fault("it does not build", "\n".join(first_error(whole)).strip(), "read the whole log")


def unwrapped(lines: Sequence[str]) -> list[str]:
    """The lines as the tools printed them: what CMake reports of a compiler it breaks at 77 columns.

    In its report lines are indented by two blanks, and an empty line stands between two lines of the tool's.
    """
    whole: list[str] = []
    reporting = going_on = False
    for line in lines:
        indented = line.startswith("  ") and not line.startswith("   ")
        inside = not line.strip() or line.startswith("  ")
        reporting = line.startswith("CMake Error") or (reporting and inside)
        if reporting and indented and going_on:
            whole[-1] = f"{whole[-1]} {line.strip()}"
        else:
            whole.append(line)
        going_on = reporting and indented
    return whole
