"""The loop around a running command: output, samples, clocks, signals, and the supervisor's own messages."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from buildkit.errors import BuildFailed
from buildkit.guard.containment import lacking_containment
from buildkit.guard.leftovers import Traces, end_leftovers
from buildkit.guard.lines import LineSplitter
from buildkit.guard.protocol import (
    Ended,
    Exited,
    Lacking,
    Outcome,
    Reason,
    Refused,
    Sample,
    Started,
    parse_message,
)
from buildkit.guard.sampling import ProcessStat, processor_seconds, tree_reader
from buildkit.guard.signals import SignalWatch
from buildkit.guard.start import Running
from buildkit.guard.unfinished import give_back, unfinished_files
from buildkit.process import ProgramFailed, ProgramMissing, quoted

_PERIOD, _LONGEST_PERIOD = 0.25, 0.5  # seconds between two samples: at first, and in a run of minutes
_DRAIN = 1.0  # seconds to wait for the end of output that a survivor holds open
_PATIENCE = 12.0  # seconds for the supervisor to end everything
_IDLE = 0.001  # of one processor: what a hung build may use while it polls and still counts as stalled


class StallClock:
    """Since when there has been neither output nor processor time."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._used = 0.0

    def output(self, now: float) -> None:
        """The command has printed something."""
        self._since = now

    def processor(self, now: float, used: float) -> None:
        """The tree has used so many processor seconds since it began."""
        if used - self._used > 0.02 + _IDLE * (now - self._since):
            self._since, self._used = now, used

    def idle(self, now: float) -> float:
        """Seconds without a sign of life."""
        return now - self._since


class GuardLoop:
    """One command's run. ``run`` returns when the supervisor says that everything has ended."""

    def __init__(
        self,
        running: Running,
        watch: SignalWatch,
        *,
        log: BinaryIO,
        on_line: Callable[[str], None],
        on_sample: Callable[[Sample], None],
        on_hold: Callable[[], bool],
        writable: Sequence[Path] = (),
    ) -> None:
        self._running = running
        self._watch = watch
        self._log = log
        self._on_line = on_line
        self._on_sample = on_sample
        self._on_hold = on_hold
        self._writable = writable
        self._unfinished: set[Path] = set()
        self._lines = LineSplitter()
        self._heard = b""
        self._began = time.monotonic()
        self._next_sample = self._began + _PERIOD / 5
        self._clock = StallClock(self._began)
        self._started: Started | None = None
        self._exited: Exited | None = None
        self._ended: Ended | None = None
        self._reason: Reason = "exited"
        self._give_up: float | None = None
        self._peak = 0
        self._tree: Callable[[], list[ProcessStat]] = list
        self._last_tree: list[ProcessStat] = []

    def run(self, *, deadline: float | None, stall: float | None) -> Outcome:
        """See :func:`buildkit.guard.supervise.run_guarded`."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._running.output, selectors.EVENT_READ, self._read_output)
            selector.register(self._running.control, selectors.EVENT_READ, self._listen)
            selector.register(self._watch.descriptor, selectors.EVENT_READ, self._signalled)
            while self._ended is None:
                for key, _ in selector.select(max(0.0, self._wake_at(deadline) - time.monotonic())):
                    if key.data() is False:
                        selector.unregister(key.fileobj)
                self._look_around(deadline, stall)
        seconds = time.monotonic() - self._began
        self._drain()
        give_back(self._unfinished)
        return self._outcome(self._ended, seconds)

    def _outcome(self, ended: Ended, seconds: float) -> Outcome:
        return Outcome(
            returncode=self._exited.returncode if self._exited else -signal.SIGKILL,
            reason=self._reason,
            peak_memory=self._peak,
            containment=self._started.containment if self._started else "subreaper",
            survivors=ended.survivors,
            seconds=seconds,
            isolation=self._started.isolation if self._started else "none",
        )

    def _wake_at(self, deadline: float | None) -> float:
        return self._next_sample if deadline is None else min(self._next_sample, max(deadline, self._began))

    def _look_around(self, deadline: float | None, stall: float | None) -> None:
        now = time.monotonic()
        if now >= self._next_sample:
            self._sample(now)
        if self._give_up is not None:
            if now > self._give_up:
                self._running.process.kill()
                self._lost()
        elif deadline is not None and now >= deadline:
            self._end("timeout")
        elif stall is not None and self._clock.idle(now) >= stall:
            self._end("stalled")

    def _end(self, reason: Reason) -> None:
        if self._give_up is None and self._exited is None:
            self._reason = reason
            self._give_up = time.monotonic() + _PATIENCE
            self._unfinished = unfinished_files((process.pid for process in self._tree()), self._writable)
            self._running.ask_to_end()

    def _sample(self, now: float) -> None:
        self._next_sample = now + min(_LONGEST_PERIOD, max(_PERIOD, (now - self._began) / 120))
        if self._started is None:
            return
        self._last_tree = self._tree()
        used = processor_seconds(self._running.process.pid, self._last_tree)
        memory = sum(process.resident for process in self._last_tree)
        self._peak = max(self._peak, memory)
        self._clock.processor(now, used)
        if self._on_hold():
            self._clock.output(now)
        self._on_sample(Sample(memory, used, len(self._last_tree), now - self._began))

    def _signalled(self) -> bool:
        self._end("interrupted" if self._watch.received == signal.SIGINT else "terminated")
        return False

    def _read_output(self) -> bool:
        """False at the end of it."""
        try:
            chunk = os.read(self._running.output, 1 << 16)
        except BlockingIOError:
            return True
        if chunk:
            self._clock.output(time.monotonic())
            self._log.write(chunk)
        for line in self._lines.feed(chunk) if chunk else self._lines.flush():
            self._on_line(line)
        return bool(chunk)

    def _drain(self) -> None:
        """What is still in the pipe; its end comes at once unless something has survived that holds it open."""
        deadline = time.monotonic() + _DRAIN
        with selectors.DefaultSelector() as selector:
            selector.register(self._running.output, selectors.EVENT_READ)
            while selector.select(max(0.0, deadline - time.monotonic())) and self._read_output():
                pass
        for line in self._lines.flush():
            self._on_line(line)

    def _listen(self) -> bool:
        try:
            chunk = self._running.control.recv(1 << 16)
        except BlockingIOError:
            return True
        except ConnectionResetError:  # it died with something of ours unread
            chunk = b""
        *lines, self._heard = (self._heard + chunk).split(b"\n")
        for line in lines:
            self._hear(line.decode("utf-8", "surrogateescape"))
        if not chunk and self._ended is None:
            self._lost()
        return bool(chunk)

    def _hear(self, line: str) -> None:
        message = parse_message(line)
        if isinstance(message, Started):
            self._started = message
            self._tree = tree_reader(self._running.process.pid, message.cgroup)
        elif isinstance(message, Exited):
            self._exited = message
        elif isinstance(message, Ended):
            self._ended = message
        elif isinstance(message, Lacking):
            raise lacking_containment(self._running.containment, message.error)
        else:
            self._refuse(message)

    def _refuse(self, message: Refused) -> None:
        words, reason = quoted(self._running.command), os.strerror(message.error)
        kind = ProgramMissing if message.error == errno.ENOENT else ProgramFailed
        raise kind(f"{words} cannot be started: {reason}", returncode=None, output=reason)

    def _lost(self) -> None:
        """The supervisor ended without saying that everything has: somebody killed it, or it was out of memory."""
        status = self._running.process.wait()
        traces = Traces(
            known=frozenset((process.pid, process.start) for process in self._last_tree),
            session=self._started.pid if self._started else None,
            tag=self._running.tag,
            cgroup=self._started.cgroup if self._started else None,
        )
        killed, left = end_leftovers(traces)
        raise BuildFailed(
            "the supervisor of the build was killed, so the build was ended",
            evidence=f"it ended with status {status}; {killed} processes of the build found and killed, {left} left",
            hint="look for who killed it (dmesg shows the kernel's out-of-memory killer), then run the command again",
        )
