"""The record of a build on the disk: running, then succeeded or failed with its cause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from buildkit.errors import StoreError
from buildkit.store.builds import BuildRecord, BuildRecords
from buildkit.store.model import utc_now

if TYPE_CHECKING:
    from buildkit.build.pipeline import BuildResult


class MoreRequirements(Exception):
    """The backend asked for requirements that the plan did not know: plan again with them."""


@contextmanager
def recorded(records: BuildRecords, result: BuildResult) -> Iterator[None]:
    """Keep the build's record while the block runs."""
    record = BuildRecord(
        id=result.build or "",
        key=result.key,
        recipe=result.recipe,
        started=utc_now(),
        status="running",
        log=str(result.log) if result.log is not None else None,
    )
    records.write(record)
    try:
        yield
    except MoreRequirements:
        raise
    except BaseException as error:
        kind = getattr(error, "kind", "error")
        with suppress(StoreError):  # the cause is what counts
            records.write(record.model_copy(update={"status": "failed", "finished": utc_now(), "error": kind}))
        raise
    records.write(record.model_copy(update={"status": "succeeded", "finished": utc_now()}))
