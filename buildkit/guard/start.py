"""Starting the supervisor, and giving up on it in order."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from buildkit.errors import MachineError
from buildkit.guard.containment import wanted_containment
from buildkit.guard.isolation import isolation_arguments, isolation_rules
from buildkit.guard.leftovers import TAG, tag_of
from buildkit.guard.native import supervisor_program
from buildkit.guard.protocol import END, Containment

_PATIENCE = 12.0  # seconds; the supervisor itself gives up after 10


@dataclass(frozen=True)
class Running:
    """A supervisor: its process, our end of its control socket, the reading end of the command's output.

    As a context: whatever happens inside, after it everything has ended and nothing is left to reap or to close.
    """

    process: subprocess.Popen[bytes]
    control: socket.socket
    output: int
    command: tuple[str, ...]
    tag: str
    containment: Containment | None = None
    """The one that was insisted on."""

    def ask_to_end(self) -> None:
        """Tell the supervisor to end everything; it may have done so already."""
        with contextlib.suppress(OSError):
            self.control.send(END)

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ask_to_end()
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        finally:
            # The closed socket ends everything even when a second signal has cut the wait short.
            self.control.close()
            os.close(self.output)


def supervisor_command(
    program: Path,
    command: Sequence[str],
    *,
    control: int,
    cwd: Path,
    writable: Sequence[Path] | None,
    protected: Sequence[Path],
    scratch: Path | None,
    containment: Containment | None = None,
    hidden: Sequence[Path] = (),
) -> list[str]:
    """The words that start the supervisor; with ``writable`` None it isolates nothing. ``containment``: no other."""
    rules = () if writable is None else isolation_rules(writable, protected, hidden=hidden)
    return [
        str(program),
        f"--control={control}",
        f"--parent={os.getpid()}",
        f"--directory={cwd}",
        *([f"--scratch={scratch}"] if scratch is not None else []),
        *([f"--containment={containment}"] if containment is not None else []),
        *isolation_arguments(rules),
        "--",
        *command,
    ]


def start_supervisor(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    writable: Sequence[Path] | None,
    protected: Sequence[Path],
    scratch: Path | None,
    hidden: Sequence[Path] = (),
) -> Running:
    """Start it in a session of its own, with nothing of ours open in it but its socket and the output pipe."""
    containment = wanted_containment()
    program = supervisor_program()
    tag = tag_of(cwd)
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    try:
        words = supervisor_command(
            program,
            command,
            control=theirs.fileno(),
            cwd=cwd.absolute(),
            writable=writable,
            protected=protected,
            scratch=scratch.absolute() if scratch is not None else None,
            containment=containment,
            hidden=hidden,
        )
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            env={**env, TAG: tag},
            cwd="/",
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        os.close(reading)
        raise MachineError(f"{program} cannot be started", evidence=str(error)) from error
    finally:
        theirs.close()
        os.close(writing)
    os.set_blocking(reading, False)
    ours.setblocking(False)
    return Running(process, ours, reading, tuple(command), tag, containment)
