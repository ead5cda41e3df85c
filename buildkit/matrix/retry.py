"""Whether a cell that ended badly is tried again, and with what: by the cause. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from buildkit.errors import IndexUnreachable, OutOfMemory
from buildkit.matrix.executor import Ended, Need

TRIES_OF_NETWORK = 4
TRIES_OF_MEMORY = 3
TRIES_WHEN_LOST = 4
TRIES_OF_WALLTIME = 10
"""How often a cell is tried in all, by what ended its tries. A build that its node's time ended goes on where it was,
so that one which is given up then makes no way at all."""

MORE_MEMORY = 2.0
"""By how much more memory is asked for after one try took all that it was given."""
PAUSES = (5.0, 20.0, 60.0)
"""Seconds before the next try where the network failed."""

NETWORK_KINDS = frozenset({IndexUnreachable.kind})


@dataclass(frozen=True)
class Again:
    """Try it once more, with this; not before ``after`` seconds have passed."""

    need: Need
    memory: int | None
    """Bytes for `--memory`; None: none is given."""
    after: float
    reason: str


def again(
    ended: Ended, history: tuple[str, ...], need: Need, memory: int | None, *, largest: int | None
) -> Again | None:
    """What to try after a job has ended badly; None: that was it.

    ``history``: what ended the cell's tries, this one included, as :func:`cause_of` has them; ``memory``: what
    `--memory` the try had; ``largest``: bytes that any machine here has at most (None: not known).
    """
    cause = history[-1]
    tries = history.count(cause)
    if cause == "memory":
        return _more_memory(tries, need, memory, largest)
    if cause == "network" and tries < TRIES_OF_NETWORK:
        pause = PAUSES[min(tries, len(PAUSES)) - 1]
        return Again(need, memory, pause, f"the network failed: again in {pause:.0f} s")
    if cause == "lost" and tries < TRIES_WHEN_LOST:
        return Again(need, memory, 0.0, f"{ended.where or 'its worker'} went away: again elsewhere")
    if cause == "walltime" and tries < TRIES_OF_WALLTIME:
        return Again(need, memory, 0.0, "its time on the node was up: it goes on where it was")
    return None


def _more_memory(tries: int, need: Need, memory: int | None, largest: int | None) -> Again | None:
    if tries >= TRIES_OF_MEMORY:
        return None
    wanted = round(need.memory * MORE_MEMORY)
    if largest is not None:
        if need.memory >= largest:
            return None
        wanted = min(wanted, largest)
    more = None if memory is None else max(memory, wanted)
    bigger = replace(need, memory=wanted)
    return Again(bigger, more, 0.0, f"out of memory: again with {wanted / (1 << 30):.1f} GiB")


def cause_of(ended: Ended) -> str:
    """What ended a job: ``memory``, ``network``, ``lost``, ``walltime``; ``failed`` for what no try would change;
    empty where it ended well."""
    if ended.cause != "exited":
        return ended.cause
    if ended.exit_code == 0 and ended.answer is not None:
        return ""
    kind = kind_of(ended)
    if kind == OutOfMemory.kind:
        return "memory"
    if kind in NETWORK_KINDS:
        return "network"
    # Killed from outside, or it could not say how it ended.
    return "lost" if ended.exit_code is None or ended.exit_code < 0 else "failed"


def kind_of(ended: Ended) -> str:
    """The kind of the error that the command told; empty where it told none."""
    error = (ended.answer or {}).get("error")
    return str(error.get("kind", "")) if isinstance(error, dict) else ""
