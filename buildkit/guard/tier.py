"""Which containment and isolation a build would get here: found out by holding a program that does nothing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import CudabuildError
from buildkit.guard.native import existing_supervisor
from buildkit.guard.protocol import Containment, Ended, Isolation, Lacking, Started, parse_message
from buildkit.guard.start import Running, start_supervisor

_PROGRAM = "/bin/true"


@dataclass(frozen=True)
class Tier:
    """What is permitted here; both None, and ``note`` says why, where that could not be found out."""

    containment: Containment | None
    isolation: Isolation | None
    note: str = ""


def permitted_tier(environ: Mapping[str, str], patience: float) -> Tier:
    """Start the supervisor on a program that ends at once. ``patience`` in seconds. Never raises, compiles nothing."""
    supervisor = existing_supervisor()
    if supervisor is None:
        return Tier(None, None, "not known before the first build: the supervisor is not compiled yet")
    try:
        some = [supervisor.parent]  # what a build could not hide could not be hidden here either
        running = start_supervisor(
            [_PROGRAM], cwd=Path("/"), env=dict(environ), writable=(), protected=(), scratch=None, hidden=some
        )
        with running:
            return _told(running, time.monotonic() + patience)
    except (CudabuildError, OSError) as error:
        return Tier(None, None, str(error))


def _told(running: Running, deadline: float) -> Tier:
    """What the supervisor says first; waits for its last word, so that it has nothing left to end."""
    found = Tier(None, None, "the supervisor did not answer in time")
    text = b""
    while time.monotonic() < deadline:
        running.control.settimeout(max(0.01, deadline - time.monotonic()))
        with contextlib.suppress(TimeoutError):
            chunk = running.control.recv(1 << 12)
            text += chunk
            *lines, text = text.split(b"\n")
            for line in lines:
                message = parse_message(line.decode("utf-8", "replace"))
                if isinstance(message, Started):
                    found = Tier(message.containment, message.isolation)
                elif isinstance(message, Lacking):
                    why = os.strerror(message.error)
                    found = Tier(None, None, f"{running.containment} is insisted on and not permitted: {why}")
                elif isinstance(message, Ended):
                    return found
            if not chunk:
                return found
    return found
