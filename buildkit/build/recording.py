"""The record of a build on the disk: running, then succeeded, failed with its cause, or cancelled."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.errors import Cancelled, CudabuildError, NoSuchBuild, StoreError, Terminated
from buildkit.guard.sampling import read_stat
from buildkit.store.builds import BuildProcess, BuildRecord, BuildRecords
from buildkit.store.disk import plain_cause
from buildkit.store.model import utc_now

if TYPE_CHECKING:
    from buildkit.build.pipeline import BuildResult


class MoreRequirements(Exception):
    """The backend asked for requirements that the plan did not know: plan again with them."""


def this_process() -> BuildProcess | None:
    """What names this process for good; None where /proc does not show it."""
    found = read_stat(os.getpid())
    if found is None:
        return None
    return BuildProcess(pid=found.pid, start=found.start, boot=boot_id(), host=platform.node())


def boot_id() -> str:
    """What tells one boot of the kernel from another (random(4)); empty where that is hidden."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def cancel_mark(records: BuildRecords, process: BuildProcess) -> Path:
    """The file that is there while somebody ends this process by ``cudabuild cancel``."""
    return records.folder / f"{process.pid}-{process.start}.cancel"


def begin(records: BuildRecords, result: BuildResult, *, log: Path | None = None) -> None:
    """Write that the build runs, in this process; what an earlier record of it knew is kept."""
    record = BuildRecord(
        id=result.build or "",
        key=result.key,
        recipe=result.recipe,
        started=utc_now(),
        status="running",
        log=str(log or result.log) if log or result.log else None,
        process=this_process(),
    )
    with suppress(NoSuchBuild):
        record = record.model_copy(update={"started": records.read(record.id).started})
    records.write(record)


def finish(records: BuildRecords, identifier: str, error: BaseException | None) -> None:
    """Write how the build ended, with the kind and the exit code that its command ends with; it must have begun."""
    update: dict[str, object] = {"finished": utc_now(), "status": "succeeded", "exit_code": 0}
    if error is not None:
        cause = plain_cause(error) if isinstance(error, OSError) else error
        update["status"] = "cancelled" if isinstance(error, Cancelled) else "failed"
        update["error"] = getattr(cause, "kind", CudabuildError.kind)
        update["exit_code"] = getattr(cause, "exit_code", CudabuildError.exit_code)
    records.write(records.read(identifier).model_copy(update=update))


def as_cancelled(error: CudabuildError, records: BuildRecords) -> CudabuildError:
    """What ended the build by a signal was ``cudabuild cancel``, if that has left its mark."""
    process = this_process() if isinstance(error, Terminated) else None
    if process is None or isinstance(error, Cancelled) or not cancel_mark(records, process).exists():
        return error
    return Cancelled("cancelled by `cudabuild cancel`", evidence=error.evidence, log=error.log)


@contextmanager
def recorded(records: BuildRecords, result: BuildResult) -> Iterator[None]:
    """Keep the build's record while the block runs."""
    begin(records, result)
    try:
        yield
    except MoreRequirements:
        raise
    except BaseException as error:
        cause = as_cancelled(error, records) if isinstance(error, CudabuildError) else error
        with suppress(StoreError):  # the cause is what counts
            finish(records, result.build or "", cause)
        if cause is error:
            raise
        raise cause from error
    finish(records, result.build or "", None)
