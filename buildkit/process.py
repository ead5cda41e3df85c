"""The one gateway to other programs.

Short questions (``nvcc --version``, ``git fetch``, ``uv pip install``) go through :func:`run`: a list of
words, a deadline, captured output, the whole process group ended when the deadline passes or the caller
is interrupted. A package's own build code never runs here: it runs under ``buildkit.guard``.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from buildkit.errors import CudabuildError

SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|AUTH|NETRC)", re.IGNORECASE)
_URL_SECRET = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/@\s]*@", re.IGNORECASE)


class ProgramFailed(CudabuildError):
    """A program that cudabuild itself asked something ended with an error."""

    kind = "program-failed"
    exit_code = 5

    def __init__(self, message: str, *, returncode: int | None, output: str, hint: str = "") -> None:
        super().__init__(message, evidence=last_line(output), hint=hint)
        self.returncode = returncode
        self.output = output


class ProgramMissing(ProgramFailed):
    """The program is not on this machine."""

    kind = "program-missing"


class ProgramTimedOut(ProgramFailed):
    """The program did not answer within its deadline (seconds)."""

    kind = "program-timeout"


@dataclass(frozen=True)
class Completed:
    """What a program answered: exit status, both streams as text (undecodable bytes escaped), seconds."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float


def redact(text: str) -> str:
    """The text without the user part of URLs."""
    return _URL_SECRET.sub(r"\g<scheme>***@", text)


def quoted(command: Sequence[str]) -> str:
    """The command as a person could type it, secrets in URLs redacted."""
    return redact(shlex.join(command))


def environment_difference(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """``+NAME=value`` and ``-NAME`` lines; values of variables that are named like secrets are hidden."""

    def shown(name: str, value: str) -> str:
        return "***" if SECRET_NAME.search(name) else redact(value)

    removed = [f"-{name}" for name in sorted(before.keys() - after.keys())]
    changed = [f"+{name}={shown(name, after[name])}" for name in sorted(after) if before.get(name) != after[name]]
    return removed + changed


def last_line(text: str) -> str:
    """The last line that is not blank: most tools say there what went wrong."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the process group of a child that was started as its own group's leader and is not yet reaped."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let what a signal's handler raises come at the end of this block.

    Raised inside of Popen, it would leave a program running that nobody knows of: in a session of its own, where
    no Ctrl-C reaches it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread only
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    held = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in held:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _started(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path | None, *, with_input: bool
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(command),
            env=environment,
            cwd=cwd,
            stdin=subprocess.PIPE if with_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ProgramMissing(f"{command[0]} is not on this machine", returncode=None, output=str(error)) from error
    except OSError as error:
        raise ProgramFailed(f"{command[0]} cannot be started", returncode=None, output=str(error)) from error


# Asked after prctl, who the parent is cannot change unnoticed any more.
_ATTENDED = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def start_attended(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdout: Path, stderr: Path
) -> subprocess.Popen[bytes]:
    """Start a program that runs beside this one, in a session of its own, and goes on when this returns.

    It gets SIGTERM if this process ends, however it ends (PR_SET_PDEATHSIG; start it from the main thread, whose end
    counts). Its streams go to the two files, which are made anew. Raises ProgramFailed.
    """
    words = [sys.executable, "-I", "-S", "-c", _ATTENDED, str(os.getpid()), *command]
    with _signals_held_back(), stdout.open("wb") as out, stderr.open("wb") as err:
        try:
            return subprocess.Popen(
                words, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
        except OSError as error:
            raise ProgramFailed(f"{command[0]} cannot be started", returncode=None, output=str(error)) from error


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60.0,
    check: bool = True,
    stdin: bytes | None = None,
    log: IO[str] | None = None,
) -> Completed:
    """Run a program to its end and return what it answered.

    ``env`` is the whole environment (default: this process's). ``timeout`` is in seconds. With ``check``,
    a non-zero exit status raises :class:`ProgramFailed`. ``log`` receives the quoted command, the
    environment's differences to this process's and all output.
    """
    environment = dict(os.environ if env is None else env)
    if log is not None:
        log.write(f"$ {quoted(command)}\n")
        log.writelines(f"  {line}\n" for line in environment_difference(os.environ, environment))
    started = time.monotonic()
    process: subprocess.Popen[bytes] | None = None
    try:
        with _signals_held_back():
            process = _started(command, environment, cwd, with_input=stdin is not None)
        out, err = process.communicate(stdin, timeout=timeout)
    except BaseException as error:
        if process is not None:
            end_group(process)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise ProgramTimedOut(
            f"{quoted(command)} did not answer within {timeout:g} s", returncode=None, output=str(error)
        ) from None
    done = Completed(
        process.returncode,
        out.decode("utf-8", "backslashreplace"),
        err.decode("utf-8", "backslashreplace"),
        time.monotonic() - started,
    )
    if log is not None:
        log.write(redact(done.stdout) + redact(done.stderr))
    if check and done.returncode != 0:
        raise ProgramFailed(
            f"{quoted(command)} ended with exit status {done.returncode}",
            returncode=done.returncode,
            output=redact(done.stderr or done.stdout),
        )
    return done
