"""What is known of a build afterwards, or while it runs: its record, its entry, its trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from buildkit.build.running import is_running
from buildkit.errors import NoSuchBuild
from buildkit.guard.trace import Trace, read_trace
from buildkit.store.builds import BuildRecord, BuildRecords
from buildkit.store.model import Entry
from buildkit.store.store import Store
from buildkit.store.traces import Traces

Status = Literal["running", "succeeded", "failed", "cancelled", "killed"]


@dataclass(frozen=True)
class Recorded:
    """One build. ``cause`` is the kind of what ended it; ``killed`` is one that ended without a word;
    ``damaged``: there is a trace, and it cannot be read."""

    build: str
    recipe: str
    key: str | None
    status: Status
    started: str
    finished: str | None
    cause: str | None
    log: str | None
    trace: Trace | None
    damaged: bool = False


def find_recorded(text: str, store: Store) -> Recorded:
    """The build meant by ``last``, an id or its beginning, the beginning of a key, or a recipe's name.

    An entry whose record is not here (a store that was copied) is found by its key, too. Raises NoSuchBuild.
    """
    try:
        return _of_record(BuildRecords(store.root).find(text), store)
    except NoSuchBuild:
        try:
            return _of_entry(store.find(text), store)
        except NoSuchBuild:
            pass
        raise


def status_of(record: BuildRecord, records: BuildRecords) -> Status:
    """The record's own, unless it says that it runs and its process does not (an older cudabuild named none)."""
    if record.status == "running" and record.process is not None and not is_running(record, records):
        return "killed"
    return record.status


def _of_record(record: BuildRecord, store: Store) -> Recorded:
    trace, damaged = _trace_of(record.id, store)
    return Recorded(
        build=record.id,
        recipe=record.recipe,
        key=record.key,
        status=status_of(record, BuildRecords(store.root)),
        started=record.started,
        finished=record.finished,
        cause=record.error,
        log=record.log,
        trace=trace,
        damaged=damaged,
    )


def _of_entry(entry: Entry, store: Store) -> Recorded:
    trace, damaged = _trace_of(entry.build, store)
    started = trace.started if trace is not None else entry.created
    return Recorded(
        entry.build, entry.recipe, entry.key, "succeeded", started, entry.created, None, None, trace, damaged
    )


def _trace_of(build: str, store: Store) -> tuple[Trace | None, bool]:
    """A build's trace, and whether there is one that cannot be read."""
    data = Traces(store.root).read(build)
    trace = read_trace(data) if data is not None else None
    return trace, data is not None and trace is None
