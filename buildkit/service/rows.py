"""From a row of the database to what is answered. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from buildkit.process import redact
from buildkit.service.answers import BuildAnswer, ErrorAnswer, Links, WheelAnswer
from buildkit.service.queue import Row

WheelOf = Callable[[str, str, int], WheelAnswer]
"""From file name, sha256 and size to what is told of a wheel."""


def build_answer(row: Row, wheel_of: WheelOf, position: int | None = None) -> BuildAnswer:
    """One build."""
    request, answer = row["request"], row["answer"] or {}
    plan = (row["plan"] or {}).get("plan") or {}
    wheel = answer.get("wheel")
    return BuildAnswer(
        id=row["id"],
        status=row["status"],
        recipe=row["recipe"],
        version=row["version"] or request.get("version"),
        targets=list(plan.get("targets") or request.get("targets") or []),
        torch=plan.get("torch") or request.get("torch"),
        device=str(answer.get("device") or (row["plan"] or {}).get("device") or request.get("device")),
        require=request.get("require"),
        priority=row["priority"],
        key=row["key"],
        build=row["build"],
        created=row["created"],
        started=row["started"],
        ended=row["ended"],
        seconds=seconds_between(row["started"], row["ended"]),
        position=position,
        grade=row["grade"],
        wheel=wheel_of(wheel["filename"], wheel["sha256"], wheel["size"]) if isinstance(wheel, dict) else None,
        error=ErrorAnswer.model_validate(row["error"]) if row["error"] else None,
        links=links_of(row["id"]),
        attempt=row["attempt"],
        cache=answer.get("cache"),
        cancelling=row["cancelling"],
        by=row["requested_by"] or None,
        worker=row["worker"] if row["status"] == "running" else None,
        note=redact(row["note"]),
    )


def links_of(identifier: str) -> Links:
    """Where the parts of a build are."""
    own = f"/api/v1/builds/{identifier}"
    names = ("log", "events", "plan", "verdict", "trace")
    return Links(self=own, **{name: f"{own}/{name}" for name in names})


def seconds_between(started: str | None, ended: str | None) -> float | None:
    """From one moment to the other, or until now; None where it has not begun."""
    if started is None:
        return None
    end = _moment(ended) if ended is not None else datetime.now(timezone.utc)
    return round(max(0.0, (end - _moment(started)).total_seconds()), 3)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def failing_step(error: dict[str, Any] | None) -> str | None:
    """In a word, where a build failed, by its exit code."""
    if error is None:
        return None
    steps = {2: "request", 3: "recipe", 4: "source", 5: "machine", 6: "build", 7: "memory", 8: "time", 9: "proof"}
    return steps.get(error.get("exit_code", 0), "store" if error.get("exit_code") == 10 else "service")
