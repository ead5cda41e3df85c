"""``cudabuild install``: build, prove, install into the active environment, prove there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buildkit.cli.options import Asked, json_option, make_context, packages_argument, plan_options, verbose_option
from buildkit.cli.output import say
from buildkit.cli.results import print_results
from buildkit.cli.terminal import reporter_for
from buildkit.errors import CudabuildError

if TYPE_CHECKING:
    from buildkit.build.context import Context
    from buildkit.build.pipeline import BuildResult
    from buildkit.plan.request import Request

EPILOG = "\b\nExample:\n  . .venv/bin/activate && cudabuild install diso"


@click.command("install", epilog=EPILOG)
@packages_argument
@plan_options
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Put the wheel here as well.")
@json_option
@verbose_option
def command(packages: tuple[str, ...], **options: Any) -> int:
    """Install proven wheels into the active environment (--python, VIRTUAL_ENV, CONDA_PREFIX, ./.venv).

    No other installed package is changed; if the proof fails there, what was there before is put back.
    """
    return install_all(packages, options)


def install_all(packages: tuple[str, ...], options: dict[str, Any]) -> int:
    """Build and install one package after the other, up to the first that fails."""
    from buildkit.build.pipeline import build

    asked = Asked.read(options)
    # The environment that is installed into is the one whose torch the wheel must fit.
    results: list[BuildResult] = []
    lines: list[str] = []
    with reporter_for(verbose=options["verbose"]) as reporter:
        context = make_context(asked, reporter)
        for package in packages:
            request = asked.request(package)
            result = _refused(request, context) or build(request, asked.settings.targets, context, out=options["out"])
            results.append(result)
            if result.error is None:
                lines += _install(result, request.python, context)
            if result.error is not None:
                break
    code = print_results(results, as_json=options["as_json"], installed=True)
    if not options["as_json"]:
        for line in lines:
            say(line)
    return code


def _refused(request: Request, context: Context) -> BuildResult | None:
    """The failure, where the environment is not to be installed into at all: known before anything is built."""
    from buildkit.build.installation import destination
    from buildkit.build.pipeline import BuildResult

    try:
        destination(request.python, context)
    except CudabuildError as error:
        return BuildResult(recipe=request.package, device=request.device, error=error)
    return None


def _install(result: BuildResult, python: Path | None, context: Context) -> list[str]:
    from buildkit.build.installation import install_proven, keeping_lines
    from buildkit.machine.place import read_surroundings

    try:
        done = install_proven(result, python, context)
    except CudabuildError as error:
        result.error = error
        return []
    wheel = result.wheel or Path()
    what = f"replaced {done.replaced}" if done.replaced else "newly installed"
    lines = [f"installed into {done.prefix} ({what}{', with ' + ', '.join(done.added) if done.added else ''})"]
    container = read_surroundings(context.environ).container
    keep = keeping_lines(wheel, result.recipe, context.cwd, container=container, host=os.uname().nodename)
    return [*lines, *(f"to keep it: {line}" for line in keep)]
