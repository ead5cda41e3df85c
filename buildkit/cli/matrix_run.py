"""``cudabuild matrix run``: the cells of a matrix, built here or on a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buildkit.cli.matrix_inputs import Inputs, common_words, matrix_options, read_inputs
from buildkit.cli.options import examples, json_option
from buildkit.cli.output import print_json, say
from buildkit.errors import StoreError, UsageError
from buildkit.plan.request import MOST_JOBS

if TYPE_CHECKING:
    from buildkit.machine.limits import Limits
    from buildkit.matrix.cell import Cell
    from buildkit.matrix.executors import ExecutorContext
    from buildkit.matrix.history import Estimate
    from buildkit.matrix.results import CellObject, DroppedObject, RunObject

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    "run",
    epilog=examples(
        "cudabuild matrix run",
        "cudabuild matrix run --only 'diso-*' --cells 2 --fail-fast",
        "cudabuild matrix run --changed-since origin/main --junit wheels.xml",
    ),
)
@matrix_options
@click.option(
    "--executor", default="local", show_default=True, metavar="NAME", help="local, slurm[:online] or dask[:ADDRESS]."
)
@click.option("--cells", "slots", type=click.IntRange(1, MOST_JOBS), metavar="N", help="At most so many at a time.")
@click.option("--jobs", "-j", type=click.IntRange(1, MOST_JOBS), metavar="N", help="Compilers at a time, in each cell.")
@click.option("--fail-fast", is_flag=True, help="End everything at the first failure.")
@click.option("--anew", is_flag=True, help="Begin a new run, not where an interrupted one ended.")
@click.option("--changed-since", metavar="REV", help="Only recipes and folders whose files changed, by git.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Put all wheels here.")
@click.option("--report", type=_FILE, metavar="FILE", help="Write the object of --json into this file, too.")
@click.option("--junit", type=_FILE, metavar="FILE", help="Write JUnit XML for CI systems.")
@click.option("--refresh", is_flag=True, help="Build again, and resolve the build requirements again.")
@click.option("--offline", is_flag=True, help="Use only what is in the cache.")
@click.option("--store", metavar="URL|PATH", help="Ask this store for wheels that are not here.")
@click.option("--no-canary", is_flag=True, help="Compile without building the small test kernel first.")
@json_option
def run(*, as_json: bool, **options: Any) -> int:
    """Build every cell, or take it from the store; the exit code is that of the first that failed.

    The longest go first. A cell that ran out of memory, lost its machine or had no network is tried again; one that
    does not compile is not. Ctrl-C ends all of it, and the next `matrix run` goes on where it was.
    """
    from buildkit.matrix.junit import junit_text

    inputs = read_inputs(options)
    state = _run(inputs, options)
    if (folder := options["out"]) is not None:
        _collect(state.cells, folder)
    document = state.model_dump(mode="json", by_alias=True)
    for path, text in (
        (options["report"], state.model_dump_json(by_alias=True, indent=1) + "\n"),
        (options["junit"], junit_text(state)),
    ):
        if path is not None:
            _write(path, text)
    _tell(state, document, as_json=as_json)
    return state.exit_code or 0


def _tell(state: RunObject, document: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    from buildkit.cli.matrix_page import run_lines

    for line in run_lines(state):
        say(line)


def _run(inputs: Inputs, options: Mapping[str, Any]) -> RunObject:
    """Choose the cells, run them, return the document."""
    from buildkit.cli.matrix_watch import watcher_for_this_terminal
    from buildkit.machine.limits import read_limits
    from buildkit.matrix.executors import is_local, make_executor, one_platform
    from buildkit.matrix.history import estimate
    from buildkit.matrix.run import MatrixRun, Policy
    from buildkit.matrix.tasks import tasks_of

    limits = read_limits(inputs.asked.environ)
    local = is_local(options["executor"])
    cells, left_out = _chosen(inputs, options, local=one_platform(options["executor"]))
    pasts = inputs.pasts()
    estimates = {cell.id: estimate(cell, inputs.packages[cell.recipe, cell.version], pasts) for cell in cells}
    common = common_words(options)
    with inputs.runs.choosing():
        state = _document(inputs, options, cells, left_out, estimates, common)
        executor = make_executor(
            options["executor"], _surroundings(inputs, options, inputs.runs.logs(state.run), limits)
        )
        state = state.model_copy(update={"slots": executor.slots})
        inputs.runs.write(state)
    todo = [cell for cell in cells if state.cell(cell.id).status != "succeeded"]
    python = inputs.python_of() if local else _by_name
    tasks = tasks_of(todo, inputs.packages, estimates, common, python, options["jobs"])
    watcher = watcher_for_this_terminal()
    if len(todo) < len(cells):
        watcher.note(f"run {state.run} goes on: {len(cells) - len(todo)} of {len(cells)} cells are done")
    policy = Policy(options["fail_fast"], limits.memory if local else None)
    runs = inputs.runs
    try:
        loop = MatrixRun(state, executor, watcher, policy, save=runs.write, sign=lambda: runs.touch(state.run))
        done = loop.run(tasks)
    finally:
        watcher.close()
    runs.clear(done.run)
    return done


def _surroundings(inputs: Inputs, options: Mapping[str, Any], folder: Path, limits: Limits) -> ExecutorContext:
    """What an executor is told of this command. ``folder``: where answers and logs are put."""
    from buildkit.matrix.executors import ExecutorContext

    return ExecutorContext(
        folder,
        inputs.file.parent,
        inputs.asked.environ,
        options["slots"],
        limits.cpus,
        inputs.context.places.cache,
        options["store"] or inputs.asked.settings.store or "",
    )


def _by_name(cell: Cell) -> str:
    """On other machines the active Python may be another one."""
    return f"python{cell.python}"


def _chosen(
    inputs: Inputs, options: Mapping[str, Any], *, local: bool
) -> tuple[tuple[Cell, ...], tuple[DroppedObject, ...]]:
    """The cells that are run, and those that are left out of this run."""
    from buildkit.matrix.changed import changed_since
    from buildkit.matrix.results import DroppedObject

    cells: tuple[Cell, ...] = inputs.cells
    dropped: list[DroppedObject] = []
    platform = inputs.python.platform
    if local:
        text = f"this machine is {platform}; --executor takes it elsewhere"
        dropped += [
            DroppedObject(id=one.id, kind="elsewhere", reason=f"for {one.platform}: {text}")
            for one in cells
            if one.platform != platform
        ]
        cells = tuple(one for one in cells if one.platform == platform)
    if (revision := options["changed_since"]) is not None:
        changed = changed_since(revision, list(inputs.packages.values()))
        text = f"no file of it has changed since {revision}"
        dropped += [
            DroppedObject(id=one.id, kind="unchanged", reason=text)
            for one in cells
            if (one.recipe, one.version) not in changed
        ]
        cells = tuple(one for one in cells if (one.recipe, one.version) in changed)
    return cells, tuple(dropped)


def _document(
    inputs: Inputs,
    options: Mapping[str, Any],
    cells: Sequence[Cell],
    left_out: Sequence[DroppedObject],
    estimates: Mapping[str, Estimate],
    common: Sequence[str],
) -> RunObject:
    """A new run, or the interrupted one of the same cells that it goes on with. UsageError where one is at work."""
    from buildkit.build.recording import this_process
    from buildkit.matrix.results import RunObject, cell_object, counts_of, dropped_objects
    from buildkit.matrix.tasks import continued, fingerprint
    from buildkit.store.model import utc_now

    dropped = (*dropped_objects(inputs.dropped), *left_out)
    found = tuple(
        cell_object(
            one, expected_seconds=estimates[one.id].seconds, expected_memory=estimates[one.id].memory
        )
        for one in cells
    )  # fmt: skip
    new = RunObject(
        run=inputs.runs.new_id(),
        file=str(inputs.file),
        fingerprint=fingerprint(cells, inputs.packages, common),
        executor=options["executor"],
        slots=1,
        status="running",
        started=utc_now(),
        process=this_process(),
        counts=counts_of(found, len(dropped)),
        cells=found,
        dropped=dropped,
    )
    before = inputs.runs.newest_of(new.file)
    if before is not None and inputs.runs.is_alive(before):
        process = before.process
        raise UsageError(
            f"this matrix is being run already: run {before.run}",
            evidence=f"process {process.pid} on {process.host}" if process else "",
            hint="cudabuild matrix status",
        )
    same = before is not None and before.fingerprint == new.fingerprint and before.status != "done"
    if before is None or not same or options["anew"] or options["refresh"]:
        return new
    store = inputs.context.store

    def kept(cell: CellObject) -> bool:
        return options["executor"] != "local" or (cell.key is not None and store.get(cell.key).entry is not None)

    return continued(new, before, kept)


def _collect(cells: Sequence[CellObject], folder: Path) -> None:
    """Every wheel that can be read from here, under its own name; what cannot is said."""
    folder.mkdir(parents=True, exist_ok=True)
    for cell in cells:
        if cell.wheel is None:
            continue
        source = Path(cell.wheel.path)
        if source.is_file():
            shutil.copyfile(source, folder / cell.wheel.filename)
        else:
            say(f"warning: {cell.id}: {source} is on another machine; --out has it not")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path} cannot be written", evidence=str(error), hint="name another file") from error
