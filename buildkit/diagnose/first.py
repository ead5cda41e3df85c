"""From a failed build's log to its cause: the first line that says what went wrong, not the last one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import BadBackendAnswer, BuildFailed, CudabuildError, DiskFull, MissingHeaders, OutOfMemory

LOG_TAIL = 16 << 20
"""Bytes of a log that are looked at: the end, where the failing unit printed."""


@dataclass(frozen=True)
class Rule:
    """A line that names a cause. ``hint`` may use the groups of the pattern."""

    pattern: re.Pattern[str]
    cause: type[CudabuildError]
    message: str
    hint: str


RULES = (
    Rule(
        re.compile(r"No space left on device|Disk quota exceeded"),
        DiskFull,
        "the disk ran full while building",
        "free some space, or set CUDABUILD_CACHE to another disk",
    ),
    Rule(
        re.compile(
            r"died due to signal 9|Killed signal terminated program|fatal error: Killed|virtual memory exhausted|"
            r"std::bad_alloc|Cannot allocate memory|out of memory allocating|^\s*Killed\b|LLVM ERROR: out of memory"
        ),
        OutOfMemory,
        "a compiler was killed for lack of memory",
        "fewer at a time: --jobs 1; or raise the limit of the container, the WSL2 VM or the Slurm job",
    ),
    Rule(
        re.compile(r"Python\.h: No such file"),
        MissingHeaders,
        "Python's own headers are missing",
        "apt-get install python3-dev; dnf install python3-devel",
    ),
)

_FIRST_ERROR = re.compile(
    r"(?:^|[\s:(])(?:fatal )?error\s*(?::|[A-Z]?\d+:)|^CMake Error|^\w*(?:Error|Exception)(?::|$)|^nvcc fatal|"
    r"undefined reference to|^(?:\S*[/-])?ld(?:\.\w+)?: (?!warning)|collect2: error|Unsupported gpu architecture",
    re.IGNORECASE,
)
_HEADER = re.compile(r"\$ |  \+\w+=")
"""The frontend's own lines at the beginning of each hook: the command and its environment."""
_NOISE = re.compile(r"error: command .* failed with exit|subprocess\.CalledProcessError|Error compiling objects")


def explain_failure(error: BuildFailed, log: Path, since: int = 0) -> CudabuildError:
    """The cause that the log names from byte ``since`` on, with the line that shows it and the log's path."""
    lines = tail(log, since=since)
    for rule in RULES:
        for line in lines:
            if rule.pattern.search(line):
                return rule.cause(rule.message, evidence=line.strip(), hint=rule.hint, log=str(log))
    if isinstance(error, BadBackendAnswer):
        error.log = str(log)  # its own words say it all: the log shows a build that went well
        return error
    found = first_error(lines)
    return type(error)(
        error.message,
        evidence="\n".join(found),
        hint=error.hint or f"read the whole log: less {log}",
        log=str(log),
    )


def first_error(lines: list[str]) -> list[str]:
    """The first line that reports an error, with the two after it; the last lines where none does."""
    for position, line in enumerate(lines):
        if _FIRST_ERROR.search(line) and not _NOISE.search(line):
            return [each.rstrip() for each in lines[position : position + 3]]
    return [line.rstrip() for line in lines if not _HEADER.match(line)][-5:]


def tail(log: Path, since: int = 0) -> list[str]:
    """The end of a log as lines, from byte ``since`` on; what does not decode is escaped."""
    with log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(since, file.tell() - LOG_TAIL))
        text = file.read().decode("utf-8", "backslashreplace")
    return text.splitlines()
