"""A build's units under the broker: shims in front of its compilers, and what the broker has told of them.

Nothing of it is in the key: it decides when a compiler runs, never what it is told.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from buildkit.build.context import Context
from buildkit.build.frontend import GuardReport
from buildkit.build.prepare import Prepared
from buildkit.build.resuming import VARIABLE, given, objects_folder
from buildkit.errors import CudabuildError, OutOfMemory
from buildkit.guard.broker_learning import OTHERS
from buildkit.guard.client import BrokerClient, Registration
from buildkit.guard.native import shim_program
from buildkit.guard.schedule import line_length
from buildkit.guard.shim import compilers_on, make_shims, shimmed_environment, unit_places
from buildkit.guard.switch import guard_wanted

_TOO_BIG = (
    "free memory or raise the limit; --jobs 1 leaves one compilation all there is, "
    "fewer --target values make it smaller"
)
_KILLED = (
    "look for what ends compilers here (earlyoom, systemd-oomd, a batch system's limit), give --memory less than "
    "what it lets live, and build again"
)


@dataclass
class Admission:
    """What the broker has told so far. Written by the client's thread, read by the build's."""

    units: set[tuple[str, str]] = field(default_factory=set)
    """Those that were started: number and process. A broker that was started again numbers from the beginning."""
    requeued: int = 0
    running: int = 0
    waiting: int = 0
    failure: str = ""
    """Why a unit cannot be built here; empty while there is none."""
    restarts: int = 0
    """How often the broker had to be started again."""
    build: str = ""
    """The build's id, for people who ask the broker what it does."""
    listeners: list[Callable[[Mapping[str, str]], None]] = field(default_factory=list)
    """Who hears each event, too; from the client's thread."""
    kept: int = 0
    """Units that were answered with an object of an ended try."""
    retries: int = 0
    """How often the backend was started again for lack of memory."""

    def hear(self, event: Mapping[str, str]) -> None:
        """One event of the broker."""
        for listener in self.listeners:
            listener(event)
        what = event.get("what")
        if what == "started":
            self.units.add((event.get("unit", ""), event.get("pid", "")))
        elif what == "killed":
            self.requeued += 1
        elif what == "failed":
            self.failure = event.get("text", "")
        elif what == "memory":
            self.running, self.waiting = int(event.get("running", 0)), int(event.get("waiting", 0))

    def on_hold(self) -> bool:
        """Whether all that could run waits for memory: then the build is not stalled."""
        return self.waiting > 0 and self.running == 0

    def cause(self, error: CudabuildError) -> CudabuildError:
        """The error of a failed build: the unit's that did not fit, where there is one."""
        if not self.failure:
            return error
        message, _, evidence = self.failure.partition("; ")
        return OutOfMemory(message, evidence=evidence, hint=_KILLED if OTHERS in message else _TOO_BIG)


def is_guarded(context: Context) -> bool:
    """Whether units of builds are admitted one by one."""
    return guard_wanted(context.environ)


def jobs_for(prepared: Prepared, context: Context, *, jobs: int, budget: int) -> int:
    """MAX_JOBS of the backend: ``jobs`` as planned, or, under the broker, a line that it can choose from."""
    return max(jobs, line_length(_processors(prepared), budget)) if is_guarded(context) else jobs


def _processors(prepared: Prepared) -> int:
    """How many units may run at once: a person who asks for more than there are processors gets them."""
    return max(prepared.survey.machine.limits.cpus, prepared.request.jobs or 0)


@contextlib.contextmanager
def admission(
    prepared: Prepared,
    context: Context,
    folder: Path,
    source: Path,
    environment: Mapping[str, str],
    *,
    heard: Admission,
    jobs: int,
) -> Iterator[dict[str, str]]:
    """Register the build in ``folder``; gives the backend's environment with shims. ``heard`` is told of it.

    Raises :class:`MachineError` when there can be no broker. All units have been told of at the end.
    """
    if not is_guarded(context):
        yield dict(environment)
        return
    shims = make_shims(context.places.shims, compilers_on(environment["PATH"]), shim_program())
    registration = _registration(prepared, context, folder, jobs, heard.build)
    places = [Path(environment[name]) for name in ("VIRTUAL_ENV", "CUDA_HOME") if name in environment]
    token = _token_file(folder, registration.token)
    try:
        with BrokerClient(registration, heard.hear, environ=context.environ) as client:
            yield {
                **shimmed_environment(environment, shims),
                **client.environment(),
                "CUDABUILD_TOKEN": str(token),
                "CUDABUILD_PLACES": unit_places(source, *places, folder, temporary=folder / "tmp"),
                VARIABLE: str(objects_folder(folder)),
            }
        heard.restarts += client.restarts
    finally:
        heard.kept = given(folder)
        token.unlink(missing_ok=True)


def guard_object(report: GuardReport, heard: Admission, budget: int) -> dict[str, object]:
    """The ``guard`` object of ``--json``."""
    return {
        "peak_memory": report.peak_memory,
        "memory_budget": budget,
        "requeued": heard.requeued,
        "units": len(heard.units) + heard.kept or report.units,
        "kept": heard.kept,
        "retries": heard.retries,
        "containment": report.containment,
        "isolation": report.isolation,
        "survivors": report.survivors,
    }


def _token_file(folder: Path, token: str) -> Path:
    """A build that records its environment stays the same: it sees where the token lies, not what it is."""
    path = folder / "token"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token)
    return path


def _registration(prepared: Prepared, context: Context, folder: Path, jobs: int, build: str) -> Registration:
    limits = prepared.survey.machine.limits
    toolkit = prepared.survey.toolkit
    slurm = limits.memory if "slurm" in limits.memory_source.lower() else 0
    return Registration(
        package=prepared.package.name,
        toolkit=toolkit.toolkit.version if toolkit else "none",
        cpus=max(limits.cpus, jobs),
        jobs=jobs,
        profile=context.places.profiles,
        budget=prepared.request.memory or 0,
        slurm=slurm,
        job=context.environ.get("SLURM_JOB_ID", "") if slurm else "",
        prior=prepared.package.loaded.recipe.build.memory_per_unit,
        tmpdir=folder / "tmp",
        id=build,
        processors=limits.cpus,
    )
