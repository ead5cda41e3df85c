"""Promises: calls that have returned before their compiler has run, kept in the order in which they were made.

A compilation writes into a folder of its own, for two calls may name the same object. What it made is put where it
belongs once all earlier calls have been settled; a link runs when it is the first that is not settled. So every link
finds the objects that it would have found, and at the end the files are those that one call after the other leaves.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from buildkit.build.deferral.output import Output

FOLDER = ".cudabuild-deferred"
"""Beside the object; gone when the last promise is settled."""

_GRACE = 3.0  # seconds that a compiler has to end; a shim ends its own after one

_own = threading.local()


@contextlib.contextmanager
def own_work() -> Iterator[None]:
    """What this thread does now is done for promises, and must not wait for them."""
    before = is_own_work()
    _own.on = True
    try:
        yield
    finally:
        _own.on = before


def is_own_work() -> bool:
    """Whether this thread works for promises."""
    return bool(getattr(_own, "on", False))


@dataclass
class Promise:
    """One call. ``private`` is the object that the command makes, ``path`` where it belongs (absolute)."""

    number: int
    called: list[str]
    """The command as it was given."""
    words: list[str]
    """The command as it is run: with another object."""
    output: Output
    path: str
    private: str = ""
    link: bool = False
    first: bool = False
    """Whether it should start before others: it takes longest."""
    state: Literal["waiting", "running", "ended"] = "waiting"
    status: int = 0
    trouble: OSError | None = None
    """Why it could not be started."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def failed(self) -> bool:
        """Whether it has ended, and badly."""
        return self.state == "ended" and (self.status != 0 or self.trouble is not None)


class Line:
    """The promises of one build_ext. ``slots`` may be in flight at a time; ``cores`` start without being asked for.

    The rest starts when somebody waits: then all that there will be is known, and the longest start first.
    """

    def __init__(self, slots: int, cores: int) -> None:
        self._slots, self._cores = slots, min(cores, slots)
        self._changed = threading.Condition()
        self._unsettled: list[Promise] = []
        self._workers = 0
        self._waited_for = False
        self._made = 0
        self._failure: Promise | None = None
        self.most = 0
        """How many were running at the same time, at most."""

    @property
    def pending(self) -> list[Promise]:
        """Those that are not settled."""
        return list(self._unsettled)

    @property
    def failure(self) -> Promise | None:
        """The first call that failed, once everything has ended."""
        return self._failure

    def compilation(self, words: list[str], announcement: bytes, path: str, place: int, *, first: bool) -> None:
        """Promise a compilation to ``path``, which is the word at ``place``."""
        with own_work():
            self._made += 1
            above, name = os.path.split(path)
            private = f"{above}/{FOLDER}/{self._made}/{name}"
            shutil.rmtree(os.path.split(private)[0], ignore_errors=True)  # of a build that was killed
            Path(private).parent.mkdir(parents=True)
            changed = [*words[:place], private, *words[place + 1 :]]
            self._submit(Promise(self._made, words, changed, Output(announcement), path, private, first=first))

    def link(self, words: list[str], announcement: bytes, path: str) -> None:
        """Promise a link: of what all earlier promises have made."""
        with own_work():
            self._made += 1
            self._submit(Promise(self._made, words, words, Output(announcement), path, link=True))

    def wait(self) -> None:
        """Return when every promise is settled, or one has failed and nothing runs any more."""
        with own_work(), self._changed:
            if not self._unsettled:
                return
            self._waited_for = True
            self._hire()
            while self._unsettled and not (self._failure and self._workers == 0):
                self._changed.wait()
            self._waited_for = False

    def end(self) -> None:
        """End everything that runs, and forget what is not settled."""
        with own_work(), self._changed:
            for promise in self._unsettled:
                self._stop(promise)
            forgotten = self._unsettled
            self._unsettled = [promise for promise in forgotten if promise.state == "running"]
            while self._workers:
                self._changed.wait()
            self._unsettled, self._failure = [], None
            for promise in forgotten:
                promise.output.close()
            for folder in {Path(promise.private).parents[1] for promise in forgotten if promise.private}:
                shutil.rmtree(folder, ignore_errors=True)

    def _submit(self, promise: Promise) -> None:
        with self._changed:
            self._unsettled.append(promise)
            self._announce()
            self._hire()

    def _hire(self) -> None:
        most = self._slots if self._waited_for else self._cores
        waiting = sum(promise.state == "waiting" for promise in self._unsettled)
        for _ in range(min(most - self._workers, waiting)):
            self._workers += 1
            threading.Thread(target=self._work, name="cudabuild-deferred", daemon=True).start()

    def _next(self) -> Promise | None:
        if self._failure is not None or not self._unsettled:
            return None
        if self._workers > self._slots:
            return None
        if self._unsettled[0].link and self._unsettled[0].state == "waiting":
            return self._unsettled[0]
        waiting = [promise for promise in self._unsettled if promise.state == "waiting" and not promise.link]
        return min(waiting, key=lambda promise: (not promise.first, promise.number), default=None)

    def _work(self) -> None:
        _own.on = True
        while True:
            with self._changed:
                promise = self._next()
                if promise is None:
                    self._workers -= 1
                    if self._failure is not None and self._workers == 0:
                        self._say_the_rest(self._failure)
                    self._changed.notify_all()
                    return
                promise.state = "running"
                self.most = max(self.most, sum(each.state == "running" for each in self._unsettled))
            self._run(promise)
            with self._changed:
                if promise.process is not None:
                    promise.status = promise.process.wait()
                promise.output.complete()
                promise.state = "ended"
                if promise.failed:
                    self._fail(promise)
                self._settle()
                self._changed.notify_all()

    def _run(self, promise: Promise) -> None:
        """Start it and wait for its end. It is not reaped: as long as it counts as running, its number is its own."""
        try:
            with self._changed:
                if self._failure is not None and self._failure.number < promise.number:
                    promise.status = -signal.SIGTERM
                    return
                out, err = promise.output.open()
                # In a session of its own: a signal for its group reaches all that it starts, and nothing else.
                promise.process = subprocess.Popen(promise.words, stdout=out, stderr=err, start_new_session=True)
            os.waitid(os.P_PID, promise.process.pid, os.WEXITED | os.WNOWAIT)
        except OSError as error:
            promise.trouble = error

    def _fail(self, promise: Promise) -> None:
        """Nothing new is started. What was called later is ended; what was called earlier and runs may fail first."""
        if self._failure is None or promise.number < self._failure.number:
            self._failure = promise
        for later in self._unsettled:
            if later.number > self._failure.number:
                self._stop(later)

    def _stop(self, promise: Promise, number: int = signal.SIGTERM) -> None:
        with self._changed:
            if promise.process is None or promise.state != "running":
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(promise.process.pid, number)
        if number != signal.SIGKILL:
            timer = threading.Timer(_GRACE, self._stop, (promise, signal.SIGKILL))
            timer.daemon = True
            timer.start()

    def _settle(self) -> None:
        """Put in place what has been made, and say what was said, in the order of the calls."""
        while self._unsettled and self._unsettled[0].state == "ended":
            promise = self._unsettled[0]
            promise.output.replay()
            if not promise.failed and promise.private:
                try:
                    _put_in_place(promise)
                except OSError as error:
                    promise.trouble = error
                    self._fail(promise)
            if promise.failed:
                return
            del self._unsettled[0]
        self._announce()

    def _say_the_rest(self, failure: Promise) -> None:
        """What ended before the failure or with it; calls that were never started have nothing to say."""
        for promise in self._unsettled:
            if promise.state == "ended" and promise.number <= failure.number:
                promise.output.replay()

    def _announce(self) -> None:
        """The command of the call whose turn it is; after a failure it may never be started."""
        if self._unsettled and self._failure is None:
            self._unsettled[0].output.announce()


def _put_in_place(promise: Promise) -> None:
    """All that the compiler made, beside the object where it would have made it."""
    folder, target = os.path.split(promise.private)[0], os.path.split(promise.path)[0]
    for name in os.listdir(folder):  # noqa: PTH208
        os.replace(f"{folder}/{name}", f"{target}/{name}")  # noqa: PTH105
    for empty in (folder, os.path.split(folder)[0]):
        with contextlib.suppress(OSError):
            os.rmdir(empty)  # noqa: PTH106
