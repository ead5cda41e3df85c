"""``cudabuild cancel``: ends a running build."""

from __future__ import annotations

import time
from typing import Any

import click

from buildkit.cli.options import Asked, examples, json_option, make_context
from buildkit.cli.output import SCHEMA, print_json, say
from buildkit.progress import Silent


@click.command("cancel", epilog=examples("cudabuild cancel last", "cudabuild cancel 20261121-3f2a --json"))
@click.argument("build", default="last")
@json_option
def command(build: str, **options: Any) -> int:
    """End the running BUILD: an id, the beginning of a key, a recipe's name, or `last`.

    It returns when nothing that the build has started is left. A build in another terminal ends there with exit
    code 143, `cancelled`; what it has compiled is kept for a week, as after Ctrl-C.
    """
    from buildkit.build.running import cancel
    from buildkit.store.builds import BuildRecords

    context = make_context(Asked.read(options), Silent())
    started = time.monotonic()
    record = cancel(BuildRecords(context.places.store), build)
    if options["as_json"]:
        print_json(
            {
                "schema": SCHEMA,
                "build": record.id,
                "recipe": record.recipe,
                "key": record.key,
                "status": record.status,
                "log": record.log,
                "seconds": round(time.monotonic() - started, 3),
            }
        )
    elif record.status == "cancelled":
        say(f"build {record.id} of {record.recipe} was cancelled; nothing of it is left running")
    else:
        say(f"build {record.id} of {record.recipe} {record.status} before it could be cancelled")
    return 0
