"""The trace of a build while it is made: recorded, written every few seconds and at the end, however that comes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from buildkit.build.admission import Admission, is_guarded
from buildkit.build.context import Context
from buildkit.build.prepare import Prepared
from buildkit.errors import StoreError
from buildkit.guard.protocol import Sample
from buildkit.progress import Reporter
from buildkit.store.traces import Traces

if TYPE_CHECKING:
    from buildkit.build.pipeline import BuildResult
    from buildkit.guard.trace_recorder import Recorder

EVERY = 3.0
"""Seconds between two writings of a trace that still grows."""
SHARE = 50
"""Writing it may take so small a part of the time."""


class Tracing:
    """One build's trace. What cannot be written is said once, and no reason to end a build."""

    def __init__(self, recorder: Recorder, traces: Traces, build: str, reporter: Reporter) -> None:
        self._recorder = recorder
        self._traces = traces
        self._build = build
        self._reporter = reporter
        self._next = time.monotonic() + EVERY
        self._failed = False

    def hear(self, event: Mapping[str, str]) -> None:
        """One event of the broker; from the client's thread."""
        self._recorder.hear(event)

    def around(self, on_sample: Callable[[Sample], None]) -> Callable[[Sample], None]:
        """What is done with each sample, and the trace's part in it."""

        def sampled(sample: Sample) -> None:
            self._recorder.sample(sample)
            now = self._recorder.progress()
            if now is not None:
                self._reporter.admission(
                    running=now.running, waiting=now.waiting, done=now.done, memory=now.memory, budget=now.budget
                )
            on_sample(sample)
            self._write_now_and_then()

        return sampled

    def _write_now_and_then(self) -> None:
        began = time.monotonic()
        if began >= self._next:
            self._write(complete=False)
            now = time.monotonic()
            self._next = now + max(EVERY, SHARE * (now - began))

    def close(self, restarts: int) -> None:
        """The build has ended."""
        self._write(complete=True, restarts=restarts)

    def _write(self, *, complete: bool, restarts: int = 0) -> None:
        if self._failed:
            return
        try:
            data = self._recorder.trace(complete=complete, restarts=restarts).as_bytes()
            self._traces.write(self._build, data, lasting=complete)
        except StoreError as error:
            self._failed = True
            self._reporter.note(f"the trace of this build is not kept: {error.message}")


@contextlib.contextmanager
def tracing(prepared: Prepared, context: Context, result: BuildResult) -> Iterator[tuple[Tracing, Admission]]:
    """Record the build inside the block; gives the trace, and what the broker tells meanwhile."""
    from buildkit.guard.trace_recorder import About, Recorder

    plan, heard = result.plan, Admission(build=result.build or "")
    about = About(
        build=result.build or "",
        key=result.key,
        recipe=result.recipe,
        cores=prepared.survey.machine.limits.cpus,
        jobs=prepared.request.jobs or prepared.survey.machine.limits.cpus,
        planned=plan.memory_budget if plan else 0,
        admitted=is_guarded(context),
    )
    trace = Tracing(Recorder(about), Traces(context.store.root), about.build, context.reporter)
    heard.listeners.append(trace.hear)
    try:
        yield trace, heard
    finally:
        trace.close(heard.restarts)
