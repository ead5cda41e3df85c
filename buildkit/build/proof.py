"""The proof stages over one wheel: audit, import, and what needs a GPU. The same for a build and for ``verify``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from buildkit.build.borrow import Loan, make_links
from buildkit.build.context import Context
from buildkit.build.environment import make_proof_environment
from buildkit.build.prepare import Prepared
from buildkit.diagnose.first import tail
from buildkit.errors import CudabuildError
from buildkit.guard.protocol import SOURCES
from buildkit.machine.arch import Target
from buildkit.machine.gpus import Gpu
from buildkit.machine.interpreter import Interpreter
from buildkit.machine.torch_identity import TorchIdentity
from buildkit.process import SECRET_NAME
from buildkit.recipe.loader import LoadedRecipe
from buildkit.store.blobs import file_sha256
from buildkit.verify.device_code import shared_objects
from buildkit.verify.imports import run_imports
from buildkit.verify.stages import Audit, Recorder, audit_wheel
from buildkit.verify.verdict import Grade, Stage, Verdict, check_requirement, make_verdict, valid_here

if TYPE_CHECKING:
    from buildkit.build.canary import Canary
    from buildkit.build.probing import ProbeSubject

IMPORT_TIMEOUT = 300.0
"""Seconds for one import of torch and the package; slow disks and cold caches need most of it."""


@dataclass(frozen=True)
class Subject:
    """What a wheel is proven against: recipe, targets, torch, interpreter and the GPUs here."""

    loaded: LoadedRecipe
    targets: tuple[Target, ...]
    device: Literal["cuda", "cpu"]
    python: Interpreter
    torch: TorchIdentity
    loan: Loan
    gpus: Sequence[Gpu]
    driver: str = ""
    """Version of the GPUs' driver, where there is one."""
    device_reason: str = ""
    canary: Canary | None = None
    """What its toolchain made before it; None where that is not known here."""

    @classmethod
    def of(cls, prepared: Prepared) -> Subject:
        """The subject of a build."""
        machine = prepared.survey.machine
        return cls(
            loaded=prepared.package.loaded,
            targets=prepared.survey.targets,
            device=prepared.device,
            python=machine.python,
            torch=prepared.survey.torch,
            loan=prepared.survey.loan,
            gpus=machine.gpus.gpus,
            driver=machine.gpus.driver or "",
            device_reason=prepared.device_reason,
        )

    @property
    def probe_sha256(self) -> str | None:
        """Hash of the recipe's probe; None where it has none."""
        return self.loaded.files.get(self.loaded.recipe.verify.probe or "")

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities of the GPUs here, as texts."""
        return tuple(f"{gpu.capability[0]}.{gpu.capability[1]}" for gpu in self.gpus)


@dataclass(frozen=True)
class Proof:
    """A verdict, what went wrong (if anything did), and whether only the GPU driver stands in the way of more."""

    verdict: Verdict
    error: CudabuildError | None
    driver_missing: bool


def still_valid(verdict: Verdict, subject: Subject, require: Grade, asked: Grade | None) -> bool:
    """Whether a stored verdict counts on this machine, with the probe as it is now; ``asked`` is the grade typed."""
    return verdict.probe_sha256 == subject.probe_sha256 and valid_here(
        verdict,
        require=required_here(require, asked, missing=driver_missing(verdict) and not subject.gpus),
        torch=subject.torch.version,
        torch_record_sha256=subject.torch.record_sha256,
        capabilities=subject.capabilities,
    )


def driver_missing(verdict: Verdict) -> bool:
    """Whether the import was not possible here for want of a GPU driver alone."""
    return any(stage.name == "import" and stage.outcome == "not-executed" for stage in verdict.stages)


def prove(
    wheel: Path,
    subject: Subject,
    context: Context,
    *,
    built: float | None,
    log: Path | None = None,
    guard: Mapping[str, Any] | None = None,
) -> Proof:
    """Run all stages; failures come back in the proof, with the stages that were reached.

    ``built`` is what the build took (seconds), None for a wheel that was not built just now, ``guard`` what held it.
    ``log`` is the build's log, where a CPU-only wheel finds its reason.
    """
    recorder = Recorder()
    error: CudabuildError | None = None
    if subject.canary is not None:
        recorder.stages.append(subject.canary.stage)
    if built is not None:
        asked = {"reason": subject.device_reason} if subject.device_reason else {}
        recorder.passed("build", built, {"device": subject.device, **asked, **_sources(guard)})
    context.places.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="proof-", dir=context.places.work) as scratch:
        try:
            _stages(wheel, subject, context, recorder, Path(scratch), log)
        except CudabuildError as cause:
            error = cause
    verdict = _verdict(subject, recorder.stages, wheel_sha256=file_sha256(wheel))
    return Proof(verdict, error, driver_missing(verdict))


def _verdict(subject: Subject, stages: Sequence[Stage], *, wheel_sha256: str) -> Verdict:
    recipe = subject.loaded.recipe
    return make_verdict(
        stages,
        wheel_sha256=wheel_sha256,
        device=subject.device,
        targets=tuple(str(target) for target in subject.targets),
        python=subject.python.abi,
        torch=subject.torch.version,
        torch_record_sha256=subject.torch.record_sha256,
        recipe=recipe.name,
        recipe_sha256=subject.loaded.sha256,
        probe_sha256=subject.probe_sha256,
    )


def _sources(guard: Mapping[str, Any] | None) -> dict[str, str]:
    """Whether the package's own code was kept from the store while the wheel was made, where that is known."""
    return {"sources": found} if (found := SOURCES.get((guard or {}).get("isolation", ""))) else {}


def not_built(subject: Subject, canary: Stage) -> Verdict:
    """The verdict where there is no wheel, because the canary before it failed."""
    skipped = Stage(name="build", outcome="not-executed", seconds=0.0, detail="the canary failed")
    return _verdict(subject, [canary, skipped], wheel_sha256="")


def _stages(
    wheel: Path, subject: Subject, context: Context, recorder: Recorder, scratch: Path, log: Path | None
) -> None:
    from buildkit.build.probing import ahead, probe_stage
    from buildkit.build.smoking import smoke_stage

    context.reporter.phase("audit", "device code and linked libraries")
    with recorder.stage("audit") as stage:
        audit = _audit(wheel, subject, scratch / "unpacked", log)
        stage.evidence = audit.evidence
    python, environment = scratch / "env" / "bin" / "python", proof_environment(scratch, context)
    with ExitStack() as stack:
        with recorder.stage("import") as stage:
            context.reporter.phase("import", "in a clean environment")
            make_proof_environment(
                scratch / "env",
                wheel=wheel,
                requirements=subject.loaded.recipe.runtime.requires,
                python=subject.python,
                loan=subject.loan,
                links=make_links(subject.loan, context.places.borrowed),
                installer=context.installer(),
            )
            probed = _probe_subject(subject, context, python, environment, scratch)
            ran = stack.enter_context(ahead(probed, context, scratch))
            found = run_imports(
                python,
                imports=subject.loaded.recipe.verify.imports or _own_modules(audit),
                cuda_proof=subject.loaded.recipe.verify.cuda_proof,
                env=environment,
                timeout=IMPORT_TIMEOUT,
                device=subject.device,
                scratch=scratch,
                torch=subject.torch.present,
            )
            stage.evidence, stage.outcome, stage.detail = found.evidence(), found.outcome, found.detail
        smoke_stage(subject, python, environment, scratch, context, recorder)
        if probed is not None and found.outcome == "passed":
            with recorder.stage("probe") as stage:
                probe_stage(probed, context, scratch, stage, ran=ran)


def _audit(wheel: Path, subject: Subject, folder: Path, log: Path | None) -> Audit:
    folder.mkdir()
    return audit_wheel(
        wheel,
        folder=folder,
        device=subject.device,
        targets=subject.targets,
        cuda_objects=subject.loaded.recipe.verify.cuda_objects,
        site_packages=[subject.torch.location],
        interpreter=subject.python.base_executable,
        foreign=subject.loan.modules(),
        log_text="\n".join(tail(log)) if log is not None else "",
    )


def _own_modules(audit: Audit) -> tuple[str, ...]:
    """Where no recipe says what to import: the wheel's own top-level modules."""
    return tuple(str(module) for module in audit.evidence.get("modules", ()))


def proof_environment(scratch: Path, context: Context) -> dict[str, str]:
    """What the proof's Python sees: the person's environment less credentials and what would change the import."""
    dropped = ("PYTHON", "LD_PRELOAD", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_", "PIP_", "UV_")
    kept = {
        name: value
        for name, value in context.environ.items()
        if not name.startswith(dropped) and not SECRET_NAME.search(name)
    }
    home = scratch / "home"
    home.mkdir(exist_ok=True)
    return {
        **kept,
        "HOME": str(home),
        "TMPDIR": str(scratch),
        "LC_ALL": "C.UTF-8",
        "PYTHONPYCACHEPREFIX": str(context.places.pycache),
    }


def _probe_subject(
    subject: Subject, context: Context, python: Path, environment: dict[str, str], scratch: Path
) -> ProbeSubject | None:
    """What the recipe's probe is run on; None where it has none."""
    from buildkit.build.probing import ProbeSubject, canary_module

    probe, unpacked = subject.loaded.recipe.verify.probe, scratch / "unpacked"
    if probe is None:
        return None
    return ProbeSubject(
        probe=subject.loaded.folder / probe,
        device=subject.device,
        targets=subject.targets,
        python=python,
        objects={path.relative_to(unpacked).as_posix(): path for path in shared_objects(unpacked)},
        torch_lib=subject.torch.location / "torch" / "lib" if subject.torch.present else None,
        gpus=subject.gpus,
        driver=subject.driver,
        environment=environment,
        mcubes=canary_module(subject.canary.wheel if subject.canary else None, scratch / "mcubes"),
        protected=[subject.torch.location, context.places.cache, context.places.work],
    )


def required_here(require: Grade, asked: Grade | None, *, missing: bool) -> Grade:
    """Where only the driver is ``missing``, a default of ``imported`` cannot be met by anything: ``audited`` is."""
    return "audited" if asked is None and missing and require == "imported" else require


def check_required(verdict: Verdict | None, prepared: Prepared) -> None:
    """Raise BelowRequirement where a verdict is less than what was required here."""
    if verdict is not None:
        missing = driver_missing(verdict) and not prepared.survey.machine.gpus.gpus
        check_requirement(verdict, required_here(prepared.require, prepared.request.require, missing=missing))
