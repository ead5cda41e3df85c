"""From how a build's process ended to what is written of the build: it is over, or it is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from buildkit.errors import BuildFailed, CudabuildError, IndexUnreachable, OutOfMemory, Terminated
from buildkit.process import redact
from buildkit.service.queue import Row
from buildkit.service.runs import Outcome

Cause = Literal["memory", "network", "lost"]
_KINDS: dict[str, Cause] = {
    OutOfMemory.kind: "memory",
    IndexUnreachable.kind: "network",
    Terminated.kind: "lost",
    "interrupted": "lost",
}


@dataclass(frozen=True)
class Ending:
    """How it ended. ``error`` is an ErrorAnswer; ``cause`` why another try could end otherwise, if one could."""

    status: Literal["succeeded", "failed", "cancelled"]
    exit_code: int
    error: dict[str, Any] | None = None
    cause: Cause | None = None


def ending_of(outcome: Outcome, *, cancelling: bool) -> Ending:
    """What an outcome means. Compile errors and all that a second try would only repeat have no cause."""
    if outcome.answer is None:
        return _without_answer(outcome, cancelling=cancelling)
    error = outcome.answer.get("error")
    if not isinstance(error, dict):
        return Ending("succeeded", 0)
    said = told(error)
    if said["kind"] == "cancelled" or (cancelling and said["exit_code"] in {130, 143}):
        return Ending("cancelled", 143, {**said, "kind": "cancelled", "exit_code": 143})
    return Ending("failed", said["exit_code"], said, _KINDS.get(said["kind"]))


def _without_answer(outcome: Outcome, *, cancelling: bool) -> Ending:
    """It was killed with its command, or could write nothing."""
    if outcome.status == "cancelled" or cancelling:
        return Ending("cancelled", 143, of_error(Terminated("the build was cancelled"), kind="cancelled"))
    error = BuildFailed("the build's command was killed, or its machine was", hint="try it again: it goes on there")
    return Ending("failed", BuildFailed.exit_code, of_error(error), "lost")


def tries_left(row: Row, cause: Cause, most: int) -> bool:
    """Whether it may be tried again: once after memory ran out, ``most`` times for other causes."""
    before = sum(1 for done in row["tries"] if done["cause"] == cause)
    return before < (min(1, most) if cause == "memory" else most)


def after_memory(row: Row) -> bool:
    """Whether an attempt ran out of memory: the next one compiles one file at a time."""
    return any(done["cause"] == "memory" for done in row["tries"])


def delay(row: Row, cause: Cause, first: float) -> float:
    """Seconds until the next try: the network gets time, twice as much each time."""
    before = sum(1 for done in row["tries"] if done["cause"] == cause)
    return first * 2.0**before if cause == "network" else 0.0


def of_error(error: CudabuildError, *, kind: str = "") -> dict[str, Any]:
    """An ErrorAnswer of a cause."""
    return {
        "kind": kind or error.kind,
        "exit_code": error.exit_code,
        "message": redact(error.message),
        "evidence": redact(error.evidence),
        "hint": redact(error.hint),
        "rule": error.rule or None,
    }


def told(error: dict[str, Any]) -> dict[str, Any]:
    """An ErrorAnswer of the ``error`` that ``--json`` prints; the log's path is the machine's own."""
    code = error.get("exit_code")
    return {
        "kind": str(error.get("kind") or CudabuildError.kind),
        "exit_code": code if isinstance(code, int) else CudabuildError.exit_code,
        "message": redact(str(error.get("message") or "")),
        "evidence": redact(str(error.get("evidence") or "")),
        "hint": redact(str(error.get("hint") or "")),
        "rule": error.get("rule") or None,
    }
