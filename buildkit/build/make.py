"""Making a wheel: unpack, patch, environment, toolkit view, guarded backend, final bytes."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from buildkit.build.admission import Admission, admission, guard_object, jobs_for
from buildkit.build.borrow import make_links
from buildkit.build.context import Context
from buildkit.build.environ import resolve
from buildkit.build.environment import ensure_build_environment, installed_versions, unmet
from buildkit.build.finishing import finish
from buildkit.build.frontend import Frontend, GuardReport
from buildkit.build.package import discovered_requires, remember_requires
from buildkit.build.prepare import Prepared
from buildkit.build.resuming import begin, objects_folder
from buildkit.build.retrying import Try, fewer, gave_up
from buildkit.build.sizing import size_build
from buildkit.build.toolkit_view import make_view
from buildkit.build.toolkits import install_toolkit
from buildkit.build.torches import check_unchanged, site_packages
from buildkit.build.tracing import tracing
from buildkit.build.unguarded import Unguarded, discard_changed, isolates, managed_folders, record
from buildkit.build.watchers import watchers
from buildkit.diagnose.first import explain_failure
from buildkit.errors import BuildFailed, EnvironmentChanged
from buildkit.guard.native import shim_program
from buildkit.machine.torch_identity import identify_torch
from buildkit.source.fetch import project_root, unpack
from buildkit.source.patching import apply_patch
from buildkit.store.blobs import file_sha256
from buildkit.verify.wheel import check_backend_answer, open_wheel

if TYPE_CHECKING:
    from buildkit.build.pipeline import BuildResult


@dataclass(frozen=True)
class Made:
    """A wheel in its final bytes, not yet proven; or the requirements that the backend asked for first."""

    wheel: Path
    version: str
    seconds: float
    """From the backend's start to its wheel file."""
    built_sha256: str = ""
    """Of the file that the backend made."""
    grafted: dict[str, str] = field(default_factory=dict)
    """Libraries of this machine that were copied in, by path, to their sha256."""
    discovered: tuple[str, ...] = ()


def make_wheel(prepared: Prepared, context: Context, folder: Path, result: BuildResult) -> Made:
    """Build in ``folder``; the log goes to ``result.log``, what the guard saw to ``result.guard``."""
    log_path = result.log or folder / "build.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    sizing = size_build(prepared, context, estimate=True)
    result.plan = sizing.summary.model_copy(update={"canary": result.canary.plan if result.canary else None})
    for note in result.notes:
        context.reporter.note(note)
    _check_shared(prepared, context)
    # Unbuffered: what was printed before a failure (or a kill) is there to be read.
    with log_path.open("ab", buffering=0) as log:
        _resume(prepared, context, folder)
        source = _source(prepared, context, folder, result)
        frontend = _frontend(prepared, context, folder, source, log, result)
        watch = _watch(prepared, context, frontend)
        with tracing(prepared, context, result) as (trace, heard):
            frontend.on_sample = trace.around(frontend.on_sample)
            try:
                return _tries(prepared, context, folder, frontend, result, heard)
            finally:
                result.guard = guard_object(frontend.report, heard, sizing.summary.memory_budget)
                if watch is not None:
                    watch.check()
                _check_lenders(prepared)
                for name in ("tmp", "home"):
                    shutil.rmtree(folder / name, ignore_errors=True)


def _check_shared(prepared: Prepared, context: Context) -> None:
    """Environments and toolkits in the cache must still be what was installed before they make anything."""
    try:
        check_unchanged(prepared.survey.torch, context.places.torch)
    except EnvironmentChanged as error:
        for folder in managed_folders(prepared.survey.torch.location, context.places.torch):
            discard_changed(folder, context.places.uv_cache)
        error.hint = "it was removed: the same command again installs it anew"
        raise
    choice = prepared.survey.toolkit
    for toolkit in (choice.toolkit, *choice.fill) if choice else ():
        if toolkit.root.is_relative_to(context.places.toolkits):
            install_toolkit(toolkit.release, prepared.survey.machine.python, context)


def _watch(prepared: Prepared, context: Context, frontend: Frontend) -> Unguarded | None:
    """Where the guard cannot isolate the build: the record of what it must not change."""
    if isolates(frontend.writable, frontend.protected, frontend.hidden):
        return None
    context.reporter.note("no namespaces here: what the build must not change is checked afterwards instead")
    view = Path(frontend.environment["CUDA_HOME"]) if prepared.device == "cuda" else None
    return record(prepared, context, frontend.python.parent.parent, view)


def _resume(prepared: Prepared, context: Context, folder: Path) -> None:
    kept = begin(folder, resume=prepared.request.resume and not prepared.request.refresh)
    if kept:
        context.reporter.note(
            f"going on where the last try of this build stopped; finished objects: {kept} (--no-resume: anew)"
        )


def _source(prepared: Prepared, context: Context, folder: Path, result: BuildResult) -> Path:
    """The patched source, unpacked anew for each try: see :mod:`buildkit.build.resuming`."""
    context.reporter.phase("source", prepared.source.origin)
    shutil.rmtree(folder / "src", ignore_errors=True)
    project = unpack(prepared.source, folder / "src")
    for patch in prepared.patches:
        patched = apply_patch(project_root(project, prepared.source), patch, prepared.package.loaded.folder)
        context.reporter.note(patched.sentence())
        if not patched.done and patched.sentence() not in result.notes:
            result.notes.append(patched.sentence())
    return project


def _tries(
    prepared: Prepared, context: Context, folder: Path, frontend: Frontend, result: BuildResult, heard: Admission
) -> Made:
    """The backend's run; a second one with fewer units at a time where memory ran out all the same."""
    log, environment = Path(frontend.log.name), frontend.environment
    jobs = prepared.request.jobs or prepared.survey.machine.limits.cpus
    frontend.on_hold = heard.on_hold
    while True:
        began = Try.begin(log)
        try:
            with admission(
                prepared, context, folder, frontend.source, environment, heard=heard, jobs=jobs
            ) as frontend.environment:
                return _run(prepared, context, folder, frontend, result)
        except BuildFailed as error:
            shown = "" if heard.failure else began.out_of_memory(frontend.report.returncode, log)
            if not shown:
                raise heard.cause(explain_failure(error, log, began.offset)) from error
            if heard.retries:
                limit = result.plan.memory_budget if result.plan else 0
                raise gave_up(shown, jobs=jobs, peak=frontend.report.peak_memory, limit=limit, log=log) from error
        heard.retries, jobs = 1, fewer(min(jobs, int(environment["MAX_JOBS"])))
        environment = {**environment, "MAX_JOBS": str(jobs), "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs)}
        note = f"memory ran out while building ({shown}): once more with {jobs} at a time, finished objects are kept"
        result.notes.append(note)
        context.reporter.warn(note)
        heard.units.clear()
        begin(folder, resume=True)
        _source(prepared, context, folder, result)
        _empty(folder)


def _empty(folder: Path) -> None:
    """Folders of one try."""
    for name in ("tmp", "home", "out"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()


def _frontend(
    prepared: Prepared, context: Context, folder: Path, source: Path, log: BinaryIO, result: BuildResult
) -> Frontend:
    """Environment, toolkit view and folders; the frontend that uses them."""
    from buildkit.build.canary import is_canary

    _empty(folder)
    context.reporter.phase("environment", "the build requirements and torch")
    links = make_links(prepared.survey.loan, context.places.borrowed)
    pycache = context.places.pycache
    environment_folder = ensure_build_environment(
        context.places.environments,
        python=prepared.survey.machine.python,
        lock=prepared.lock,
        loan=prepared.survey.loan,
        links=links,
        installer=context.installer(),
        pycache=pycache,
        hold=context.hold,
    )
    view = view_of(prepared, context) if prepared.survey.toolkit else folder / "no-toolkit"
    plan = result.plan or size_build(prepared, context).summary
    environment = resolve(
        prepared.environment,
        {"env": environment_folder, "view": view, "build": folder, "pycache": pycache},
        jobs=jobs_for(prepared, context, jobs=plan.jobs, budget=plan.memory_budget),
    )
    report = GuardReport()
    on_line, on_sample = watchers(context, report, hasty=is_canary(prepared.package.loaded))
    return Frontend(
        source=source,
        python=environment_folder / "bin" / "python",
        environment=environment,
        log=log,
        scratch=folder / "tmp",
        writable=[folder / "src", folder / "tmp", folder / "home", folder / "out", objects_folder(folder)],
        protected=protected_places(prepared, context),
        hidden=context.places.hidden,
        timeout=plan.timeout,
        stall=plan.stall_timeout or None,
        on_line=on_line,
        on_sample=on_sample,
        report=report,
        defer=prepared.request.defer,
    )


def protected_places(prepared: Prepared, context: Context) -> list[Path]:
    """What a build must not change: the lender of torch, the person's environment, and all that is shared."""
    torch = prepared.survey.torch
    return [
        *([torch.location] if torch.present else []),
        prepared.survey.machine.python.prefix,
        context.places.cache,
        context.places.work,
    ]


def view_of(prepared: Prepared, context: Context) -> Path:
    """The toolkit view, named after what it is made from."""
    choice = prepared.survey.toolkit
    if choice is None:
        raise BuildFailed("a build for the CPU has no toolkit")
    name = "-".join([choice.toolkit.release, *(part[:12] for part in choice.identity.split("+"))])
    compiler = prepared.survey.machine.compiler.path
    return make_view(choice.toolkit, choice.fill, context.places.views / name, compiler=compiler, shim=shim_program())


def _run(prepared: Prepared, context: Context, folder: Path, frontend: Frontend, result: BuildResult) -> Made:
    settings = prepared.package.loaded.recipe.build.config_settings
    known = discovered_requires(context, prepared.source, prepared.question)
    if known is None or prepared.request.refresh:
        context.reporter.phase("backend", "asking the backend what else it needs")
        asked = frontend.requirements(settings)
        environment = frontend.python.parent.parent
        installed = {**dict(prepared.survey.loan.versions), **installed_versions(site_packages(environment))}
        missing = unmet(asked, installed, prepared.survey.machine.python)
        if missing:
            return Made(folder, "", 0.0, discovered=tuple(asked))
        remember_requires(context, prepared.source, prepared.question, known or ())
    context.reporter.expect(result.plan.expected_seconds if result.plan else None)
    context.reporter.phase("build", f"{result.plan.jobs if result.plan else 1} at a time")
    started = time.monotonic()
    answer = frontend.build_wheel(folder / "out", settings)
    seconds = round(time.monotonic() - started, 3)
    name = prepared.distribution or Path(answer).name.partition("-")[0]
    wheel = check_backend_answer(answer, folder / "out", name, prepared.version)
    context.reporter.phase("repair", "which systems it fits")
    done = finish(prepared, wheel, folder / "final", ours=context.places.work)
    result.notes += done.notes
    for note in done.notes:
        context.reporter.note(note)
    return Made(done.wheel, str(open_wheel(done.wheel).version), seconds, file_sha256(wheel), done.grafted)


def _check_lenders(prepared: Prepared) -> None:
    """The borrowed torch must be the same one after the build."""
    before, site = prepared.survey.torch, prepared.survey.torch.location
    after = identify_torch([site]) if before.present else before
    if after != before:
        raise EnvironmentChanged(
            f"the build changed the torch it borrowed ({site})",
            evidence=f"{before.version} {before.record_sha256[:12]} -> "
            + (f"{after.version} {after.record_sha256[:12]}" if after else "gone"),
            hint="reinstall torch there; run the build where namespaces are allowed, so that it cannot write there",
        )
