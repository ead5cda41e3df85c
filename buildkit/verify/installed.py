"""What is wrong with a compiled package that is installed, whoever built it. Pure: from what was read to findings.

A finding is a value: its kind (for scripts), how bad it is, what it is, the line that shows it, and the command
that mends it. ``error``: the package cannot be relied on here. ``warning``: it may be as somebody wanted it.
``note``: worth knowing, nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from buildkit.machine.arch import Target
from buildkit.machine.torch_identity import TorchIdentity
from buildkit.verify.device_code import ObjectCode
from buildkit.verify.grafted import is_torch_library
from buildkit.verify.installed_code import GpuCode
from buildkit.verify.installed_mend import Mender
from buildkit.verify.installed_record import RecordCheck
from buildkit.verify.installed_torch import Claim, cuda_release_needed, disagreements
from buildkit.verify.judge import missing_in
from buildkit.verify.linkage import Linkage

Severity = Literal["error", "warning", "note"]
Kind = Literal[
    "no-code-for-gpu",
    "part-without-code",
    "jit-only",
    "missing-targets",
    "cpu-only",
    "other-torch",
    "other-cuda",
    "undefined-symbols",
    "missing-library",
    "library-too-old",
    "grafted-library",
    "no-record",
    "record-missing",
    "record-changed",
    "record-unhashed",
    "unmet-requirement",
    "import-failed",
    "probe-failed",
    "half-removed",
    "interrupted-uninstall",
    "unknown-leftover",
    "ownerless-files",
]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what to type about it (``command`` is empty where nothing need be done)."""

    kind: Kind
    severity: Severity
    what: str
    evidence: str = ""
    command: str = ""

    def as_dict(self) -> dict[str, str]:
        """What ``--json`` prints."""
        return asdict(self)


@dataclass(frozen=True)
class Package:
    """What was read of one installed package.

    ``facts`` is cudabuild's own file (empty for another's package), ``expects_cuda`` why device code is expected
    (empty: it is not), ``strict``: each object that holds code has to hold it whole, which is so for what cudabuild
    builds and recipes describe; others may leave a GPU out of one file on purpose.
    """

    name: str
    version: str
    facts: Mapping[str, Any]
    claims: tuple[Claim, ...]
    objects: tuple[ObjectCode, ...]
    linkage: Linkage
    record: RecordCheck
    mender: Mender
    expects_cuda: str = ""
    strict: bool = False
    targets: tuple[Target, ...] = ()
    code: tuple[GpuCode, ...] = ()
    unmet: tuple[str, ...] = field(default=())

    @property
    def has_device_code(self) -> bool:
        """Whether any shared object holds any."""
        return any(entry.units for entry in self.objects)

    @property
    def images(self) -> tuple[Target, ...]:
        """Every image that any unit holds, as targets: what a GPU may run of it."""
        units = [unit for entry in self.objects for unit in entry.units]
        elf = {image.without_ptx for unit in units for image in unit.elf}
        return tuple(sorted(elf | {image.with_ptx for unit in units for image in unit.ptx}))

    @property
    def knows_torch(self) -> bool:
        """Whether it is torch's extension: a package that only uses CUDA may bring a CUDA of its own."""
        libraries = (name for entry in self.linkage.objects for name in entry.needed)
        return any(claim.torch or claim.specifier for claim in self.claims) or any(map(is_torch_library, libraries))


def worst(findings: Sequence[Finding]) -> Severity | None:
    """The gravest severity; None where there is no finding."""
    order: tuple[Severity, ...] = ("error", "warning", "note")
    return next((severity for severity in order if any(each.severity == severity for each in findings)), None)


def judge_package(package: Package, torch: TorchIdentity) -> list[Finding]:
    """Everything that files alone show; imports and probes come after it."""
    gone = [each for each in judge_record(package.record, package.mender) if each.kind == "half-removed"]
    return gone or [
        *judge_torch(package, torch),
        *judge_code(package),
        *judge_linkage_here(package, torch),
        *judge_record(package.record, package.mender),
        *judge_requirements(package),
    ]


def judge_torch(package: Package, torch: TorchIdentity) -> Iterator[Finding]:
    """Whether it was built for the torch, and for the CUDA major, that is here. Nothing where it knows no torch."""
    if not package.knows_torch:
        return
    found = disagreements(package.claims, torch)
    about_torch = [text for what, text in found if what == "torch"]
    about_cuda = [text for what, text in found if what == "cuda"]
    needed = cuda_release_needed(name for entry in package.linkage.objects for name in entry.needed)
    here = (torch.cuda or "").partition(".")[0]
    for library, major in sorted(needed.items()):
        if major != here:
            about_cuda.append(f"{library} is needed")
    mend = package.mender.rebuild(device="cuda" if torch.cuda else "cpu")
    if about_torch:
        yield Finding(
            "other-torch",
            "error",
            f"built for another torch than the {torch.version} here",
            "; ".join(about_torch),
            mend,
        )
    if about_cuda:
        here_text = f"CUDA {torch.cuda}" if torch.cuda else "no CUDA"
        what = f"built for another CUDA than that of the torch here ({torch.version}: {here_text})"
        yield Finding("other-cuda", "error", what, "; ".join(about_cuda), mend)


def judge_code(package: Package) -> Iterator[Finding]:
    """Whether the GPUs here (or the stated ones) run what is in it."""
    if not package.has_device_code:
        if package.expects_cuda:
            yield Finding(
                "cpu-only",
                "error",
                "holds no device code: a CPU-only build of a CUDA package",
                package.expects_cuda,
                package.mender.rebuild(),
            )
        elif package.facts.get("device") == "cpu":
            yield Finding("cpu-only", "note", "built for the CPU, as was asked for", "", package.mender.rebuild())
        return
    for code in package.code:
        yield from _judge_gpu(code, package)
    yield from _judge_targets(package)


def _judge_gpu(code: GpuCode, package: Package) -> Iterator[Finding]:
    gpu = code.shown
    if code.by == "none":
        evidence = f"it holds {code.held}"
        yield Finding("no-code-for-gpu", "error", f"no code that {gpu} can run", evidence, package.mender.rebuild())
    elif code.lacking:
        severity: Severity = "error" if package.strict else "warning"
        what = f"parts of it hold no code that {gpu} can run"
        yield Finding("part-without-code", severity, what, "; ".join(code.lacking[:3]), package.mender.rebuild())
    elif code.by == "ptx-jit":
        what = f"{gpu} runs it by compiling its PTX at the first use (JIT), which takes time and a new enough driver"
        yield Finding("jit-only", "note", what, f"it holds {code.held}", package.mender.rebuild())


def _judge_targets(package: Package) -> Iterator[Finding]:
    """What the wheel says of itself, or what ``--target`` asks for, has to be in every unit."""
    lacking = [
        f"{entry.path}: {unit.name} lacks {', '.join(missing)}"
        for entry in package.objects
        for unit in entry.units
        if (missing := missing_in(unit, package.targets))
    ]
    if lacking:
        wanted = ", ".join(map(str, package.targets))
        what = f"lacks device code for its targets ({wanted})"
        command = package.mender.rebuild(targets=package.targets)
        yield Finding("missing-targets", "error", what, "; ".join(lacking[:3]), command)


def judge_linkage_here(package: Package, torch: TorchIdentity) -> Iterator[Finding]:
    """Whether the dynamic linker can load it beside the torch that is here."""
    mend = package.mender.rebuild(device="cuda" if torch.cuda else "cpu")
    for entry in package.linkage.objects:
        if entry.undefined:
            what = f"{entry.path} uses symbols that neither torch {torch.version} nor anything else here defines"
            yield Finding("undefined-symbols", "error", what, _some(entry.undefined), mend)
        if entry.missing:
            what = f"{entry.path} needs libraries that are not here"
            yield Finding("missing-library", "error", what, _some(entry.missing), mend)
        if entry.outdated:
            what = f"{entry.path} was linked against newer system libraries than those here"
            yield Finding("library-too-old", "error", what, _some(entry.outdated), mend)
    if package.linkage.grafted:
        what = "carries copies of torch's or CUDA's own libraries, a second state in one process"
        yield Finding("grafted-library", "warning", what, _some(package.linkage.grafted), mend)


def judge_record(record: RecordCheck, mender: Mender) -> Iterator[Finding]:
    """Whether its files are the ones that were installed."""
    if record.absent:
        what = "has no RECORD: nobody can tell whether its files are whole, nor remove them all"
        yield Finding("no-record", "warning", what, record.absent, mender.rebuild())
    if record.missing and not record.present:
        what = "half-removed: its metadata is there and none of its files is"
        yield Finding("half-removed", "error", what, _some(record.missing), mender.reinstall())
    elif record.missing:
        what = f"{len(record.missing)} of its files are gone"
        yield Finding("record-missing", "error", what, _some(record.missing), mender.reinstall())
    if record.changed:
        what = f"{len(record.changed)} of its files are not what was installed"
        yield Finding("record-changed", "error", what, _some(record.changed), mender.reinstall())
    if record.unhashed:
        what = f"RECORD holds no hash of {len(record.unhashed)} of its files"
        yield Finding("record-unhashed", "note", what, _some(record.unhashed), mender.reinstall())


def judge_requirements(package: Package) -> Iterator[Finding]:
    """Requirements beside torch that what is installed does not meet."""
    for text in package.unmet:
        what = f"requires {text}, which is not met here"
        yield Finding("unmet-requirement", "warning", what, f"Requires-Dist: {text}", package.mender.require(text))


def import_finding(package: Package, message: str, evidence: str, earlier: Sequence[Finding]) -> Finding:
    """It does not import. What mends the first error that was found before is what mends this."""
    cause = next((each for each in earlier if each.severity == "error" and each.command), None)
    if cause is None:
        cause = next((each for each in earlier if each.kind == "unmet-requirement"), None)
    command = cause.command if cause else package.mender.rebuild()
    return Finding("import-failed", "error", message, evidence, command)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
