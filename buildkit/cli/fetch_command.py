"""``cudabuild fetch``: everything a build will need, into the cache."""

from __future__ import annotations

from typing import Any

import click

from buildkit.cli.options import Asked, json_option, make_context, packages_argument, plan_options, verbose_option
from buildkit.cli.output import SCHEMA, error_object, print_failure, print_json, say
from buildkit.cli.terminal import reporter_for
from buildkit.errors import CudabuildError

EPILOG = """\b
Example, for a machine without a network:
  cudabuild fetch diso --target 12.0 --torch 2.13.0+cu130
  cudabuild diso --target 12.0 --torch 2.13.0+cu130 --offline
"""


@click.command("fetch", epilog=EPILOG)
@packages_argument
@plan_options
@json_option
@verbose_option
def command(packages: tuple[str, ...], **options: Any) -> int:
    """Bring source, requirements, torch and toolkit of a build into the cache; --offline then uses only that."""
    from buildkit.build.prefetch import prefetch

    asked = Asked.read(options)
    code = 0
    objects: list[dict[str, Any]] = []
    with reporter_for(verbose=options["verbose"]) as reporter:
        context = make_context(asked, reporter)
        for package in packages:
            try:
                value = prefetch(asked.request(package), asked.settings.targets, context)
            except CudabuildError as error:
                code = code or error.exit_code
                objects.append({"schema": SCHEMA, "build": None, "recipe": package, "error": error_object(error)})
                if not options["as_json"]:
                    print_failure(error, as_json=False)
                continue
            objects.append({"schema": SCHEMA, **value})
            if not options["as_json"]:
                say(f"{value['recipe']}: everything is in the cache (torch {value['torch']}, CUDA {value['cuda']})")
    if options["as_json"]:
        print_json(objects[0] if len(objects) == 1 else {"schema": SCHEMA, "results": objects})
    return code
