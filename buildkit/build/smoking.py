"""The smoke test as a stage: of the canary when it is made, and of a package's toolchain on the GPU that is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.borrow import NO_LOAN, make_links
from buildkit.build.canary import is_canary
from buildkit.build.context import Context
from buildkit.build.environment import make_proof_environment
from buildkit.build.probing import gpu_for
from buildkit.errors import SourceError
from buildkit.machine.gpus import Gpu
from buildkit.verify.smoke_stage import GpuBusy, run_smoke
from buildkit.verify.stages import NO_GPU, Recorder, Running

if TYPE_CHECKING:
    from buildkit.build.proof import Subject

SMOKE_TIMEOUT = 300.0
"""Seconds; the driver's compilation from PTX and a slow disk are in it."""


def smoke_stage(
    subject: Subject,
    python: Path,
    environment: Mapping[str, str],
    scratch: Path,
    context: Context,
    recorder: Recorder,
) -> None:
    """Record the stage ``smoke``: the canary's own, or for a CUDA package with a canary the toolchain's on a GPU.

    ``python`` is the interpreter of the environment that holds the subject's wheel, ``environment`` the whole
    environment of the process, ``scratch`` a folder for files.
    """
    test = _SmokeTest(environment, scratch, context)
    gpu = gpu_for(subject.targets, subject.gpus) if subject.device == "cuda" else None
    if is_canary(subject.loaded):
        with recorder.stage("smoke") as stage:
            test.run_canary(python, gpu, stage)
    elif subject.canary is None or subject.device == "cpu":
        return
    elif subject.canary.wheel is None:
        recorder.not_executed("smoke", "there is no canary to run")
    elif gpu is None:
        recorder.not_executed("smoke", "no GPU here runs these targets" if subject.gpus else NO_GPU)
    else:
        with recorder.stage("smoke") as stage:
            test.run_toolchain(subject.canary.wheel, subject, gpu, stage)


@dataclass(frozen=True)
class _SmokeTest:
    environment: Mapping[str, str]
    scratch: Path
    context: Context

    def run_canary(self, python: Path, gpu: Gpu | None, stage: Running) -> None:
        """On the CPU, and on the GPU as well if there is one."""
        self._run(python, None, stage)
        cpu = stage.evidence
        if gpu is not None:
            self._run(python, gpu, stage)
            # What ran on the CPU has passed, whether or not the GPU was free.
            stage.outcome, stage.evidence = "passed", {**stage.evidence, "cpu": cpu}

    def run_toolchain(self, wheel: Path, subject: Subject, gpu: Gpu, stage: Running) -> None:
        """On the GPU, in an environment that holds the canary and what it requires, and no torch."""
        try:
            python = make_proof_environment(
                self.scratch / "smoke-env",
                wheel=wheel,
                requirements=(),
                python=subject.python,
                loan=NO_LOAN,
                links=make_links(NO_LOAN, self.context.places.borrowed),
                installer=self.context.installer(),
            )
        except SourceError as error:  # what it requires is not to be had here: no fault of the package
            stage.outcome, stage.detail = "not-executed", error.message
            return
        self._run(python, gpu, stage)

    def _run(self, python: Path, gpu: Gpu | None, stage: Running) -> None:
        self.context.reporter.phase("smoke", f"on {gpu.name}" if gpu is not None else "on the CPU")
        try:
            stage.evidence = run_smoke(
                python, module_path=None, gpu=gpu, env=self.environment, timeout=SMOKE_TIMEOUT, scratch=self.scratch
            )
        except GpuBusy as error:
            stage.outcome, stage.detail = "not-executed", "busy"
            stage.evidence = {"gpu": gpu.name if gpu is not None else "", "line": error.evidence}
