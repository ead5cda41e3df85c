"""``cudabuild log``: the log of a build."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from buildkit.cli.options import Asked, make_context
from buildkit.cli.output import say
from buildkit.errors import BuildFailed, Cancelled, CudabuildError, NoSuchBuild
from buildkit.progress import Silent

if TYPE_CHECKING:
    from buildkit.store.builds import BuildRecord, BuildRecords

_PAUSE = 0.2  # seconds between two looks
_CHUNK = 1 << 16


@click.command("log", epilog="\b\nExamples:\n  cudabuild log last\n  cudabuild log 20261121-3f2a --follow")
@click.argument("build", default="last")
@click.option("--follow", "-f", is_flag=True, help="Go on while the build runs; exit as it does.")
@click.option("--path", "path_only", is_flag=True, help="Print the log's path instead.")
def command(build: str, **options: Any) -> int:
    """Show the log of BUILD: an id, the beginning of a key, a recipe's name, or `last`.

    With --follow the exit code is the build's own. Ctrl-C ends the showing, never the build.

    On a terminal, control characters in the log are shown escaped; into a file or pipe it goes byte for byte.
    """
    from buildkit.store.builds import BuildRecords

    context = make_context(Asked.read(options), Silent())
    records = BuildRecords(context.places.store)
    record = records.find(build)
    path = _log_of(record, records, wait=options["follow"])
    if options["path_only"]:
        sys.stdout.write(f"{path}\n")
        return 0
    with path.open("rb") as file:
        if not options["follow"]:
            _show(file, at_end=True)
            return 0
        return _follow(file, record, records)


def _log_of(record: BuildRecord, records: BuildRecords, *, wait: bool) -> Path:
    """Where it lies; with ``wait`` a build that has just begun is given the time to begin its log."""
    from buildkit.build.running import is_running

    while True:
        path = Path(record.log) if record.log else None
        if path is not None and path.is_file():
            return path
        if not is_running(record, records):
            evidence = str(path or "")
            raise NoSuchBuild(f"the log of build {record.id} is gone", evidence=evidence, hint="run the build again")
        if not wait:
            hint = f"cudabuild log {record.id} --follow"
            raise NoSuchBuild(f"build {record.id} has not begun its log", evidence=str(path or ""), hint=hint)
        time.sleep(_PAUSE)
        record = records.read(record.id)


def _follow(file: BinaryIO, record: BuildRecord, records: BuildRecords) -> int:
    """Until the build has ended: its exit code. Raises BuildFailed for one that was killed with its command."""
    from buildkit.build.running import how_lost, is_running

    while is_running(record, records):
        _show(file, at_end=False)
        time.sleep(_PAUSE)
        record = records.read(record.id)
    _show(file, at_end=True)  # what came between the last look and the end
    if record.status == "running":
        hint = "type its command again: it goes on where it was ended"
        raise BuildFailed(f"build {record.id} {how_lost(record)}", hint=hint)
    cause = f" ({record.error})" if record.status == "failed" else ""
    say(f"build {record.id} of {record.recipe}: {record.status}{cause}")
    return _exit_code(record)


def _exit_code(record: BuildRecord) -> int:
    """As the build ended; what a record without a code (an older cudabuild's) says by its status."""
    if record.exit_code is not None:
        return record.exit_code
    codes = {"succeeded": 0, "cancelled": Cancelled.exit_code}
    return codes.get(record.status, CudabuildError.exit_code)


def _show(file: BinaryIO, *, at_end: bool) -> None:
    """What has come since the last time. On a terminal whole lines only: what is cut could not be escaped."""
    from buildkit.cli.console import printable

    if not sys.stdout.isatty():
        while chunk := file.read(_CHUNK):
            sys.stdout.buffer.write(chunk)
    else:
        for line in iter(file.readline, b""):
            if not line.endswith(b"\n") and not at_end:
                file.seek(-len(line), 1)
                break
            sys.stdout.write(printable(line.decode("utf-8", "backslashreplace").rstrip("\r\n")) + "\n")
    sys.stdout.flush()
