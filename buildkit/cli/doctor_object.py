"""From what doctor saw and judged to the object that it prints. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.doctor.hosts import driver_runs
from buildkit.build.doctor.subject import ANY
from buildkit.cli.doctor_schema import (
    AdviceObject,
    CacheObject,
    ChangeObject,
    CompilerObject,
    DoctorFinding,
    DoctorObject,
    FitObject,
    GpusObject,
    IndexObject,
    LimitsObject,
    MachineObject,
    NoteObject,
    PythonObject,
    SystemObject,
    TierObject,
    ToolkitObject,
    TorchObject,
    VisibleGpu,
    WayObject,
    WindowsObject,
)
from buildkit.cli.output import SCHEMA
from buildkit.guard.protocol import SOURCES
from buildkit.machine.windows import wslconfig

if TYPE_CHECKING:
    from buildkit.build.doctor.hosts import Judged
    from buildkit.build.doctor.judge import Judgement
    from buildkit.build.doctor.notes import Note
    from buildkit.build.doctor.seen import Seen
    from buildkit.build.doctor.subject import Subject
    from buildkit.guard.tier import Tier
    from buildkit.machine.solver.answer import Advice


def doctor_object(seen: Seen, subject: Subject, judgement: Judgement, notes: tuple[Note, ...]) -> DoctorObject:
    """The answer."""
    fit, host = judgement.fit, judgement.judged.host
    findings = [
        DoctorFinding(
            step=one.step,
            cause=one.cause,
            text=_called(one.text, seen),
            hint=_called(_filled(one.hint, subject), seen),
            blocking=one.blocking,
        )
        for one in judgement.findings
    ]
    return DoctorObject(
        schema_=SCHEMA,
        ok=judgement.verdict != "cannot",
        verdict=judgement.verdict,
        recipe=subject.name if subject.is_named else None,
        targets=[str(target) for target in (host.wanted if host is not None else judgement.judged.targets)],
        machine=_machine(seen, judgement.judged),
        fit=FitObject(
            jobs=fit.jobs if fit is not None else 0,
            memory_per_unit=subject.memory_per_unit,
            reason=fit.reason if fit is not None else "not even one fits",
        ),
        findings=findings,
        advice=[_advice(one, subject) for one in judgement.advice],
        notes=[NoteObject(about=one.about, text=one.text, lines=list(one.lines)) for one in notes],
        problems=[f"{one.text}{' - ' + one.hint if one.hint else ''}" for one in findings if one.blocking],
    )


def _filled(line: str, subject: Subject) -> str:
    return line.replace(ANY, subject.name)


def _called(text: str, seen: Seen) -> str:
    """Paths in it as they are called on the machine that was looked at."""
    return text if seen.root == Path("/") else text.replace(str(seen.root), "")


def _advice(advice: Advice, subject: Subject) -> AdviceObject:
    return AdviceObject(
        verdict=advice.verdict,
        changes=[
            ChangeObject(
                kind=change.kind,
                text=change.sentence,
                ways=[
                    WayObject(tool=way.tool, lines=[_filled(line, subject) for line in way.lines])
                    for way in change.ways
                ],
            )
            for change in advice.changes
        ],
    )


def _machine(seen: Seen, judged: Judged) -> MachineObject:
    limits, cache, here = seen.limits, seen.cache, seen.surroundings
    return MachineObject(
        python=_python(seen),
        torch=_torch(seen, judged),
        toolkits=[
            ToolkitObject(
                release=one.release,
                version=one.version,
                at=seen.shown(one.root),
                origin=seen.shown(Path(one.origin)) if one.origin.startswith("/") else one.origin,
                missing=list(one.missing),
                runtime=one.has_runtime,
                damaged=one.root in seen.damaged_toolkits,
            )
            for one in seen.toolkits
        ],
        compiler=_compiler(seen),
        gpus=_gpus(seen),
        limits=LimitsObject(
            cpus=limits.cpus,
            cpu_source=limits.cpu_source,
            memory=limits.memory,
            available=limits.memory_available,
            memory_source=limits.memory_source,
        ),
        cache=CacheObject(
            at=seen.shown(cache.folder),
            free=cache.free,
            writable=cache.writable,
            wheels=cache.wheels,
            damaged=list(cache.damaged),
        ),
        system=SystemObject(
            name=here.system,
            kernel=here.kernel,
            place=here.place,
            wsl2=here.wsl2,
            container=here.container or None,
            slurm_job=here.slurm_job or None,
            jetson=here.jetson or None,
        ),
        glibc=seen.glibc,
        index=IndexObject(
            settings=seen.index.settings,
            outcome=seen.index.reach.outcome,
            detail=seen.index.reach.detail,
            slow=seen.index.reach.slow,
        ),
        guard=_tier(seen.tier),
        windows=_windows(seen),
    )


def _tier(tier: Tier) -> TierObject:
    return TierObject(
        containment=tier.containment,
        isolation=tier.isolation,
        sources=SOURCES[tier.isolation] if tier.isolation else None,
        note=tier.note,
    )


def _python(seen: Seen) -> PythonObject | None:
    if seen.python is None:
        return None
    found = seen.python.interpreter
    return PythonObject(
        version=found.version,
        at=seen.shown(found.executable),
        machine=found.machine,
        headers=found.has_headers,
        setuptools=seen.python.setuptools,
    )


def _torch(seen: Seen, judged: Judged) -> TorchObject | None:
    """The one that counts: what a build would install, else what is here."""
    if judged.chosen:
        cuda = judged.host.torch.cuda if judged.host is not None and judged.host.torch is not None else None
        return TorchObject(version=judged.chosen, cuda=cuda, at=None)
    found = seen.python.torch if seen.python is not None else None
    if found is None:
        return None
    return TorchObject(version=found.version, cuda=found.cuda, at=seen.shown(found.location))


def _compiler(seen: Seen) -> CompilerObject | None:
    found = seen.compiler
    return CompilerObject(kind=found.kind, version=found.version, at=seen.shown(found.path)) if found else None


def _gpus(seen: Seen) -> GpusObject:
    return GpusObject(
        visible=[
            VisibleGpu(name=gpu.name, capability=f"{gpu.capability[0]}.{gpu.capability[1]}") for gpu in seen.gpus.gpus
        ],
        driver=seen.gpus.driver,
        runs=driver_runs(seen),
        source=seen.gpus.source,
        silent=seen.gpus.silent,
    )


def _windows(seen: Seen) -> WindowsObject | None:
    windows = seen.windows
    if windows is None:
        return None
    lines = list(wslconfig(windows.memory)) if windows.memory is not None else []
    return WindowsObject(memory=windows.memory, given=windows.given, wslconfig=lines)
