"""``cudabuild matrix worker``: this machine as a worker of a Dask cluster that makes cells."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import click

from buildkit.cli.options import Asked, DurationType, SizeType, examples, make_context
from buildkit.cli.output import say
from buildkit.errors import UsageError
from buildkit.progress import Silent


@click.command(
    "worker",
    epilog=examples(
        "cudabuild matrix worker tcp://127.0.0.1:8786",
        "cudabuild matrix worker tls://head.example:8786 --share /mnt/wheels",
        "cudabuild matrix worker tls://head.example:8786 --publish https://wheels.example/pt2.13-cu130/simple/",
    ),
)
@click.argument("address")
@click.option("--name", metavar="NAME", help="Its name, by which a cell finds it again (this host's).")
@click.option("--cells", type=click.IntRange(1), default=1, show_default=True, help="Builds at a time.")
@click.option("--memory", type=SizeType(), metavar="SIZE", help="For all of them together (what this machine has).")
@click.option("--share", type=click.Path(path_type=Path), metavar="DIR", help="Put wheels into this shared folder.")
@click.option("--publish", "index", metavar="URL", help="Send wheels to this index; CUDABUILD_TOKEN is its token.")
@click.option("--offline", is_flag=True, help="It has no network: no toolkit can be made from wheels here.")
@click.option("--patience", type=DurationType(), default="10m", show_default=True, metavar="TIME",
              help="How long to wait for a scheduler that is gone.")  # fmt: skip
@click.option("--insecure", is_flag=True, help="Without TLS beyond this machine, on a network that is yours alone.")
def worker_command(*, address: str, **options: Any) -> int:
    """Build cells for the Dask scheduler at ADDRESS, until it is told to end.

    The worker looks at this machine first and offers what it finds: memory, GPUs, CUDA releases, platform, version.
    """
    from buildkit.matrix.dask_policy import checked_address

    address = checked_address(address, insecure=options["insecure"])
    try:
        from buildkit.matrix.dask_worker import WorkerSettings, serve
    except ImportError as error:
        raise UsageError("a worker needs Dask", evidence=str(error), hint="pip install 'cudabuild[cluster]'") from error
    from buildkit.matrix.worker_delivery import Delivery
    from buildkit.matrix.worker_survey import look, resources

    context = make_context(Asked.read({}), Silent())
    name = checked_name(options["name"] or platform.node())
    survey = look(context.environ, context.places.memo, memory=options["memory"], offline=options["offline"])
    share = str((context.cwd / options["share"]).absolute()) if options["share"] else ""
    environ = {**context.environ, "CUDABUILD_CACHE": str(context.places.cache)}
    if share:
        environ.setdefault("CUDABUILD_STORE", share)
    say(
        f"{name}: {survey.platform}, {survey.version}, {survey.cpus} processors, {survey.memory / (1 << 30):.1f} GiB, "
        f"{survey.compiler}, CUDA toolkits {', '.join(survey.toolkits) or 'none'}, "
        f"GPUs {', '.join(survey.gpus) or 'none'}"
    )
    delivery = Delivery(share, options["index"] or "")
    delivery.prepare()
    settings = WorkerSettings(
        address=address,
        name=name,
        cells=options["cells"],
        resources=resources(survey),
        folder=context.places.work / "matrix" / f"worker-{name}-{os.getpid()}",
        cache=context.places.cache,
        delivery=delivery,
        patience=options["patience"],
    )
    serve(settings, environ, say)
    return 0


def checked_name(name: str) -> str:
    """A name that can stand in a path and in a line. Raises UsageError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        hint = "letters, digits, dots, dashes and underscores: --name node7"
        raise UsageError(f"{name!r} cannot be a worker's name", hint=hint)
    return name
