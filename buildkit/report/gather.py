"""All that a page shows of one build, out of the cache: its record, answer, entry, trace, log, and those before it."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from buildkit.build.recorded import Recorded, find_recorded
from buildkit.errors import NoSuchBuild
from buildkit.guard.trace import Trace, read_trace
from buildkit.report import changes
from buildkit.report.causes import diagnosis_of
from buildkit.report.excerpt import read_excerpt
from buildkit.report.text import printable, shortened
from buildkit.report.view import BuildView, Change, CopyLine, Excerpt, Since, Wheel
from buildkit.store.builds import BuildRecord, BuildRecords
from buildkit.store.model import DamagedEntry, Entry, ForeignEntry, is_name, parse_entry
from buildkit.store.store import Store
from buildkit.store.traces import Traces
from buildkit.verify.verdict import Verdict, read_verdict, stored_grade

Answer = Mapping[str, Any]
_LARGEST_ANSWER = 64 << 20
"""Bytes of an answer that is read; those of real builds are some hundred kilobytes."""


def gather(text: str, store: Store, *, wheels: Path) -> BuildView:
    """The build meant by ``last``, an id or its beginning, a key's beginning, a recipe's name. Raises NoSuchBuild.

    ``wheels`` is the folder in which wheels are handed out.
    """
    return gather_recorded(find_recorded(text, store), store, wheels=wheels)


def gather_recorded(recorded: Recorded, store: Store, *, wheels: Path) -> BuildView:
    """The same of a build that was found already."""
    answer = _answer(recorded)
    entry = _entry(recorded, store, answer)
    plan = _plan(answer, entry)
    wheel = _wheel(answer, entry, wheels)
    log = _log(recorded)
    verdict = _verdict(answer, entry)
    return BuildView(
        build=recorded.build,
        recipe=printable(recorded.recipe),
        status=recorded.status,
        started=recorded.started,
        version=printable(str(answer.get("version") or (entry.version if entry else ""))),
        key=recorded.key or _key(answer),
        finished=recorded.finished,
        seconds=_seconds(recorded, answer, entry),
        cause=recorded.cause or "",
        grade=verdict.grade if verdict else stored_grade(entry.verdict) if entry else "",
        asked=tuple(_asked(plan, answer, entry)),
        inputs=tuple(changes.flat(entry.inputs)) if entry else (),
        diagnosis=diagnosis_of(recorded.status, recorded.cause or "", _error(answer), log),
        trace=recorded.trace,
        no_trace=_no_trace(recorded, answer),
        verdict=verdict,
        wheel=wheel,
        since=_since(recorded, plan, entry, store),
        lines=tuple(_lines(wheel, recorded, recorded.key or _key(answer))),
        log=log,
    )


def _answer(recorded: Recorded) -> Answer:
    """What a build in the background left beside its log; nothing of others."""
    if recorded.log is None:
        return {}
    path = Path(recorded.log).with_suffix(".json")
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if path.stat().st_size <= _LARGEST_ANSWER:
            value = json.loads(path.read_text(encoding="utf-8"))
            return value if isinstance(value, dict) and _is_of(value, recorded) else {}
    return {}


def _is_of(answer: Answer, recorded: Recorded) -> bool:
    """Whether it is this build's. What came from the store is told with the id of the build that made it."""
    return answer.get("build") == recorded.build or answer.get("cache") == "hit"


def _error(answer: Answer) -> Answer | None:
    error = answer.get("error")
    return error if isinstance(error, dict) else None


def _entry(recorded: Recorded, store: Store, answer: Answer) -> Entry | None:
    """The entry of the build's key, if this build made it or was served it."""
    entry = _read_entry(recorded.key or _key(answer), store)
    served = recorded.status == "succeeded" or bool(answer.get("wheel"))
    return entry if entry is not None and (served or entry.build == recorded.build) else None


def _key(answer: Answer) -> str:
    key = answer.get("key")
    return key if isinstance(key, str) and is_name(key) else ""


def _read_entry(key: str | None, store: Store) -> Entry | None:
    """The entry as it lies there; its wheel is not looked at."""
    data = store.entry_bytes(key) if key else None
    with contextlib.suppress(DamagedEntry, ForeignEntry):
        return parse_entry(data) if data is not None else None
    return None


def _plan(answer: Answer, entry: Entry | None) -> Mapping[str, Any]:
    plan = answer.get("plan")
    return plan if isinstance(plan, dict) else entry.plan if entry is not None else {}


def _wheel(answer: Answer, entry: Entry | None, wheels: Path) -> Wheel | None:
    told = answer.get("wheel")
    if isinstance(told, dict):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return Wheel(printable(told["filename"]), str(told["sha256"]), int(told["size"]), str(told["path"]))
    if entry is None:
        return None
    path = wheels / entry.key[:16] / entry.filename
    return Wheel(entry.filename, entry.sha256, entry.size, str(path) if path.is_file() else "")


def _verdict(answer: Answer, entry: Entry | None) -> Verdict | None:
    told = answer.get("verdict")
    verdict = read_verdict(told) if isinstance(told, dict) else None
    return verdict or (read_verdict(entry.verdict) if entry is not None else None)


def _log(recorded: Recorded) -> Excerpt:
    if recorded.log is None:
        return Excerpt(note="No log of it is kept here.")
    try:
        return read_excerpt(Path(recorded.log))
    except OSError as error:
        return Excerpt(note=f"Its log cannot be read: {error.strerror or error}.")


def _seconds(recorded: Recorded, answer: Answer, entry: Entry | None) -> float | None:
    told = answer.get("seconds")
    if isinstance(told, (int, float)):
        return float(told)
    if entry is not None and entry.build == recorded.build:
        return entry.seconds
    with contextlib.suppress(ValueError):
        if recorded.finished:
            return max(0.0, (_moment(recorded.finished) - _moment(recorded.started)).total_seconds())
    return recorded.trace.seconds if recorded.trace is not None else None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _asked(plan: Mapping[str, Any], answer: Answer, entry: Entry | None) -> Iterator[tuple[str, str]]:
    device = answer.get("device") or (entry.inputs.get("device") if entry is not None else None)
    if device:
        yield "device", printable(str(device))
    for name, title in changes.NAMES.items():
        if plan.get(name) not in (None, "", [], ()):
            yield title, changes.said(name, plan[name])
    for note in plan.get("notes") or ():
        yield "note", printable(shortened(str(note), 300))


def _no_trace(recorded: Recorded, answer: Answer) -> str:
    if recorded.trace is not None:
        return ""
    if answer.get("cache") == "hit":
        return "The store had it: nothing was compiled."
    if recorded.damaged:
        return "Its trace cannot be read: it is damaged, or another version of cudabuild wrote it."
    if recorded.status == "running":
        return "No compiler has been started yet."
    return "There is no trace of it: no compiler was started, or an older cudabuild built it."


def _since(recorded: Recorded, plan: Mapping[str, Any], entry: Entry | None, store: Store) -> Since | None:
    """The last success of the same recipe before this build, and what was otherwise then."""
    before = _last_success(recorded, store)
    if before is None:
        return None
    old = _read_entry(before.key, store)
    found: list[Change] = []
    if old is not None:
        found += changes.of_plans(old.plan, plan)
        found += changes.of_inputs(old.inputs, entry.inputs) if entry is not None else ()
    found += changes.of_figures(_trace(before.id, store), recorded.trace)
    if old is not None and entry is not None:
        found += changes.of_sizes(old.size, entry.size)
    return Since(before.id, before.started, tuple(found))


def _last_success(recorded: Recorded, store: Store) -> BuildRecord | None:
    every = BuildRecords(store.root).newest_first()
    same = (one for one in every if one.recipe == recorded.recipe and one.status == "succeeded")
    return next((one for one in same if one.started < recorded.started and one.id != recorded.build), None)


def _trace(build: str, store: Store) -> Trace | None:
    with contextlib.suppress(NoSuchBuild):
        data = Traces(store.root).read(build)
        return read_trace(data) if data is not None else None
    return None


def _lines(wheel: Wheel | None, recorded: Recorded, key: str) -> Iterator[CopyLine]:
    if wheel is not None:
        path = shlex.quote(wheel.path) if wheel.path else f'"$(cudabuild cache path {key[:16]})"'
        yield CopyLine("pip", f"python -m pip install {path}")
        yield CopyLine("uv", f"uv pip install {path}")
        name = shlex.quote(wheel.filename)
        yield CopyLine("Dockerfile", f"COPY {name} /tmp/\nRUN pip install --no-deps /tmp/{name}")
    if recorded.log is not None:
        yield CopyLine("the whole log", f"cudabuild log {recorded.build}")
    if recorded.status in {"failed", "killed"}:
        yield CopyLine("every cause that the log shows", f"cudabuild explain {recorded.build} --all")
    if recorded.trace is not None:
        yield CopyLine("the timeline in Perfetto", f"cudabuild report {recorded.build} --trace build.json")
