"""One build from request to proven wheel: plan, store, environment, guarded backend, proof, store."""

from __future__ import annotations

import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit.build.amending import amended
from buildkit.build.context import Context
from buildkit.build.devices import cpu_form_offered
from buildkit.build.foreign import refused
from buildkit.build.lookup import stored
from buildkit.build.package import remember_requires
from buildkit.build.prepare import Prepared, prepare
from buildkit.build.proof import Proof, Subject, check_required, not_built, prove, still_valid
from buildkit.build.recording import MoreRequirements, as_cancelled, begin, recorded
from buildkit.build.sizing import size_build
from buildkit.build.tidy import tidy
from buildkit.errors import CudabuildError, MachineError
from buildkit.guard.orphans import end_orphans
from buildkit.machine.arch import parse_targets
from buildkit.plan.model import PlanSummary
from buildkit.plan.request import Request
from buildkit.store.builds import BuildRecords
from buildkit.store.locks import once
from buildkit.store.model import Entry
from buildkit.verify.verdict import Verdict, read_verdict

if TYPE_CHECKING:
    from buildkit.build.canary import Canary


@dataclass
class BuildResult:
    """What is known of one build, complete or not; the command line prints it."""

    recipe: str
    build: str | None = None
    """The id of the build that made the wheel: on a hit, the stored one's, so that its log is found."""
    device: str = "cuda"
    version: str | None = None
    key: str | None = None
    cache: str = "miss"
    wheel: Path | None = None
    entry: Entry | None = None
    plan: PlanSummary | None = None
    verdict: Verdict | None = None
    subject: Subject | None = None
    """What the verdict is about; for proving the wheel again elsewhere."""
    guard: dict[str, Any] | None = None
    log: Path | None = None
    canary: Canary | None = None
    """What was built before it; None on a hit, for the CPU, and for the canary itself."""
    seconds: float = 0.0
    error: CudabuildError | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def install(self) -> str | None:
        """The exact command that installs the wheel into the active environment, with or without pip in it."""
        if self.wheel is None or self.subject is None:
            return None
        python = self.subject.python
        if any((folder / "pip").is_dir() for folder in python.site_packages):
            return shlex.join([str(python.executable), "-m", "pip", "install", str(self.wheel)])
        return shlex.join(["uv", "pip", "install", "--python", str(python.executable), str(self.wheel)])


def build(
    request: Request,
    configured: tuple[str, ...],
    context: Context,
    *,
    out: Path | None = None,
    planned: Callable[[], None] = lambda: None,
    identifier: str | None = None,
) -> BuildResult:
    """Build one package, or take it from the store. Causes end up in ``result.error``, never past it.

    ``planned`` is called when a plan is complete, before anything is looked up or made. ``identifier``: the id of a
    build whose record was begun already.
    """
    started = time.monotonic()
    result = BuildResult(recipe=request.package, build=identifier, device=request.device)
    try:
        _build(request, configured, context, out, planned, result)
    except CudabuildError as caught:
        records = BuildRecords(context.places.store)
        error = result.error = as_cancelled(caught, records)
        result.build = result.build or records.new_id()
        if error.log is None and result.log is not None:
            error.log = str(result.log)
    result.seconds = round(time.monotonic() - started, 3)
    return result


def _build(
    request: Request,
    configured: tuple[str, ...],
    context: Context,
    out: Path | None,
    planned: Callable[[], None],
    result: BuildResult,
) -> None:
    def plan() -> Prepared:
        prepared = prepare(request, configured, context)
        planned()
        return prepared

    prepared, served = _obtain(plan, context, result)
    _hand_out(served, out, context, result)
    check_required(result.verdict, prepared)


def _obtain(plan: Callable[[], Prepared], context: Context, result: BuildResult) -> tuple[Prepared, Entry]:
    """The entry of a plan: from the store, or made now. The plan is made again where the backend asks for more."""
    for _attempt in range(3):
        prepared = plan()
        _describe(result, prepared)
        refresh = prepared.request.refresh
        try:
            served = None if refresh else _from_store(prepared, context, result)
            if served is None:
                result.plan = size_build(prepared, context).summary
                if result.build:  # begun before it was known what it is
                    begin(BuildRecords(context.places.store), result, log=context.places.logs / f"{result.build}.log")
                with context.store.lock(prepared.key, _waiting(context)):
                    served = None if refresh else _from_store(prepared, context, result)
                    served = served or _make(prepared, context, result)
            return prepared, served
        except MoreRequirements:
            continue
    raise CudabuildError("the backend asks for other requirements each time it is run")


def _hand_out(served: Entry, out: Path | None, context: Context, result: BuildResult) -> None:
    context.store.hold(served)
    context.hold(context.places.wheels / served.key[:16])
    folder = (out or context.places.wheels / served.key[:16]).absolute()
    result.entry, result.version = served, served.version
    result.wheel = context.store.hand_out(served, folder)


def _build_canary(plan: Callable[[], Prepared], context: Context) -> BuildResult:
    """The canary of a package, by the same way; what goes wrong is in the result."""
    result = BuildResult(recipe="")
    try:
        _prepared, served = _obtain(plan, context, result)
        _hand_out(served, None, context, result)
    except CudabuildError as error:
        result.error = error
    return result


def _waiting(context: Context) -> Callable[[], None]:
    return once(lambda: context.reporter.note("waiting for another build of the same wheel"))


def _describe(result: BuildResult, prepared: Prepared) -> None:
    result.recipe, result.device, result.key = prepared.package.name, prepared.device, prepared.key
    result.version, result.subject = prepared.version, Subject.of(prepared)
    result.notes = [*prepared.survey.machine.gpus.notes, *prepared.survey.notes, *prepared.package.notes]
    if prepared.package.has_recipe and (notice := prepared.package.loaded.recipe.license.notice):
        result.notes.append(notice)


def _plan_of(prepared: Prepared, entry: Entry, context: Context) -> PlanSummary:
    """The plan as it would be made now; a hit is served where not one unit would fit, too."""
    try:
        return size_build(prepared, context).summary
    except MachineError:
        return PlanSummary.model_validate(entry.plan)


def _from_store(prepared: Prepared, context: Context, result: BuildResult) -> Entry | None:
    """The entry of this key, or one with more targets; proven again where its proof is not valid here."""
    entry = stored(prepared, context)
    if entry is None:
        return None
    build = result.build
    if entry.key != prepared.key:
        result.notes.append(f"served by an entry with more targets: {';'.join(entry.inputs['targets'])}")
    result.notes += [context.shared.notes[entry.key]] if context.shared and entry.key in context.shared.notes else []
    result.cache, result.build = "hit", entry.build
    result.plan = _plan_of(prepared, entry, context)
    verdict = read_verdict(entry.verdict)
    subject = replace(Subject.of(prepared), targets=parse_targets(entry.inputs["targets"]))
    if verdict is None or not still_valid(verdict, subject, prepared.require, prepared.request.require):
        context.reporter.note("the stored proof does not cover this machine: proving again")
        from buildkit.build.canary import stored_canary

        stages = verdict.stages if verdict is not None else ()
        again = replace(subject, canary=stored_canary(prepared, stages, context))
        proof = _prove_again(entry, again, context)
        if refused(entry, proof.error, context):
            result.cache, result.build = "miss", build
            return None
        verdict = _proven(proof, result)
        entry = amended(entry, verdict, context)
    result.verdict = verdict
    return entry


def _make(prepared: Prepared, context: Context, result: BuildResult) -> Entry:
    from buildkit.build.canary import run_canary

    tidy(context.places)
    if ended := end_orphans():
        context.reporter.note(f"ended {ended} processes of a build that was killed together with its supervisor")
    records = BuildRecords(context.places.store)
    result.cache = "miss"
    canary = result.canary = result.canary or run_canary(prepared, context, _build_canary)
    result.build = result.build or records.new_id()
    # Where the canary failed, its log is the one to read.
    result.log = canary.log if canary and canary.error else context.places.logs / f"{result.build}.log"
    with recorded(records, result), cpu_form_offered(prepared):
        _check_canary(prepared, canary, result)
        return _make_and_prove(prepared, context, result)


def _check_canary(prepared: Prepared, canary: Canary | None, result: BuildResult) -> None:
    """Raise what went wrong with the canary, if anything did; the verdict then says how far it came."""
    if canary is not None and canary.error is not None:
        result.verdict = not_built(Subject.of(prepared), canary.stage)
        raise canary.error


def _make_and_prove(prepared: Prepared, context: Context, result: BuildResult) -> Entry:
    from buildkit.build.make import make_wheel  # with all of the guard: a hit does without
    from buildkit.build.rebuilt import named
    from buildkit.build.release import complete_releases, keep

    with _build_folder(context.places.builds / prepared.key) as folder:
        made = make_wheel(prepared, context, folder, result)
        if made.discovered:
            remember_requires(context, prepared.source, prepared.question, made.discovered)
            raise MoreRequirements
        # The proof is of the wheel alone: what it was built from must be gone when it is imported.
        shutil.rmtree(folder / "src", ignore_errors=True)
        subject = replace(Subject.of(prepared), canary=result.canary)
        complete_releases(context.store)
        with named(made.wheel, context.store, _waiting(context)) as wheel:
            proof = prove(wheel, subject, context, built=made.seconds, log=result.log, guard=result.guard)
            verdict = _proven(proof, result)
            return keep(prepared, replace(made, wheel=wheel), verdict, result, context)


@contextmanager
def _build_folder(folder: Path) -> Iterator[Path]:
    """The folder of one build. It stays after a failure, so that a retry goes on where this one stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except CudabuildError:
        for name in ("tmp", "home", "out"):
            shutil.rmtree(folder / name, ignore_errors=True)
        raise
    except MoreRequirements:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _prove_again(entry: Entry, subject: Subject, context: Context) -> Proof:
    """The stages over a stored wheel, under its own name (a wheel's name says what it is)."""
    context.places.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="prove-", dir=context.places.work) as scratch:
        wheel = context.store.hand_out(entry, Path(scratch))
        return prove(wheel, subject, context, built=entry.seconds, guard=entry.guard)


def _proven(proof: Proof, result: BuildResult) -> Verdict:
    result.verdict = proof.verdict
    if proof.error is not None:
        raise proof.error
    return proof.verdict
