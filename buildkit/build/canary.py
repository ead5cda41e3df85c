"""The canary: a small kernel, built and run with a package's own toolchain before the package is compiled.

It is a recipe like any other (marching cubes, with its sources in this project), built by the same pipeline with
the very toolkit view, host compiler and targets of the package, and kept in the store: one for each toolchain,
target set and Python, whatever torch. Where it fails, the package would have failed too, half an hour later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit.build import package as packages
from buildkit.build.borrow import NO_LOAN
from buildkit.build.context import Context, WouldInstall
from buildkit.build.lookup import stored
from buildkit.build.package import Package
from buildkit.build.prepare import Prepared, complete
from buildkit.diagnose.first import tail
from buildkit.diagnose.toolchain import explain_toolchain
from buildkit.errors import (
    BuildFailed,
    CanaryFailed,
    CudabuildError,
    MachineError,
    MissingHeaders,
    SourceError,
    TimedOut,
    VerificationFailed,
)
from buildkit.machine.compiler import check_word
from buildkit.machine.torch_identity import NO_TORCH
from buildkit.plan.model import CanaryPlan
from buildkit.progress import Reporter, Silent
from buildkit.recipe.loader import LoadedRecipe, bundled_recipes, find_recipe
from buildkit.recipe.selection import choose_version
from buildkit.source.spec import spec_of
from buildkit.store.model import Entry
from buildkit.verify.verdict import Stage

if TYPE_CHECKING:
    from buildkit.build.pipeline import BuildResult

RECIPE = "cudabuild-mcubes"
WITHOUT = "to build without it: --no-canary"
TOOLCHAIN_VARIABLES = frozenset({
    "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "NVCC_CCBIN", "CUDAFLAGS", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS",
    "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "LD_LIBRARY_PATH", "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
})  # fmt: skip
"""Variables that steer compilers and linkers: where they are passed to a package, the canary gets them too."""


@dataclass(frozen=True)
class Canary:
    """How the canary of one build ended: its stage, and its wheel, or what went wrong and where that is logged."""

    stage: Stage
    plan: CanaryPlan
    wheel: Path | None = None
    error: CudabuildError | None = None
    log: Path | None = None


Build = Callable[[Callable[[], Prepared], Context], "BuildResult"]
"""The pipeline: from a way to plan to a result, which holds what went wrong."""


def is_canary(loaded: LoadedRecipe) -> bool:
    """Whether a recipe is the canary's own."""
    return loaded.recipe.name == RECIPE


def has_canary(prepared: Prepared) -> bool:
    """Whether a canary belongs before this build: it compiles for CUDA and is not the canary itself."""
    return prepared.device == "cuda" and not is_canary(prepared.package.loaded)


def plan_canary(prepared: Prepared, context: Context) -> Prepared:
    """The canary's plan on the machine, toolkit and targets of a package's. Raises WouldInstall and exit code 4's."""
    loaded = find_recipe(RECIPE, [bundled_recipes()])
    version = choose_version(loaded.recipe)
    package = Package(loaded, version, spec_of(version, loaded.folder))
    asked = prepared.request
    request = replace(
        asked,
        package=RECIPE,
        version=None,
        targets=tuple(str(target) for target in prepared.survey.targets),
        timeout=None,
        require="imported",
        source=None,
        refresh=False,
        recipes=None,
        canary=False,
        passed_environment={k: v for k, v in asked.passed_environment.items() if k in TOOLCHAIN_VARIABLES},
    )
    survey = replace(prepared.survey, torch=NO_TORCH, loan=NO_LOAN)
    return complete(request, package, packages.fetch(package, context), survey, "cuda", "", context)


def foresee_canary(prepared: Prepared, context: Context) -> CanaryPlan | None:
    """What a build would find: the canary in the store or not, or switched off; None for a build without one."""
    if not has_canary(prepared):
        return None
    if not prepared.request.canary:
        return "off"
    return "hit" if _in_store(prepared, context) is not None else "miss"


def stored_canary(prepared: Prepared, stages: Sequence[Stage], context: Context) -> Canary | None:
    """The canary for proving a stored wheel again: the stage of that time, and its wheel as far as it is here."""
    stage = next((stage for stage in stages if stage.name == "canary"), None)
    if stage is None or not has_canary(prepared):
        return None
    entry = _in_store(prepared, context) if prepared.request.canary else None
    if entry is None:
        return Canary(stage, "miss")
    context.hold(context.places.wheels / entry.key[:16])
    return Canary(stage, "hit", wheel=context.store.hand_out(entry, context.places.wheels / entry.key[:16]))


def _in_store(prepared: Prepared, context: Context) -> Entry | None:
    """The canary's entry; None where there is none, or where something would have to be fetched to know it."""
    with suppress(WouldInstall, SourceError):
        return stored(plan_canary(prepared, replace(context, may_install=False)), context)
    return None


def run_canary(prepared: Prepared, context: Context, build: Build) -> Canary | None:
    """Build the canary, or take it from the store. What goes wrong is in the answer; None for a build without one."""
    if not has_canary(prepared):
        return None
    if not prepared.request.canary:
        off = Stage(name="canary", outcome="not-executed", seconds=0.0, detail="off: --no-canary")
        return Canary(off, "off")
    started = time.monotonic()
    context.reporter.phase("canary", "a small kernel with the same toolchain")
    try:
        check_word(prepared.survey.machine.compiler, context.environ, context.memo)
    except CanaryFailed as error:
        error.hint = f"{error.hint}; {WITHOUT}"
        return _failed(error, started, None, {})
    quiet = replace(context, reporter=_Quiet(context.reporter))
    result = build(lambda: plan_canary(prepared, context), quiet)
    facts = {"cache": result.cache, "key": result.entry.key if result.entry else result.key}
    if result.error is not None:
        return _failed(explained(result.error, result.log), started, result.log, facts)
    return Canary(_passed(result, time.monotonic() - started, facts), _plan(result), wheel=result.wheel)


def explained(error: CudabuildError, log: Path | None) -> CudabuildError:
    """A failure of the canary as the toolchain's; one that is not (no network, no memory, Ctrl-C) stays what it is."""
    told = isinstance(error, MachineError) and bool(error.rule) and not isinstance(error, MissingHeaders)
    if isinstance(error, (MachineError, SourceError)) and not told:
        error.hint = f"{error.hint}; {WITHOUT}" if error.hint else WITHOUT
    if not told and not isinstance(error, (BuildFailed, VerificationFailed, TimedOut)):
        return error
    fault = explain_toolchain(tail(log)) if (told or isinstance(error, BuildFailed)) and log is not None else None
    return CanaryFailed(
        f"the canary failed, nothing else was compiled: {fault.message if fault else error.message}",
        evidence=fault.line if fault else error.evidence,
        hint=f"{fault.hint if fault else error.hint or 'cudabuild doctor'}; {WITHOUT}",
        log=str(log) if log is not None else error.log,
    )


def _passed(result: BuildResult, seconds: float, facts: Mapping[str, Any]) -> Stage:
    ran = [stage.evidence for stage in result.verdict.stages if stage.name == "smoke"] if result.verdict else []
    checks = [check for evidence in ran for check in evidence.get("cpu", evidence).get("checks", ())]
    evidence = {**facts, "build": result.build, "checks_on_cpu": len(checks)}
    detail = f"{'from the store' if result.cache == 'hit' else 'built'}; {len(checks)} checks passed on the CPU"
    return Stage(name="canary", outcome="passed", seconds=round(seconds, 3), evidence=evidence, detail=detail)


def _failed(error: CudabuildError, started: float, log: Path | None, facts: Mapping[str, Any]) -> Canary:
    evidence = {**facts, "kind": error.kind, "line": error.evidence}
    seconds = round(time.monotonic() - started, 3)
    stage = Stage(name="canary", outcome="failed", seconds=seconds, evidence=evidence, detail=error.message)
    return Canary(stage, "miss", error=error, log=log)


def _plan(result: BuildResult) -> CanaryPlan:
    return "hit" if result.cache == "hit" else "miss"


class _Quiet(Silent):
    """What a person sees of the canary's build: that it goes on. Its notes are the package's own, said once there."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def phase(self, name: str, detail: str = "") -> None:  # noqa: ARG002 - the details are the package's, too
        """One of its phases, under its name."""
        self._reporter.phase("canary", name)

    def warn(self, text: str) -> None:
        """As it is."""
        self._reporter.warn(text)

    def line(self, text: str) -> None:
        """As it is."""
        self._reporter.line(text)

    def gauge(self, *, memory: int, elapsed: float) -> None:
        """As it is."""
        self._reporter.gauge(memory=memory, elapsed=elapsed)
