"""Why a build failed, for its page: what its answer says, and what the rules find in its log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from buildkit.diagnose.engine import Finding, findings
from buildkit.diagnose.first import first_error_at
from buildkit.diagnose.shown import hint_of_kind
from buildkit.diagnose.text import Log, core, read_log
from buildkit.report.text import printable, shortened
from buildkit.report.view import Diagnosis, Excerpt, Shown

_ALSO = 3
"""Further causes that are named."""
_MOST_LINES = 12
"""Lines of evidence."""
_LONGEST = 1000
_KILLED = "it ended without a word: its process was killed, or the machine went down"


def diagnosis_of(status: str, kind: str, error: Mapping[str, Any] | None, excerpt: Excerpt) -> Diagnosis | None:
    """The diagnosis of a build that did not end well; None of any other. ``error`` is the object of its answer."""
    if status not in {"failed", "killed", "cancelled"}:
        return None
    log = _read(excerpt)
    found = findings(log)
    if error is not None:
        return _told(error, found, log)
    if status == "cancelled":
        return Diagnosis("it was cancelled", kind or "cancelled", hint="type its command again: it goes on from there")
    if found:
        return _found(found, kind or found[0].rule.kind)
    return _unknown(status, kind, log)


def _read(excerpt: Excerpt) -> Log:
    """The end of a long log, the whole of another: causes stand where it ends."""
    if excerpt.tail:
        return read_log("\n".join(excerpt.tail), first=1 + len(excerpt.head) + excerpt.skipped)
    return read_log("\n".join(excerpt.head))


def _told(error: Mapping[str, Any], found: Sequence[Finding], log: Log) -> Diagnosis:
    """As the build itself said it; its lines are looked up in the log."""
    message, *more = str(error.get("message") or error.get("kind") or "it failed").strip().split("\n")
    lines = [line for line in [*more, *str(error.get("evidence") or "").split("\n")] if line.strip()]
    numbers = {core(line): number for line, number in zip(reversed(log.lines), reversed(log.numbers), strict=True)}
    same = next((one for one in found if one.rule.id == error.get("rule")), None)
    return Diagnosis(
        cause=_short(message),
        kind=str(error.get("kind") or "error"),
        evidence=tuple(Shown(_short(line), numbers.get(core(line))) for line in lines[-_MOST_LINES:]),
        hint=_short(str(error.get("hint") or "")),
        links=same.rule.links if same is not None else (),
        also=_also([one for one in found if one is not same]) if same is not None else (),
    )


def _found(found: Sequence[Finding], kind: str) -> Diagnosis:
    first = found[0]
    evidence = tuple(Shown(_short(each.text), each.line) for each in first.evidence)
    return Diagnosis(_short(first.cause), kind, evidence, _short(first.hint), first.rule.links, _also(found[1:]))


def _also(found: Sequence[Finding]) -> tuple[str, ...]:
    return tuple(_short(f"{one.cause} (line {one.line})") for one in found[:_ALSO])


def _unknown(status: str, kind: str, log: Log) -> Diagnosis:
    place = first_error_at(log.lines)
    shown = range(place, min(place + 3, len(log.lines))) if place is not None else ()
    evidence = tuple(Shown(_short(core(log.lines[each])), log.numbers[each]) for each in shown)
    cause = _KILLED if status == "killed" else f"it ended with {kind}" if kind else "it failed"
    hint = "type its command again: it goes on where it was ended" if status == "killed" else hint_of_kind(kind)
    return Diagnosis(cause, kind or status, evidence, hint)


def _short(text: str) -> str:
    return printable(shortened(text, _LONGEST))
