"""The proof stages of a wheel, in order, each recorded with its outcome, seconds and evidence."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from buildkit.errors import CudabuildError
from buildkit.machine.arch import Target
from buildkit.verify.verdict import Outcome, Stage, StageName

NO_GPU = "no GPU visible"


@dataclass
class Running:
    """A stage that is under way: fill in ``evidence``, and ``outcome`` and ``detail`` where it cannot run."""

    evidence: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = "passed"
    detail: str = ""


class Recorder:
    """Collects stages as they end, failed ones too: a failure still shows what was reached before it."""

    def __init__(self) -> None:
        """Begin with no stage."""
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, name: StageName) -> Iterator[Running]:
        """Record the enclosed work as a stage. A cause raised in it makes the stage ``failed`` and goes on up."""
        running = Running()
        started = time.monotonic()
        try:
            yield running
        except CudabuildError as error:
            evidence = {**running.evidence, "kind": error.kind, "line": error.evidence}
            self._record(name, "failed", time.monotonic() - started, evidence, error.message)
            raise
        self._record(name, running.outcome, time.monotonic() - started, running.evidence, running.detail)

    def passed(self, name: StageName, seconds: float, evidence: dict[str, Any]) -> None:
        """Record a stage that was passed before: the build itself."""
        self._record(name, "passed", seconds, evidence, "")

    def not_executed(self, name: StageName, detail: str = NO_GPU) -> None:
        """Record a stage that could not run here; what was only inspected is never called executed."""
        self._record(name, "not-executed", 0.0, {}, detail)

    def _record(self, name: StageName, outcome: Outcome, seconds: float, evidence: dict[str, Any], detail: str) -> None:
        self.stages.append(
            Stage(name=name, outcome=outcome, seconds=round(seconds, 3), evidence=evidence, detail=detail)
        )


@dataclass(frozen=True)
class Audit:
    """What the static inspection of a wheel found; ``driver_missing`` are absent libraries of the GPU driver."""

    evidence: dict[str, Any]
    driver_missing: tuple[str, ...]


def audit_wheel(
    wheel: Path,
    *,
    folder: Path,
    device: Literal["cuda", "cpu"],
    targets: Sequence[Target],
    cuda_objects: Sequence[str],
    site_packages: Sequence[Path],
    interpreter: Path,
    foreign: Collection[str] = (),
    log_text: str = "",
) -> Audit:
    """Open a wheel safely, unpack it into the empty ``folder``, and inspect its device code and linkage.

    ``foreign`` are the modules of other distributions, ``log_text`` the build's log (searched for why a wheel
    is CPU-only). Raises a :class:`VerificationFailed` of the kind that fits.
    """
    from buildkit.verify.device_code import find_cuobjdump, inspect_device_code
    from buildkit.verify.judge import judge_device_code
    from buildkit.verify.linkage import inspect_linkage, judge_linkage
    from buildkit.verify.wheel import open_wheel, unpack_wheel

    opened = open_wheel(wheel, foreign=foreign)
    unpack_wheel(opened, folder)
    objects = inspect_device_code(folder, find_cuobjdump())
    if device == "cuda":
        code = judge_device_code(objects, targets, cuda_objects, log_text=log_text)
    else:
        code = {"targets": [], "objects": [entry.evidence() for entry in objects if entry.units]}
    linkage = inspect_linkage(folder, site_packages=site_packages, interpreter=interpreter)
    evidence = {**code, "linkage": judge_linkage(linkage), "modules": list(opened.modules)}
    return Audit(evidence, linkage.driver_missing)
