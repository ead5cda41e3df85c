"""What runs builds: takes them from the queue, starts them as processes of their own, and watches them to the end."""

from __future__ import annotations

import logging
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from buildkit.build.recording import this_process
from buildkit.build.running import SILENCE, runs_here
from buildkit.errors import BuildFailed, CudabuildError, StoreError
from buildkit.service.answers import BuildRequest
from buildkit.service.claims import Claims, Self
from buildkit.service.outcomes import Ending, after_memory, delay, ending_of, of_error, tries_left
from buildkit.service.planning import Planner
from buildkit.service.queue import Row, again
from buildkit.service.runs import Outcome, Runs
from buildkit.service.settings import OnStop, ServiceSettings
from buildkit.store.builds import BuildProcess
from buildkit.store.model import utc_now

LOG = logging.getLogger("cudabuild.service")
PAUSE = 0.25
"""Seconds between two looks, unless something happens."""
_TAKE_OVER = 5.0
"""Seconds between two looks for builds whose worker is gone."""
_MOST_STARTS = 3
"""Times that a build's command is started which ends before the build has begun."""


class Worker:
    """One thread, and a few more for what takes long (plans, cancelling)."""

    def __init__(
        self, claims: Claims, runs: Runs, planner: Planner, settings: ServiceSettings, changed: Callable[[str], None]
    ) -> None:
        self.claims, self.runs, self.planner, self.settings = claims, runs, planner, settings
        self._changed = changed
        self.ended: Callable[[Row, dict[str, Any]], None] = lambda _row, _values: None
        """Called when a build has ended for good, with what was written of it."""
        self._thread = threading.Thread(target=self._work, name="cudabuild-worker", daemon=True)
        self._woken, self._ending = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=settings.slots + 2, thread_name_prefix="cudabuild-plan")
        self._planned: dict[str, tuple[Row, Future[dict[str, object]]]] = {}
        self._cancelling: dict[str, Future[None]] = {}
        self._starts: dict[str, int] = {}
        self._next_beat = self._next_look = 0.0

    # From outside

    def start(self) -> None:
        """Begin."""
        self.claims.sign_on()
        self._thread.start()

    def wake(self) -> None:
        """There is something to do."""
        self._woken.set()

    @property
    def is_alive(self) -> bool:
        """Whether it works."""
        return self._thread.is_alive()

    def stop(self, how: OnStop) -> None:
        """End; running builds are kept (found again by the next server), queued again, or ended."""
        self._ending.set()
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.planner.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        try:
            rows = self.claims.mine()
            if how != "keep":
                with ThreadPoolExecutor(max_workers=max(1, len(rows))) as pool:
                    list(pool.map(lambda row: self._end_for_good(row, requeue=how == "requeue"), rows))
            self.claims.sign_off()
        except CudabuildError as error:
            LOG.error("the worker could not sign off: %s", error.message)
        LOG.info("worker %s ended; running builds: %s", self.claims.me.id, how)

    def _end_for_good(self, row: Row, *, requeue: bool) -> None:
        self._end(row)
        if requeue and not row["cancelling"]:
            self.claims.write(row, again(row, "stopped", note="the server was ended: waits again"))
        else:
            self._finish(row, Outcome(None, "cancelled"))

    # The thread

    def _work(self) -> None:
        while not self._ending.is_set():
            try:
                self.step()
            except (CudabuildError, OSError) as error:
                LOG.error("the worker goes on after: %s", error)
                self._ending.wait(1.0)
            except Exception:  # a worker that is gone would leave everybody waiting
                LOG.exception("the worker goes on after what nobody thought of")
                self._ending.wait(1.0)
            self._woken.wait(PAUSE)
            self._woken.clear()

    def step(self) -> None:
        """One look at everything."""
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + self.claims.lease / 4
            self.claims.beat()
        if now >= self._next_look:
            self._next_look = now + _TAKE_OVER
            self._take_over()
        running = self.claims.mine()
        for row in running:
            self._look_at(row)
        begun = self._begin_planned()
        for _ in range(self.settings.slots - len(self._planned) - len(running) - begun):
            taken = self.claims.take()
            if taken is None:
                break
            self._planned[taken["id"]] = (taken, self._pool.submit(self.planner.plan, taken))

    def _take_over(self) -> None:
        gone = [row["id"] for row in self.claims.others() if not _lives(row)]
        for row in self.claims.adopt(gone, SILENCE):
            LOG.info("took over build %s of %s", row["id"], row["recipe"])
            if row["place"] != self.claims.me.place:
                self._finish(row, Outcome(None, None))

    # Planned builds

    def _begin_planned(self) -> int:
        """Begin what is planned; how many there were."""
        planned = [(name, row, future) for name, (row, future) in self._planned.items() if future.done()]
        for name, row, future in planned:
            del self._planned[name]
            self._begin(row, future)
        return len(planned)

    def _begin(self, row: Row, future: Future[dict[str, object]]) -> None:
        if self.claims.is_cancelled(row):
            self._write_end(row, ending_of(Outcome(None, "cancelled"), cancelling=True), None)
            return
        if (error := future.exception()) is not None:
            cause = error if isinstance(error, CudabuildError) else BuildFailed(f"it could not be planned: {error}")
            self._settle(row, ending_of(Outcome({"error": of_error(cause)}, None), cancelling=False), None)
            return
        plan = future.result()
        if isinstance(said := plan.get("error"), dict):
            self._settle(row, ending_of(Outcome({"error": said}, None), cancelling=False), None)
            return
        key = plan.get("key")
        build = self.runs.records.new_id()
        if self.claims.begin(row, build, key=str(key) if key else None, plan=plan):
            self._start(row, build)
        self._changed(row["id"])

    def _start(self, row: Row, build: str) -> None:
        """Start, or start again, a build's process: only one of them begins it."""
        request = BuildRequest.model_validate(row["request"])
        self._starts[build] = self._starts.get(build, 0) + 1
        words, environment = self.planner.build_words(request, build, jobs=1 if after_memory(row) else None)
        LOG.info("build %s of %s begins as %s", row["id"], row["recipe"], build)
        self.runs.start(build, words, environment)

    # Running builds

    def _look_at(self, row: Row) -> None:
        build = row["build"]
        state = self.runs.state(build)
        if row["cancelling"]:
            self._cancel(row, state)
        elif state == "ended":
            self._finish(row, self.runs.outcome(build))
        elif state == "absent" and not self.runs.is_starting(build):
            if self._starts.get(build, 0) >= _MOST_STARTS and self.runs.forestall(build):
                error = BuildFailed("the build's command ends before it has begun", hint="read its log")
                self._write_end(row, Ending("failed", error.exit_code, of_error(error)), None)
            else:
                self._start(row, build)

    def _cancel(self, row: Row, state: str) -> None:
        """In a thread: it returns when nothing of the build is left."""
        if row["id"] not in self._cancelling:
            self._cancelling[row["id"]] = self._pool.submit(self._end, row)
        elif self._cancelling[row["id"]].done():
            del self._cancelling[row["id"]]
            if state == "ended":
                self._finish(row, self.runs.outcome(row["build"]))

    def _end(self, row: Row) -> None:
        """End what runs of it, and see that nothing begins."""
        build = row["build"]
        deadline = time.monotonic() + 60
        while not self.runs.forestall(build) and self.runs.state(build) != "ended" and time.monotonic() < deadline:
            try:
                self.runs.end(build)
            except StoreError as error:
                LOG.warning("build %s cannot be ended: %s", row["id"], error.message)
            if self.runs.state(build) != "ended":  # it has been started, and has no record yet
                time.sleep(0.05)

    def _finish(self, row: Row, outcome: Outcome) -> None:
        self._settle(row, ending_of(outcome, cancelling=row["cancelling"]), outcome)

    def _settle(self, row: Row, ending: Ending, outcome: Outcome | None) -> None:
        """It is over, or tried again."""
        most = self.settings.retries
        if ending.cause is None or row["cancelling"] or not tries_left(row, ending.cause, most):
            self._write_end(row, ending, outcome)
            return
        wait = delay(row, ending.cause, self.settings.retry_delay)
        kind = (ending.error or {}).get("kind", "")
        note = f"tried again after {kind}" + (f", in {wait:.0f} s" if wait else "")
        values = again(row, ending.cause, not_before=time.time() + wait, note=note)
        if not row["build"]:  # it failed while it was planned
            values |= {"tries": [*row["tries"], {"build": None, "cause": ending.cause}], "attempt": row["attempt"] + 1}
        if self.claims.write(row, values):
            LOG.info("build %s of %s: %s", row["id"], row["recipe"], note)
            self._changed(row["id"])

    def _write_end(self, row: Row, ending: Ending, outcome: Outcome | None) -> None:
        answer = outcome.answer if outcome else None
        known = answer or {}
        verdict = known.get("verdict")
        values = {
            "status": ending.status,
            "ended": utc_now(),
            "exit_code": ending.exit_code,
            "error": ending.error,
            "answer": answer,
            "key": known.get("key") or row["key"],
            "version": known.get("version"),
            "grade": verdict.get("grade") if isinstance(verdict, dict) else None,
            "cancelling": False,
        }
        if self.claims.write(row, values):
            kind = f" ({ending.error['kind']})" if ending.error else ""
            LOG.info("build %s of %s %s%s", row["id"], row["recipe"], ending.status, kind)
            self._changed(row["id"])
            self.ended(row, values)


def _lives(row: Row) -> bool:
    """Whether a listed worker may be at work; one on another machine is believed."""
    if row["host"] != platform.node():
        return True
    return runs_here(BuildProcess(pid=row["pid"], start=row["start"], boot=row["boot"], host=row["host"]))


def identify(place: str, slots: int) -> Self:
    """Who this process is, as a worker of a cache."""
    process = this_process()
    start, boot = (process.start, process.boot) if process else (0, "")
    return Self(
        f"{platform.node()[:40]}-{secrets.token_hex(4)}", platform.node(), place, os.getpid(), start, boot, slots
    )
