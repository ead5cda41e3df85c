"""Ctrl-C, SIGTERM and SIGHUP become :class:`Interrupted` and :class:`Terminated`.

While a guard runs, the exception waits until everything the build started has ended; a second signal raises at once.
Elsewhere (while uv resolves, say) it is raised where the main thread is, so that the caller's cleanup runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from buildkit.errors import CudabuildError, Interrupted, Terminated

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SignalWatch:
    """What has come, and a descriptor that becomes readable when it does."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.guards = 0
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The handler; runs in the main thread."""
        first = self.received is None
        if first:
            self.received = number
        if self.guards == 0 or not first:
            raise error_of(number)
        os.eventfd_write(self.descriptor, 1)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)


_active: SignalWatch | None = None


def error_of(number: int) -> CudabuildError:
    """The cause that stands for a signal."""
    if number == signal.SIGINT:
        return Interrupted("interrupted (Ctrl-C)")
    return Terminated(f"terminated by {signal.Signals(number).name}")


@contextlib.contextmanager
def ending_signals() -> Iterator[None]:
    """Turn the signals into exceptions inside this block. The handlers from before are put back after it.

    A signal that is ignored on entry (``nohup``) stays ignored. Outside of the main thread, or inside another such
    block, this does nothing.
    """
    global _active  # noqa: PLW0603  (signal handlers are a property of the process)
    if _active is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = SignalWatch()
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    _active = watch
    try:
        for number in _NUMBERS:
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, watch.handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _active = None
        watch.close()


@contextlib.contextmanager
def guarding() -> Iterator[SignalWatch]:
    """For the guard: inside this block a first signal only makes the watch's descriptor readable.

    One that comes too late for the guard to act on it is raised at the end of the block. A guard in another thread is
    told of none: they are the main thread's, which ends what it has started there.
    """
    watch = (_active if threading.current_thread() is threading.main_thread() else None) or SignalWatch()
    watch.guards += 1
    try:
        yield watch
    finally:
        watch.guards -= 1
        if watch is not _active:
            watch.close()
    if watch.received is not None:
        raise error_of(watch.received)
