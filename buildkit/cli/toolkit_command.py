"""``cudabuild toolkit``: the CUDA toolkits of this machine, and getting one without root."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from buildkit.cli.console import printable
from buildkit.cli.options import Asked, examples, json_option, make_context
from buildkit.cli.output import answer, print_json, say
from buildkit.cli.terminal import reporter_for
from buildkit.progress import Silent
from buildkit.recipe.quantities import format_size

if TYPE_CHECKING:
    from buildkit.cli.toolkit_schema import ToolkitObject, ToolkitsObject


@click.group(
    "toolkit",
    epilog=examples(
        "cudabuild toolkit list",
        "cudabuild toolkit install 12.8",
        "export CUDA_HOME=$(cudabuild toolkit path 12.8)",
    ),
)
def command() -> None:
    """List, install and remove CUDA toolkits, without root.

    CUDA 11.8 to 12.9 comes from NVIDIA's redistributable archives, 13.x from package-index wheels.
    """


@command.command("list", epilog=examples("cudabuild toolkit list", "cudabuild toolkit list --json"))
@json_option
def list_command(as_json: bool) -> int:
    """List the toolkits that are here, what each lacks, and those that can be installed."""
    from buildkit.cli.toolkit_schema import toolkits_object

    found = toolkits_object(make_context(Asked.read({}), Silent(), may_install=False))
    if as_json:
        print_json(found.model_dump(mode="json", by_alias=True))
        return 0
    for line in table(found.toolkits):
        answer(line)
    for note in found.notes:
        say(note)
    if not found.toolkits:
        say("no CUDA toolkit is here: 13.x is made from package-index wheels when it is needed")
    for line in offered(found):
        answer(line)
    return 0


@command.command(
    "install",
    epilog=examples(
        "cudabuild toolkit install 12.8                   the newest 12.8",
        "cudabuild toolkit install 12.4.0                 exactly this version",
        "cudabuild torch-scatter --torch 2.8.0+cu128      takes the toolkit that fits",
    ),
)
@click.argument("version")
@click.option("--offline", is_flag=True, help="Use only what is in the cache.")
@json_option
def install_command(version: str, as_json: bool, **options: Any) -> int:
    """Install the toolkit of VERSION into the cache, check it, and print what CUDA_HOME has to be.

    One that is there is checked, and made again if it is not what was installed. What has been downloaded when it is
    ended is kept: the same command goes on from there.
    """
    from buildkit.build.toolkit_list import made_home
    from buildkit.build.toolkits import install_archive_toolkit, install_wheel_toolkit
    from buildkit.cli.toolkit_schema import InstalledToolkitObject
    from buildkit.machine.installable import asked_version
    from buildkit.machine.interpreter import active_interpreter

    asked = asked_version(version)
    with reporter_for(verbose=False) as reporter:
        context = make_context(Asked.read(options), reporter)
        if asked.origin == "archives":
            toolkit = install_archive_toolkit(asked, context)
        else:
            python = active_interpreter(None, context.environ, context.cwd, context.memo)
            toolkit = install_wheel_toolkit(asked.release, python, context)
        home = made_home(asked.release, context)
    if as_json:
        found = InstalledToolkitObject(release=toolkit.release, version=toolkit.version, path=str(home))
        print_json(found.model_dump(mode="json", by_alias=True))
        return 0
    say(f"CUDA {toolkit.version} is here, and builds take it where it fits; for other programs:")
    say(f"export CUDA_HOME=$(cudabuild toolkit path {asked.release})")
    answer(str(home))
    return 0


@command.command("path", epilog=examples("export CUDA_HOME=$(cudabuild toolkit path 12.8)"))
@click.argument("version")
def path_command(version: str) -> int:
    """Print what CUDA_HOME has to be for the toolkit of VERSION that is here."""
    from buildkit.build.toolkit_list import home_of

    answer(str(home_of(version, make_context(Asked.read({}), Silent()))))
    return 0


@command.command("uninstall", epilog=examples("cudabuild toolkit uninstall 12.8"))
@click.argument("version")
@json_option
def uninstall_command(version: str, as_json: bool) -> int:
    """Take away the toolkit of VERSION that cudabuild installed, and what is left of its downloads."""
    from buildkit.build.toolkit_list import release_of, uninstall
    from buildkit.cli.toolkit_schema import RemovedToolkitObject

    with reporter_for(verbose=False) as reporter:
        freed = uninstall(version, make_context(Asked.read({}), reporter))
    if as_json:
        print_json(
            RemovedToolkitObject(release=release_of(version), freed=freed).model_dump(mode="json", by_alias=True)
        )
    else:
        say(f"CUDA {release_of(version)} is gone: {format_size(freed)}")
    return 0


def table(toolkits: Sequence[ToolkitObject]) -> Iterator[str]:
    """Aligned lines for people: version, where it is, how it was found, what it lacks."""
    rows = [(each.version or each.release, each.path, each.origin, _state(each)) for each in toolkits]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    for row in rows:
        cells = (printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def offered(found: ToolkitsObject) -> Iterator[str]:
    """What can be installed: a line for each origin, and one for each installation that did not come to its end."""
    for origin, title in (("wheels", "from wheels"), ("archives", "from NVIDIA's archives")):
        releases = [each.release for each in found.installable if each.origin == origin]
        yield f"can be installed {title}: {' '.join(releases)}"
    for each in found.installable:
        if each.downloaded:
            yield f"CUDA {each.release}: {format_size(each.downloaded)} downloaded; `install {each.release}` goes on"


def _state(toolkit: ToolkitObject) -> str:
    if toolkit.problem:
        return f"damaged ({toolkit.problem}): cudabuild toolkit install {toolkit.release}"
    return f"lacks {', '.join(toolkit.missing)}" if toolkit.missing else "complete"
