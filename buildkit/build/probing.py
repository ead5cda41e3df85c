"""A recipe's probe as a stage: which GPU, under the guard, and what it proves of whose kernels.

For an installed package as for a wheel: make a :class:`ProbeSubject` and call :func:`probe_stage` inside
``with recorder.stage("probe") as stage``.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from buildkit import process
from buildkit.build.context import Context
from buildkit.errors import ProbeFailed
from buildkit.guard.budget import memory_budget
from buildkit.guard.protocol import Outcome, Sample
from buildkit.guard.supervise import run_guarded
from buildkit.machine.arch import Target, runs_on
from buildkit.machine.gpus import Gpu
from buildkit.machine.limits import read_limits
from buildkit.plan.request import BuiltFor
from buildkit.recipe.quantities import format_size
from buildkit.verify.device_code import find_cuobjdump
from buildkit.verify.kernels import OwnKernels
from buildkit.verify.probe_answer import ProbeAnswer, read_answer
from buildkit.verify.probe_request import probe_devices, probe_environment, write_request
from buildkit.verify.probes import Ending, Judged, judge_probe
from buildkit.verify.stages import NO_GPU, Running
from buildkit.verify.wheel import open_wheel, unpack_wheel

PROBE_TIMEOUT = 600.0
"""Seconds for a probe; the import of torch and the driver's compilation from PTX are in it."""
PROBE_MEMORY = 12 << 30
"""Bytes that a probe's processes may have resident; libraries of CUDA alone come to some GiB."""
ROOM_FOR_BOTH = 8 << 30
"""Bytes with which a probe may run beside an import of torch."""
ROOM_FOR_IMPORT = 2 << 30
"""How much of these is the import's."""
TWIN = Path(__file__).parents[1] / "_native"
UVM = Path("/dev/nvidia-uvm")


@dataclass(frozen=True)
class ProbeSubject:
    """What a probe is run on.

    ``python`` is the interpreter of the environment that holds the package, ``objects`` the package's own shared
    objects there under the names to show, ``torch_lib`` the folder of torch's libraries (None: a package without
    torch), ``driver`` the version of the GPUs' driver. ``environment`` is the whole environment of the process,
    ``mcubes`` the folder that holds the module ``cudabuild_mcubes`` (None: not here), ``protected`` what the probe may
    not write to.
    """

    probe: Path
    device: BuiltFor
    targets: tuple[Target, ...]
    python: Path
    objects: Mapping[str, Path]
    torch_lib: Path | None
    gpus: Sequence[Gpu]
    driver: str
    environment: Mapping[str, str]
    mcubes: Path | None = None
    timeout: float = PROBE_TIMEOUT
    memory: int = PROBE_MEMORY
    protected: Sequence[Path] = field(default=())


Ran = Callable[[], tuple[ProbeAnswer, Ending]]
"""Waits for a probe's process to end; its answer, and how it ended."""


@contextmanager
def ahead(subject: ProbeSubject | None, context: Context, scratch: Path) -> Iterator[Ran | None]:
    """Run what a probe shows on the CPU beside what the caller does: each of them takes seconds to load torch.

    None where it is for a GPU, or where processors or memory are short. Whoever leaves without waiting ends it.
    """
    if subject is None or not _may_run_ahead(subject, context):
        yield None
        return
    unwanted = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(_run, subject, "cpu", context, scratch, unwanted=unwanted)
        try:
            yield running.result
        finally:
            unwanted.set()


def _may_run_ahead(subject: ProbeSubject, context: Context) -> bool:
    try:
        if _gpu(subject) is not None or "cpu" not in probe_devices(subject.probe):
            return False
    except ProbeFailed:  # the stage will say so
        return False
    limits = read_limits(context.environ)
    return limits.cpus > 1 and memory_budget(limits, None).bytes >= ROOM_FOR_BOTH


def _gpu(subject: ProbeSubject) -> Gpu | None:
    """The GPU that the probe runs on."""
    fitting = gpu_for(subject.targets, subject.gpus) if subject.device == "cuda" else None
    return fitting if subject.torch_lib is not None and "cuda" in probe_devices(subject.probe) else None


def probe_stage(
    subject: ProbeSubject, context: Context, scratch: Path, stage: Running, *, ran: Ran | None = None
) -> None:
    """Run the probe where it can run, and fill in the stage; VerificationFailed for a wrong value or a crash.

    A CUDA build without a GPU that runs it is ``not-executed``; what a probe can show on the CPU is then tried and
    said beside it, and counts for nothing but a failure. ``ran``: that half runs already (:func:`ahead`).
    """
    gpu = _gpu(subject)
    if gpu is not None and subject.torch_lib is not None:
        _on_gpu(subject, subject.torch_lib, gpu, context, scratch, stage)
        return
    devices = probe_devices(subject.probe)
    why = _why_not(subject, gpu_for(subject.targets, subject.gpus) if subject.device == "cuda" else None)
    if "cpu" in devices:
        context.reporter.phase("probe", "on the CPU")
        _fill(stage, judge_probe(*(ran() if ran else _run(subject, "cpu", context, scratch))))
        why = f"{why}; on the CPU its {len(stage.evidence['checks'])} checks passed"
    if subject.device == "cuda" or "cpu" not in devices:
        stage.outcome, stage.detail = "not-executed", why


def gpu_for(targets: Sequence[Target], gpus: Sequence[Gpu]) -> Gpu | None:
    """The first GPU here that runs code for one of the targets (any GPU where no target is known)."""
    fitting = (gpu for gpu in gpus if not targets or any(runs_on(target, gpu.capability) for target in targets))
    return next(fitting, None)


def _why_not(subject: ProbeSubject, gpu: Gpu | None) -> str:
    """Why nothing ran on a GPU."""
    if subject.device == "cpu":
        return "the probe is for GPUs only"
    if gpu is None:
        return "no GPU here runs these targets" if subject.gpus else NO_GPU
    return "kernels are recorded through torch, and this package has none"


def _on_gpu(subject: ProbeSubject, torch_lib: Path, gpu: Gpu, context: Context, scratch: Path, stage: Running) -> None:
    context.reporter.phase("probe", f"on {gpu.name}")
    make_device_nodes(context.environ)
    answer, ending = _run(subject, "cuda", context, scratch, gpu)
    own = OwnKernels(subject.objects, torch_lib, find_cuobjdump())
    _fill(stage, judge_probe(answer, ending, gpu=gpu, driver=subject.driver, own=own))


def _fill(stage: Running, judged: Judged) -> None:
    stage.outcome, stage.detail, stage.evidence = judged.outcome, judged.detail, judged.evidence
    judged.check()


def canary_module(wheel: Path | None, folder: Path) -> Path | None:
    """The folder with the module ``cudabuild_mcubes``: out of the canary's wheel, else the CPU twin of this program.

    None where neither is here; a twin for another Python does not import there, which is the same to a probe.
    """
    if wheel is None:
        return TWIN if any(TWIN.glob("cudabuild_mcubes*.so")) else None
    folder.mkdir()
    return unpack_wheel(open_wheel(wheel), folder)


def make_device_nodes(environ: Mapping[str, str]) -> None:
    """Have the driver's own helper make /dev/nvidia-uvm: under the guard it may not (it is a set-user-id program)."""
    if UVM.exists() or not Path("/dev/nvidiactl").exists() or shutil.which("nvidia-modprobe") is None:
        return
    process.run(["nvidia-modprobe", "-c", "0", "-u"], env=environ, timeout=30.0, check=False)


def _run(
    subject: ProbeSubject,
    device: BuiltFor,
    context: Context,
    scratch: Path,
    gpu: Gpu | None = None,
    unwanted: threading.Event | None = None,
) -> tuple[ProbeAnswer, Ending]:
    """The probe in a process of its own, with a deadline and an upper limit for its memory."""
    folder = scratch / f"probe-{device}"
    folder.mkdir()
    asked = {"probe": str(subject.probe.absolute()), "device": device, "torch": subject.torch_lib is not None}
    command, answer = write_request(subject.python, asked, subject.mcubes, folder, subject.environment)
    budget = memory_budget(read_limits(context.environ), None).bytes
    limit = min(subject.memory, budget if unwanted is None else budget - ROOM_FOR_IMPORT)
    lines: list[str] = []
    try:
        with (folder / "log").open("wb") as log:
            ended = run_guarded(
                command,
                cwd=folder,
                env=probe_environment(subject.environment, gpu, folder),
                log=log,
                deadline=time.monotonic() + subject.timeout,
                stall=None,
                writable=[scratch],
                protected=subject.protected,
                scratch=None,
                on_line=lines.append,
                on_sample=partial(_limited, limit, unwanted),
                hidden=context.places.hidden,
            )
    except ProbeFailed as error:
        error.evidence = f"it was at {read_answer(answer).step}"
        raise
    return read_answer(answer), _ending(ended, lines, subject.timeout)


def _limited(limit: int, unwanted: threading.Event | None, sample: Sample) -> None:
    if unwanted is not None and unwanted.is_set():
        raise ProbeFailed("the probe was ended: nobody waits for it any more")
    if sample.memory > limit:
        raise ProbeFailed(
            f"the probe used more than {format_size(limit)} of memory and was ended",
            hint="a probe needs small inputs; see docs/how-to/write-a-recipe.md",
        )


def _ending(outcome: Outcome, lines: Sequence[str], timeout: float) -> Ending:
    return Ending(
        returncode=outcome.returncode,
        last_lines=tuple(lines[-20:]),
        late=f"{timeout:g} s" if outcome.reason == "timeout" else "",
        peak_memory=outcome.peak_memory,
    )
