"""Running a package's own build code so that it cannot outlive, outgrow unseen or overwrite what it must not.

A small native program (``csrc/supervisor``) stands between this process and the command: it isolates the command's
view of the file system, and ends everything that the command ever started when the command ends, when it is told to,
and when this process dies, however it dies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from buildkit.errors import Interrupted, Terminated
from buildkit.guard.loop import GuardLoop
from buildkit.guard.protocol import Outcome, Sample
from buildkit.guard.signals import guarding
from buildkit.guard.start import start_supervisor

__all__ = ["GuardInterrupted", "GuardTerminated", "Outcome", "Sample", "run_guarded"]


class GuardInterrupted(Interrupted):
    """Ctrl-C while the command ran; ``outcome`` says how it ended."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("interrupted (Ctrl-C)", evidence=_ended(outcome))
        self.outcome = outcome


class GuardTerminated(Terminated):
    """SIGTERM or SIGHUP while the command ran; ``outcome`` says how it ended."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("terminated by a signal", evidence=_ended(outcome))
        self.outcome = outcome


def run_guarded(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: BinaryIO,
    deadline: float | None,
    stall: float | None,
    writable: Sequence[Path] | None,
    protected: Sequence[Path],
    scratch: Path | None,
    on_line: Callable[[str], None],
    on_sample: Callable[[Sample], None],
    on_hold: Callable[[], bool] = lambda: False,
    hidden: Sequence[Path] = (),
) -> Outcome:
    """Run a command to its end and end everything it started; return how it went.

    ``env`` is the whole environment. Output of both streams goes raw to ``log`` and line by line (ended by line feed
    or carriage return) to ``on_line``. ``deadline`` is a time of ``time.monotonic``; after ``stall`` seconds without
    output and without processor time the command counts as stalled, unless ``on_hold`` says that it waits for memory.
    Where namespaces are permitted it sees a read-only file system but for ``writable``, devices and the temporary
    folders; ``protected`` folders are read-only there too, and ``hidden`` ones appear empty.
    With ``writable`` None it writes wherever its user may: for a person's own program, not for a package's build.
    When it is ended before its time, large files below ``writable`` that it was just writing are removed.
    ``scratch`` is removed by the supervisor if this process dies meanwhile; else it is the caller's to remove.

    Raises :class:`ProgramMissing` or :class:`ProgramFailed` when the command cannot be started, :class:`BuildFailed`
    when the supervisor was killed, and inside ``ending_signals()`` :class:`GuardInterrupted` or
    :class:`GuardTerminated` once everything has ended. An exception of a callback ends everything, too.
    """
    with guarding() as watch:
        running = start_supervisor(
            command, cwd=cwd, env=env, writable=writable, protected=protected, scratch=scratch, hidden=hidden
        )
        loop = GuardLoop(
            running, watch, log=log, on_line=on_line, on_sample=on_sample, on_hold=on_hold, writable=writable or ()
        )
        with running:
            outcome = loop.run(deadline=deadline, stall=stall)
        if outcome.reason == "interrupted":
            raise GuardInterrupted(outcome)
        if outcome.reason == "terminated":
            raise GuardTerminated(outcome)
        return outcome


def _ended(outcome: Outcome) -> str:
    return f"all that was started has ended after {outcome.seconds:.1f} s ({outcome.survivors} survivors)"
