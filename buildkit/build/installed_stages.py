"""The stages of one installed package: audit, import, probe, and the person's own program."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buildkit.build.context import Context
from buildkit.build.installed_read import Surroundings, read_package, recipe_name
from buildkit.build.installed_scan import Installation, own_modules
from buildkit.build.probing import ProbeSubject, probe_stage
from buildkit.build.proof import IMPORT_TIMEOUT, driver_missing, proof_environment
from buildkit.build.verification_app import App, app_stage
from buildkit.errors import (
    CpuOnlyWheel,
    CudabuildError,
    ImportFailed,
    Interrupted,
    MissingTargets,
    Terminated,
    VerificationFailed,
)
from buildkit.machine.arch import Target, parse_targets
from buildkit.machine.gpus import Gpus
from buildkit.plan.request import BuiltFor, Request
from buildkit.recipe.loader import LoadedRecipe, load_recipe
from buildkit.verify.device_code import find_cuobjdump
from buildkit.verify.imports import run_imports
from buildkit.verify.installed import Finding, Package, import_finding, judge_package
from buildkit.verify.installed_code import GpuCode
from buildkit.verify.judge import held_by_all
from buildkit.verify.kernels import OwnKernels
from buildkit.verify.stages import Recorder, Running
from buildkit.verify.verdict import Verdict, make_verdict


@dataclass(frozen=True)
class Checked:
    """One package (or leftover) with everything that was found. ``verdict`` is None for what is no package.

    ``error`` is the first finding that is an error, or what the person's program ended with.
    """

    name: str
    version: str
    recipe: str
    findings: tuple[Finding, ...]
    code: tuple[GpuCode, ...] = ()
    verdict: Verdict | None = None
    error: CudabuildError | None = None

    @property
    def driver_missing(self) -> bool:
        """Whether only the GPU driver stands in the way of the import."""
        return self.verdict is not None and driver_missing(self.verdict)


@dataclass
class PackageCheck:
    """One package on its way through the stages; a stage that fails does not keep the others from being tried."""

    each: Installation
    request: Request
    context: Context
    around: Surroundings
    gpus: Gpus
    recorder: Recorder = field(default_factory=Recorder)
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        """What is known before anything is read: its recipe, and what to expect of it."""
        self.recipe = recipe_name(self.each, self.around.recipes)
        self.loaded: LoadedRecipe | None = load_recipe(self.around.recipes[self.recipe]) if self.recipe else None
        self.device, self.targets = self._expected()

    def run(self, app: App | None) -> Checked:
        """All stages; Interrupted and Terminated come up, everything else becomes part of the answer."""
        each, context = self.each, self.context
        context.reporter.phase("verify", f"{each.name} {each.version}")
        package = self._audit()
        error: CudabuildError | None = None
        context.places.work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="verify-", dir=context.places.work) as folder:
            if any(finding.kind == "half-removed" for finding in self.findings):
                self.recorder.not_executed("import", "none of its files is there")
            elif self._import(package, Path(folder)):
                self._probe(package, Path(folder))
            if app is not None:
                error = self._app(app, Path(folder))
        found = error_of(f"{each.name} {each.version}", self.findings)
        return Checked(
            each.name, each.version, self.recipe, tuple(self.findings), package.code, self._verdict(), found or error
        )

    def _expected(self) -> tuple[BuiltFor, tuple[Target, ...]]:
        """A build that says it is for the CPU is taken at its word where nothing else is asked for."""
        facts, request = self.each.facts, self.request
        asked = request.targets or tuple(facts.get("targets", ()))
        for_cpu = facts.get("device") == "cpu" or self.around.torch.cuda is None
        auto = request.device == "auto" and for_cpu and not request.targets
        device: BuiltFor = "cpu" if request.device == "cpu" or auto else "cuda"
        return device, parse_targets(asked) if asked else ()

    def _audit(self) -> Package:
        with self.recorder.stage("audit") as stage:
            package = read_package(self.each, self.loaded, self.around, device=self.device, targets=self.targets)
            self.findings += judge_package(package, self.around.torch)
            holding = [entry for entry in package.objects if entry.units]
            stage.evidence = {
                "targets": [str(target) for target in held_by_all(holding)],
                "objects": [entry.evidence() for entry in holding],
                "without_device_code": [entry.path for entry in package.objects if not entry.units],
                "built_for": [claim.source for claim in package.claims],
                "needs": package.linkage.newest,
                "driver_missing": list(package.linkage.driver_missing),
            }
            _fail(stage, self.findings)
        return package

    def _import(self, package: Package, scratch: Path) -> bool:
        """Whether it imports; what is not possible without a driver is no finding."""
        each, around = self.each, self.around
        recipe = self.loaded.recipe if self.loaded is not None else None
        with self.recorder.stage("import") as stage:
            self.context.reporter.phase("import", f"{each.name} in {around.python.prefix}")
            try:
                found = run_imports(
                    around.python.executable,
                    imports=(recipe.verify.imports if recipe else ()) or own_modules(each),
                    cuda_proof=recipe.verify.cuda_proof if recipe and package.has_device_code else (),
                    env=proof_environment(scratch, self.context),
                    timeout=IMPORT_TIMEOUT,
                    device=self.device,
                    scratch=scratch,
                    torch=recipe.build.torch if recipe else True,
                    elsewhere=[*around.python.site_packages, *([each.editable] if each.editable else [])],
                )
            except VerificationFailed as cause:
                what = cause.message.replace("clean environment", "process of its own")
                finding = import_finding(package, what, cause.evidence, self.findings)
                self.findings.append(finding)
                _fail(stage, [finding])
                return False
            stage.evidence, stage.outcome, stage.detail = found.evidence(), found.outcome, found.detail
        return found.outcome == "passed"

    def _probe(self, package: Package, scratch: Path) -> None:
        probe = self.loaded.recipe.verify.probe if self.loaded is not None else None
        if probe is None or self.loaded is None:
            return
        around = self.around
        subject = ProbeSubject(
            probe=self.loaded.folder / probe,
            device=self.device if package.has_device_code else "cpu",
            targets=package.images,
            python=around.python.executable,
            objects={shown: path for path, shown in self.each.objects.items()},
            torch_lib=around.torch.location / "torch" / "lib",
            gpus=self.gpus.gpus,
            driver=self.gpus.driver or "",
            environment=proof_environment(scratch, self.context),
            protected=[around.python.prefix, self.context.places.cache, self.context.places.work],
        )
        with self.recorder.stage("probe") as stage:
            try:
                probe_stage(subject, self.context, scratch, stage)
            except VerificationFailed as cause:
                command = package.mender.rebuild()
                finding = Finding("probe-failed", "error", cause.message, cause.evidence, command)
                self.findings.append(finding)
                _fail(stage, [finding])

    def _app(self, app: App, scratch: Path) -> CudabuildError | None:
        try:
            with self.recorder.stage("app") as stage:
                app_stage(app, self.around.python, self.gpus.gpus, self._own_kernels, self.context, scratch, stage)
        except (Interrupted, Terminated):
            raise
        except CudabuildError as error:
            return error
        return None

    def _own_kernels(self, recorded: Mapping[str, int]) -> Mapping[str, int]:
        objects = {shown: path for path, shown in self.each.objects.items()}
        return OwnKernels(objects, self.around.torch.location / "torch" / "lib", find_cuobjdump()).launches(recorded)

    def _verdict(self) -> Verdict:
        around, loaded = self.around, self.loaded
        probe = loaded.recipe.verify.probe if loaded is not None else None
        return make_verdict(
            self.recorder.stages,
            wheel_sha256="",
            device=self.device,
            targets=tuple(map(str, self.targets)),
            python=around.python.abi,
            torch=around.torch.version,
            torch_record_sha256=around.torch.record_sha256,
            recipe=self.recipe,
            recipe_sha256=loaded.sha256 if loaded is not None else "",
            probe_sha256=loaded.files.get(probe) if loaded is not None and probe is not None else None,
        )


def _fail(stage: Running, findings: Sequence[Finding]) -> None:
    """The stage failed where a finding is an error; its first one is the stage's detail."""
    wrong = [each for each in findings if each.severity == "error"]
    if wrong:
        stage.outcome, stage.detail = "failed", wrong[0].what
        stage.evidence = {**stage.evidence, "kind": wrong[0].kind, "line": wrong[0].evidence}


def error_of(name: str, findings: Sequence[Finding]) -> CudabuildError | None:
    """The first finding that is an error, as the cause that the command ends with."""
    first = next((each for each in findings if each.severity == "error"), None)
    if first is None:
        return None
    kinds: dict[str, type[VerificationFailed]] = {
        "cpu-only": CpuOnlyWheel,
        "no-code-for-gpu": MissingTargets,
        "part-without-code": MissingTargets,
        "missing-targets": MissingTargets,
        "import-failed": ImportFailed,
    }
    kind = kinds.get(first.kind, VerificationFailed)
    return kind(f"{name}: {first.what}", evidence=first.evidence, hint=first.command)
