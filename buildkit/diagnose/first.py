"""From a failed build's log to its cause: what a rule knows, else the first line that says what went wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from buildkit.diagnose.engine import Finding, findings
from buildkit.diagnose.text import core, read_log
from buildkit.errors import BadBackendAnswer, BuildFailed, CudabuildError, DiskFull, MissingHeaders, OutOfMemory

LOG_TAIL = 16 << 20
"""Bytes of a log that are looked at: the end, where the failing unit printed."""

_FIRST_ERROR = re.compile(
    r"(?:^|[\s:(])(?:fatal )?error\s*(?::|[A-Z]?\d+:)|^CMake Error|^\w*(?:Error|Exception)(?::|$)|^nvcc fatal|"
    r"undefined reference to|^(?:\S*[/-])?ld(?:\.\w+)?: (?!warning)|collect2: error|Unsupported gpu architecture",
    re.IGNORECASE,
)
_SURE = frozenset({DiskFull.kind, OutOfMemory.kind, MissingHeaders.kind})
"""Kinds that a failed build takes over from what its log says. A log holds much that has nothing to do with the
failure, and scripts act on kinds and exit codes: for the others the rule's words are the message, and no more."""
_LATER = frozenset({"import", "run"})
"""Stages that a failed build never came to."""
_STEMS = ("error", "exception", "fatal", "undefined", "ld: ", "ld.", "unsupported")
"""What a line must hold for the pattern to be tried, which takes far longer."""
_HEADER = re.compile(r"\$ |  \+\w+=")
"""The frontend's own lines at the beginning of each hook: the command and its environment."""
_NOISE = re.compile(
    r"error: command .* failed with exit|subprocess\.CalledProcessError|Error compiling objects|"
    r"error: subprocess-exited-with-error|error: metadata-generation-failed|error: failed-wheel-build-for-install|"
    r"ERROR: Failed (?:building wheel|to build)|did not (?:run|complete) successfully|Error: No module named pip"
)


def explain_failure(error: BuildFailed, log: Path, since: int = 0) -> CudabuildError:
    """The cause that the log names from byte ``since`` on, with the lines that show it and the log's path.

    Its ``rule`` is the id of the rule that knew it; empty where none did, and the first error is shown as it is.
    """
    lines = tail(log, since=since)
    read = read_log("\n".join(lines))
    found = [finding for finding in findings(read) if finding.rule.stage not in _LATER]
    if isinstance(error, BadBackendAnswer):
        own = {DiskFull.kind, OutOfMemory.kind}  # what makes a backend end well without its wheel
        found = [finding for finding in found if finding.rule.kind in own]
    if found:
        place = first_error_at(read.lines)
        first = "" if place is None else read.lines[place].rstrip()
        return as_error(found[0], type(error), str(log), sure=_SURE, first=first)
    if isinstance(error, BadBackendAnswer):
        error.log = str(log)  # its own words say it all: the log shows a build that went well
        return error
    return type(error)(
        error.message,
        evidence="\n".join(first_error(read.lines)),
        hint=error.hint or f"read the whole log: less {log}",
        log=str(log),
    )


def as_error(
    finding: Finding,
    failed: type[BuildFailed],
    log: str | None,
    *,
    sure: frozenset[str] | None = None,
    first: str = "",
) -> CudabuildError:
    """A finding as the error of a build; ``failed`` is its class where the rule has none of its own.

    ``sure`` are the kinds that a log alone may give an error (None: all). With another one the first line that reports
    an error is shown as well (``first``), so that a person can see whether the rule is right.
    """
    kind = _classes().get(finding.rule.kind, failed)
    shown = [line.text for line in finding.evidence]
    if sure is not None and kind.kind not in sure:
        kind = failed
        shown += [first] if first.strip() not in {"", *(each.strip() for each in shown)} else []
    evidence = "\n".join(shown)
    cause = failed if kind is BuildFailed else kind
    error = cause(finding.cause, evidence=evidence, hint=finding.hint, log=log)
    error.rule = finding.rule.id
    return error


def _classes() -> dict[str, type[CudabuildError]]:
    """Every class of cause by its kind: of those that share one, the most general."""
    found: dict[str, type[CudabuildError]] = {}
    for each in _below(CudabuildError):
        found.setdefault(each.kind, each)
    return found


def _below(cause: type[CudabuildError]) -> Iterator[type[CudabuildError]]:
    for each in cause.__subclasses__():
        yield each
        yield from _below(each)


def first_error(lines: Sequence[str]) -> list[str]:
    """The first line that reports an error, with the two after it; the last lines where none does."""
    position = first_error_at(lines)
    if position is not None:
        return [each.rstrip() for each in lines[position : position + 3]]
    return [line.rstrip() for line in lines if not _HEADER.match(line)][-5:]


def first_error_at(lines: Sequence[str]) -> int | None:
    """Where it stands; None where no line reports an error."""
    for position, line in enumerate(lines):
        low = line.lower()
        if not any(stem in low for stem in _STEMS):
            continue
        if _FIRST_ERROR.search(core(line)) and not _NOISE.search(line):
            return position
    return None


def tail(log: Path, since: int = 0) -> list[str]:
    """The end of a log as lines, from byte ``since`` on; what does not decode is escaped."""
    with log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(since, file.tell() - LOG_TAIL))
        text = file.read().decode("utf-8", "backslashreplace")
    return text.splitlines()
