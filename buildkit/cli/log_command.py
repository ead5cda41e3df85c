"""``cudabuild log``: the log of a build."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from buildkit.cli.options import Asked, make_context
from buildkit.errors import NoSuchBuild
from buildkit.progress import Silent


@click.command("log", epilog="\b\nExamples:\n  cudabuild log last\n  cudabuild log 20261121-3f2a --follow")
@click.argument("build", default="last")
@click.option("--follow", "-f", is_flag=True, help="Go on while the build runs.")
@click.option("--path", "path_only", is_flag=True, help="Print the log's path instead.")
def command(build: str, **options: Any) -> int:
    """Show the log of BUILD: an id, the beginning of a key, a recipe's name, or `last`.

    On a terminal, control characters in the log are shown escaped; into a file or pipe it goes byte for byte.
    """
    from buildkit.store.builds import BuildRecords

    context = make_context(Asked.read(options), Silent())
    records = BuildRecords(context.places.store)
    record = records.find(build)
    path = Path(record.log) if record.log else None
    if path is None or not path.is_file():
        raise NoSuchBuild(f"the log of build {record.id} is gone", evidence=str(path), hint="run the build again")
    if options["path_only"]:
        sys.stdout.write(f"{path}\n")
        return 0
    _show(path, records, record.id, follow=options["follow"])
    return 0


def _show(path: Path, records: Any, name: str, *, follow: bool) -> None:
    from buildkit.cli.console import printable

    with path.open("rb") as file:
        while True:
            if sys.stdout.isatty():
                for line in file:
                    sys.stdout.write(printable(line.decode("utf-8", "backslashreplace").rstrip("\r\n")) + "\n")
            else:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.flush()
            if not follow or records.find(name).status != "running":
                return
            time.sleep(0.5)
