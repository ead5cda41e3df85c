"""``cudabuild matrix``: many wheels from one file."""

from __future__ import annotations

from typing import Any

import click

from buildkit.cli.matrix_audit import audit_command
from buildkit.cli.matrix_github import github_command
from buildkit.cli.matrix_inputs import matrix_options, read_inputs
from buildkit.cli.matrix_run import run
from buildkit.cli.matrix_worker import worker_command
from buildkit.cli.options import Asked, examples, json_option, make_context
from buildkit.cli.output import answer, print_json
from buildkit.progress import Silent


@click.group("matrix", epilog=examples("cudabuild matrix show", "cudabuild matrix run", "cudabuild matrix status"))
def command() -> None:
    """Build the wheels of a matrix: recipes x torch x CUDA x Python x targets, from `[matrix]` in cudabuild.toml."""


@command.command("show", epilog=examples("cudabuild matrix show", "cudabuild matrix show --only 'diso-*' --json"))
@matrix_options
@json_option
def show(*, as_json: bool, **options: Any) -> int:
    """Show the cells: what is stored already, stale or missing, and what it will take.

    Nothing is built, fetched or installed. Where something that tells whether a wheel still serves is not here (its
    torch, its source), the cell is `unknown`.
    """
    from buildkit.cli.matrix_page import show_lines
    from buildkit.cli.matrix_schema import show_object
    from buildkit.machine.limits import read_limits
    from buildkit.matrix.local import usual_slots
    from buildkit.matrix.outlook import look, request_of

    inputs = read_inputs(options)
    outlooks = look(
        inputs.cells,
        inputs.packages,
        inputs.pasts(),
        request_of(inputs.asked.request(""), inputs.python_of()),
        inputs.asked.settings.targets,
        inputs.context,
        inputs.python.platform,
    )
    slots = usual_slots(read_limits(inputs.asked.environ).cpus)
    shown = show_object(str(inputs.file), outlooks, inputs.dropped, slots)
    if as_json:
        print_json(shown.model_dump(mode="json", by_alias=True))
        return 0
    for line in show_lines(shown):
        answer(line)
    return 0


@command.command("status", epilog=examples("cudabuild matrix status", "cudabuild matrix status 20261122-3f2a91 --json"))
@click.argument("identifier", default="last", metavar="[RUN]")
@json_option
def status(identifier: str, *, as_json: bool) -> int:
    """Show how far a run is, or how it ended: the newest one, or the one of this id."""
    from buildkit.cli.matrix_page import run_lines
    from buildkit.matrix.state import Runs

    runs = Runs(make_context(Asked.read({}), Silent()).places.matrix)
    state = runs.find(identifier)
    if state.status == "running" and not runs.is_alive(state):
        state = state.model_copy(update={"status": "interrupted"})
    if as_json:
        print_json(state.model_dump(mode="json", by_alias=True))
        return 0
    for line in run_lines(state):
        answer(line)
    return 0


command.add_command(run)
command.add_command(github_command)
command.add_command(audit_command)
command.add_command(worker_command)
