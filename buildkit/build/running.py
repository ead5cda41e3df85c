"""Which process runs a recorded build, whether it still does, and telling it to end."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time

from buildkit.build.recording import boot_id, cancel_mark
from buildkit.errors import Cancelled, CannotCancel
from buildkit.guard.orphans import end_orphans
from buildkit.guard.sampling import read_stat
from buildkit.store.builds import BuildProcess, BuildRecord, BuildRecords
from buildkit.store.model import utc_now

_PATIENCE = 20.0  # seconds for a build to end by itself; its supervisor gives up after 10
_PAUSE = 0.05
SILENCE = 15 * 60.0
"""Seconds without a sign after which a build on another machine counts as dead: more than an idle build is given."""


def is_running(record: BuildRecord, records: BuildRecords) -> bool:
    """Whether the build is at work. One that another machine has begun is believed while it gives a sign now and
    then; one whose command was killed is not, whatever its record says."""
    process = record.process
    if record.status != "running" or process is None:
        return False
    if host_of(record) is not None:
        return time.time() - records.last_sign(record) < SILENCE
    return runs_here(process)


def runs_here(process: BuildProcess) -> bool:
    """Whether a process of this machine is still there; no other one of the same number, nor of an earlier boot."""
    if process.boot != boot_id():
        return False
    found = read_stat(process.pid)
    return found is not None and found.start == process.start and not found.ended


def host_of(record: BuildRecord) -> str | None:
    """The other machine that runs (or ran) the build; None for this one."""
    host = record.process.host if record.process is not None else None
    return host if host != platform.node() else None


def how_lost(record: BuildRecord) -> str:
    """What became of one that is not running, though its record says so."""
    host = host_of(record)
    return (
        f"has given no sign on {host} for {SILENCE / 60:.0f} minutes" if host else "ended when its command was killed"
    )


def find_running(records: BuildRecords, text: str) -> BuildRecord:
    """The one running build that is meant; with ``last`` the newest.

    Raises NoSuchBuild, or CannotCancel when it runs no more or several are meant.
    """
    running = [record for record in records.newest_first() if is_running(record, records)]
    meant = records.matching(text, running)
    if len({record.process for record in meant}) > 1:  # a package and its canary are one command's
        raise CannotCancel(
            f"{text} fits {len(meant)} running builds",
            evidence="\n".join(f"{record.id} of {record.recipe}, since {record.started}" for record in meant),
            hint=f"name one by its id: cudabuild cancel {meant[0].id}",
        )
    if meant:
        return meant[0]
    if text == "last":
        raise CannotCancel("no build is running here", hint="cudabuild log last")
    record = records.find(text)
    raise CannotCancel(
        f"build {record.id} of {record.recipe} is not running",
        evidence=f"it {_how(record)}",
        hint=f"cudabuild log {record.id}",
    )


def _how(record: BuildRecord) -> str:
    when = f" at {record.finished}" if record.finished else ""
    if record.status == "running":
        return how_lost(record)
    status = "was cancelled" if record.status == "cancelled" else record.status
    return f"{status}{when}" + (f" ({record.error})" if record.status == "failed" else "")


def cancel(records: BuildRecords, text: str) -> BuildRecord:
    """End a running build and wait until it has ended; its record as it is then.

    Raises NoSuchBuild, and CannotCancel for one that is not running, on another machine, or another user's.
    """
    record = find_running(records, text)
    process = record.process
    if process is None or process.host != platform.node():
        where = process.host if process else "another machine"
        raise CannotCancel(f"build {record.id} runs on {where}", hint="type the same command there")
    mark = cancel_mark(records, process)
    mark.touch()
    try:
        _end(record, process, records)
    except PermissionError as error:
        raise CannotCancel(f"build {record.id} belongs to another user", evidence=str(error)) from error
    finally:
        mark.unlink(missing_ok=True)
    end_orphans()
    ended = records.find(record.id)
    if ended.status == "running":
        how = {"status": "cancelled", "error": Cancelled.kind, "exit_code": Cancelled.exit_code}
        ended = ended.model_copy(update={**how, "finished": utc_now()})
        records.write(ended)
    return ended


def _end(record: BuildRecord, process: BuildProcess, records: BuildRecords) -> None:
    """SIGTERM, upon which the build ends everything; SIGKILL for a command that hangs: its supervisor does it then."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(process.pid)
            try:
                if not is_running(record, records):  # the number is another process's by now
                    return
                signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)
        deadline = time.monotonic() + _PATIENCE
        while is_running(record, records):
            if time.monotonic() > deadline:
                break
            time.sleep(_PAUSE)
        else:
            return
