"""``doctor`` for people: the machine, the verdict, what to type, and what is worth knowing. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from buildkit.cli.console import printable
from buildkit.cli.doctor_schema import AdviceObject, DoctorObject, MachineObject, NoteObject, ToolkitObject
from buildkit.machine.facts import toolkit_table
from buildkit.recipe.quantities import format_size
from buildkit.report.canvas import Line

WIDTH = 100
"""Columns that prose is broken at; what is to be typed never is."""
_LABEL = 12
_MOST_ADVICE = 3
"""Pieces of advice that are shown; the JSON has all."""

_VERDICTS = {
    "works": ("works", "green"),
    "warning": ("works with a warning", "yellow"),
    "cannot": ("cannot", "red"),
}
_TIERS = {
    "cgroup": "a cgroup of its own holds a build's processes",
    "namespace": "a pid namespace holds a build's processes",
    "subreaper": "no cgroup and no namespace: a build's processes are swept up one by one",
}
_SANDBOX = {
    "namespace": "sandbox: all but its own folders is read-only to it, and the store hidden from it",
    "none": "no sandbox, sources trusted: it may write wherever you may",
}


def doctor_lines(found: DoctorObject, *, width: int = WIDTH) -> Iterator[Line]:
    """The whole screen."""
    for label, texts in _machine(found.machine):
        for number, text in enumerate(texts):
            yield from _row("" if number else label, text, width)
    yield from _row("fit", found.fit.reason, width)
    yield ()
    words, colour = _VERDICTS[found.verdict]
    yield (("verdict".ljust(_LABEL), "bold"), (words, f"bold {colour}"), (f": {_about(found)}", ""))
    for finding in found.findings:
        text = f"{finding.text.rstrip('.')}. Next: {finding.hint}" if finding.hint else finding.text
        yield from _row(f"  {finding.step}", text, width, style="red" if finding.blocking else "yellow")
    yield from _advice(found)
    yield from _notes(found.notes, width)


def _about(found: DoctorObject) -> str:
    targets = f" for {';'.join(found.targets)}" if found.targets else ""
    done = "built here and run" if found.machine.gpus.visible else "built here"
    can = "can" if found.ok else "cannot"
    return f"{found.recipe or 'a CUDA extension'}{targets} {can} be {done}{'' if found.ok else ', as it is'}"


def _row(label: str, text: str, width: int, style: str = "dim") -> Iterator[Line]:
    """A label and its text, broken under itself."""
    head = label.ljust(_LABEL)
    if len(label) >= _LABEL:
        head = f"{label} "
    pieces = textwrap.wrap(printable(text), max(20, width - len(head)), break_long_words=False, break_on_hyphens=False)
    for piece in pieces or [""]:
        yield ((head, style), (piece, ""))
        head = " " * len(head)


def _machine(machine: MachineObject) -> Iterator[tuple[str, list[str]]]:
    yield "machine", [_system(machine)]
    limits = machine.limits
    free = f", {format_size(limits.available)} of it free"
    yield "memory", [f"{format_size(limits.memory)} count{free} ({_why(machine)})"]
    yield "processors", [f"{limits.cpus} count ({limits.cpu_source})"]
    yield "GPU", [f"{gpu.name}, {gpu.capability}" for gpu in machine.gpus.visible] or ["none is visible"]
    yield "driver", [_driver(machine)]
    yield "toolkit", [_toolkit(one) for one in machine.toolkits] or [_no_toolkit(machine)]
    yield "torch", [_torch(machine)]
    yield "python", [_python(machine)]
    yield "compiler", [_compiler(machine)]
    yield "index", [_index(machine)]
    cache = machine.cache
    health = f"{len(cache.damaged)} of them damaged" if cache.damaged else "sound"
    wheels = f"{cache.wheels} wheel{'s' if cache.wheels != 1 else ''}"
    yield "cache", [f"{cache.at}: {format_size(cache.free)} free, {wheels}{', ' + health if cache.wheels else ''}"]
    guard = machine.guard
    if guard.containment is None or guard.isolation is None:
        yield "guard", [guard.note]
    else:
        yield "guard", [f"{guard.containment}: {_TIERS[guard.containment]}; {_SANDBOX[guard.isolation]}"]


def _system(machine: MachineObject) -> str:
    system = machine.system
    places = (
        "WSL2" if system.wsl2 else "",
        f"in {system.container}" if system.container else "",
        f"Slurm job {system.slurm_job}"
        if system.slurm_job
        else "a Slurm login node"
        if system.place == "slurm"
        else "",
        f"Jetson, {system.jetson}" if system.jetson else "",
    )
    architecture = machine.python.machine if machine.python is not None else ""
    parts = (system.name, architecture, f"Linux {system.kernel}", *places)
    return ", ".join(part for part in parts if part)


def _why(machine: MachineObject) -> str:
    """What sets the limit, in words where a file's name says little."""
    source, system = machine.limits.memory_source, machine.system
    if source != "MemTotal":
        return source
    if system.wsl2:
        return "MemTotal: what Windows gives to WSL2"
    return "MemTotal: shared with the GPU" if system.jetson else "MemTotal: the whole machine"


def _driver(machine: MachineObject) -> str:
    gpus = machine.gpus
    if gpus.driver is None:
        return _no_driver(machine)
    whose = " (the one of Windows)" if machine.system.wsl2 else ""
    runs = f": runs CUDA {', '.join(str(number) for number in gpus.runs)}" if gpus.runs else ""
    more = [one for one in toolkit_table().series if gpus.runs and one.major == max(gpus.runs) + 1]
    takes = "".join(
        f"; CUDA {one.major} takes {one.windows if machine.system.wsl2 else one.driver} or newer" for one in more
    )
    return f"{gpus.driver}{whose}{runs}{takes}"


def _no_driver(machine: MachineObject) -> str:
    if machine.system.jetson:
        return "JetPack's"
    if machine.gpus.silent:
        return "does not answer"
    return "of no known version" if machine.gpus.visible else "none here"


def _toolkit(toolkit: ToolkitObject) -> str:
    lacks = [*toolkit.missing, *([] if toolkit.runtime else ["libcudart"])]
    state = f"lacks {', '.join(lacks)}" if lacks else "damaged" if toolkit.damaged else "complete"
    origin = f" ({toolkit.origin})" if toolkit.origin not in {toolkit.at, ""} else ""
    return f"CUDA {toolkit.version} at {toolkit.at}{origin}: {state}"


def _no_toolkit(machine: MachineObject) -> str:
    if machine.system.jetson:
        return "none here: JetPack brings it (sudo apt-get install nvidia-jetpack)"
    return (
        "none here: 13.x is made from package-index wheels when it is needed, 11.8 to 12.9 is what "
        "`cudabuild toolkit install` gets"
    )


def _torch(machine: MachineObject) -> str:
    torch = machine.torch
    if torch is None:
        return "none in the active environment"
    cuda = f"of CUDA {torch.cuda}" if torch.cuda is not None else "without CUDA"
    if torch.at is None:
        return f"none in the active environment: a build would install {torch.version}, {cuda}, into the cache"
    return f"{torch.version}, {cuda}, in {torch.at}"


def _python(machine: MachineObject) -> str:
    python = machine.python
    if python is None:
        return "none that runs"
    headers = "with headers" if python.headers else "WITHOUT headers"
    beside = f", setuptools {python.setuptools}" if python.setuptools else ""
    return f"{python.version} at {python.at}, {headers}{beside}"


def _compiler(machine: MachineObject) -> str:
    library = f"glibc {machine.glibc}" if machine.glibc else "no glibc"
    found = machine.compiler
    return f"{found.kind} {found.version} ({found.at}), {library}" if found is not None else f"none; {library}"


def _index(machine: MachineObject) -> str:
    index = machine.index
    answers = {
        "answers": "answers",
        "partly": f"answers in part, not {index.detail}",
        "silent": "did not answer in time" if index.slow else "does not answer",
        "none": "not asked",
    }
    return f"{answers[index.outcome]}: {index.settings}"


def _advice(found: DoctorObject) -> Iterator[Line]:
    if not found.advice:
        if found.ok and found.recipe is not None:
            target = "" if found.machine.gpus.visible else f" --target '{';'.join(found.targets)}'"
            yield ()
            yield ((" " * _LABEL, ""), (f"cudabuild build {found.recipe}{target}", "cyan"))
        return
    besides = any(finding.blocking and finding.hint for finding in found.findings)
    yield ()
    yield ((f"what makes it work{', besides' if besides else ''}, the smallest change first:", "bold"),)
    for number, advice in enumerate(found.advice[:_MOST_ADVICE], 1):
        texts = " ".join(change.text for change in advice.changes)
        yield ((f"{number:>3}. {texts}", ""),)
        yield from _lines(advice, alternatives=number == 1)


def _lines(advice: AdviceObject, *, alternatives: bool) -> Iterator[Line]:
    """The first way to make each change; of the best advice the other ways, too."""
    for change in advice.changes:
        for place, way in enumerate(change.ways if alternatives else change.ways[:1]):
            for line in way.lines:
                before = "or: " if place and line == way.lines[0] else "    " if place else ""
                yield ((f"       {before}", "dim"), (line, "" if way.tool == "by-hand" else "cyan"))


def _notes(notes: Iterable[NoteObject], width: int) -> Iterator[Line]:
    before = ""
    for note in notes:
        if note.about != before:
            yield ()
        yield from _row(note.about if note.about != before else "", note.text, width, style="bold")
        for line in note.lines:
            yield ((" " * (_LABEL + 2), ""), (line, "cyan"))
        before = note.about
