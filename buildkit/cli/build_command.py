"""``cudabuild build``, and the bare form ``cudabuild RECIPE ...``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from buildkit.cli.options import Asked, json_option, make_context, packages_argument, plan_options, verbose_option
from buildkit.cli.results import print_results
from buildkit.cli.settings import cache_folder
from buildkit.cli.terminal import reporter_for

EPILOG = """\b
Examples:
  cudabuild build diso --target 12.0
  cudabuild build diso torch-scatter --target '8.6;12.0+PTX' --torch 2.13.0+cu130
  cudabuild build ./my-extension --target native --install
  cudabuild build pypi:diso==0.1.4 --target rtx4090 --json
  cudabuild build diso --target 12.0 --detach
"""


@click.command("build", epilog=EPILOG)
@packages_argument
@plan_options
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Put the wheel here.")
@click.option("--install", "install_too", is_flag=True, help="Install it into the active environment as well.")
@click.option("--detach", is_flag=True, help="Go on in the background; print the build's id.")
@click.option("--plan", "plan_only", is_flag=True, help="Say what would be done, and do nothing.")
@json_option
@verbose_option
def command(packages: tuple[str, ...], **options: Any) -> int:
    """Build packages, or take them from the store, and print what was proven.

    PACKAGE is a recipe's name, a project's folder (with a slash in it), or pypi:NAME[==VERSION].
    """
    if options["plan_only"]:
        from buildkit.cli.plan_command import show_plans

        return show_plans(packages, options)
    if options["detach"]:
        from buildkit.cli.detach import build_detached

        return build_detached(packages, options)
    if options["install_too"]:
        from buildkit.cli.install_command import install_all

        return install_all(packages, options)
    return build_all(packages, options)


def build_all(packages: tuple[str, ...], options: dict[str, Any]) -> int:
    """Build one package after the other; the first failure's exit code counts."""
    from buildkit.build.pipeline import build
    from buildkit.build.places import Places
    from buildkit.cli.receipts import expected, ignored, leave_receipt
    from buildkit.machine.witness import watching

    words = sys.argv[1:]
    with reporter_for(verbose=options["verbose"]) as reporter:
        results = []
        for package in packages:
            with watching() as watch:
                asked = Asked.read(options)
                watch.ignore(ignored(Places(cache_folder(asked.settings, asked.environ))))
                context = make_context(asked, reporter)
                request = asked.request(package)
                watch.expect(expected(package, request.recipes, asked.environ, asked.cwd))
                result = build(request, asked.settings.targets, context, out=options["out"], planned=watch.freeze)
            results.append(result)
            if len(packages) == 1 and result.entry is not None and "/" not in package and request.source is None:
                store = context.store
                leave_receipt(words, result, watch, store.wheel(result.entry), store.witness(result.entry))
            if result.error is not None and result.error.exit_code in {130, 143}:
                break
    return print_results(results, as_json=options["as_json"])
