"""From what was seen to a verdict: the solver's answer, and what stands in the way beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from buildkit.build.doctor.hosts import Asked, Judged, judged_host
from buildkit.build.doctor.seen import Seen
from buildkit.build.doctor.subject import Subject
from buildkit.errors import CudabuildError, MissingHeaders
from buildkit.guard.budget import Jobs, memory_budget, plan_jobs
from buildkit.machine import host_facts
from buildkit.machine.solver.answer import Advice, Cause, Problem, Step, Verdict
from buildkit.machine.solver.solve import solve
from buildkit.store.disk import readable_size

LEAST_FREE = 10 << 30
"""Bytes that torch, a toolkit and a build take in the cache."""

_BESIDE: dict[str, Step] = {"python": "plan", "glibc": "plan", "compiler": "configure"}
"""Parts of the machine without which nothing can be built, and the step that misses each."""

_REMARKS: frozenset[Cause] = frozenset({"toolkit-minor"})
"""What the solver finds and nobody has to do anything about."""


@dataclass(frozen=True)
class Finding:
    """One thing that does not fit, with what to type. ``cause`` is the solver's, or the kind of an error."""

    step: Step | Literal["cache", "network"]
    cause: str
    text: str
    hint: str = ""
    blocking: bool = True


@dataclass(frozen=True)
class Judgement:
    """The verdict. ``fit`` is how many compilations fit at once; None where not even one does.

    ``remarks`` are worth knowing where something can be built, and change no verdict.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    advice: tuple[Advice, ...]
    judged: Judged
    fit: Jobs | None
    remarks: tuple[str, ...] = ()


def judge(seen: Seen, subject: Subject, asked: Asked) -> Judgement:
    """Whether the package (or any package) can be built here, what is in the way, and the smallest change."""
    judged = judged_host(seen, subject, asked)
    findings = [Finding("plan", one.kind, one.message, one.hint) for one in judged.obstacles]
    findings += _troubles(seen)
    fit = _fit(seen, subject, asked, findings)
    findings += [*_missing(seen, subject), *_cache(seen)]
    problems: tuple[Problem, ...] = ()
    advice: tuple[Advice, ...] = ()
    if judged.host is not None:
        answer = solve(judged.host)
        problems, advice = answer.problems, answer.advice
        if not subject.torch:  # every advice begins with a torch, which such a package has no need of
            problems, advice = tuple(one for one in problems if one.cause != "torch-missing"), ()
    told = {finding.cause for finding in findings if finding.blocking}
    if seen.python is not None and seen.python.damaged is not None:
        told.add("torch-missing")
    if judged.obstacles:  # there are targets, which cannot be read or do not agree
        told.add("no-target")
    findings += [
        Finding(one.step, one.cause, one.sentence, blocking=one.blocking)
        for one in problems
        if one.cause not in {*told, *_REMARKS}
    ]
    findings += [*_setuptools(seen, judged), *_network(seen)]
    ordered = tuple(sorted(findings, key=lambda finding: not finding.blocking))
    verdict = _verdict(ordered)
    remarks = () if verdict == "cannot" else tuple(one.sentence for one in problems if one.cause in _REMARKS)
    return Judgement(verdict, ordered, advice, judged, fit, remarks)


def _verdict(findings: tuple[Finding, ...]) -> Verdict:
    if any(finding.blocking for finding in findings):
        return "cannot"
    return "warning" if findings else "works"


def _troubles(seen: Seen) -> Iterator[Finding]:
    """What was looked for and is not there, or does not answer."""
    if seen.gpus.silent:
        hint = "nvidia-smi   # where it hangs, too, its driver does: sudo dmesg | grep NVRM"
        yield Finding("plan", "driver-silent", seen.gpus.silent, hint, blocking=False)
    for part, error in seen.troubles.items():
        step = _BESIDE.get(part)
        yield Finding(step or "plan", error.kind, error.message, error.hint, blocking=step is not None)
    for note in seen.toolkit_notes:
        yield Finding("configure", "toolkit-broken", note, blocking=False)
    for error in seen.damaged_toolkits.values():
        text = f"{error.message}: {error.evidence}"
        yield Finding("configure", "toolkit-broken", text, error.hint, blocking=False)
    if seen.python is not None and (damaged := seen.python.damaged) is not None:
        yield Finding("install", damaged.kind, damaged.message, damaged.hint)
    if seen.python is not None and not seen.python.interpreter.has_headers:
        version = seen.python.interpreter.version
        yield Finding(
            "compile",
            MissingHeaders.kind,
            f"Python {version} has no headers here: Python.h is missing.",
            f"apt-get install python3-dev (or python{seen.python.short}-dev); dnf install python3-devel",
        )


def _fit(seen: Seen, subject: Subject, asked: Asked, findings: list[Finding]) -> Jobs | None:
    budget = memory_budget(seen.limits, asked.memory)
    try:
        return plan_jobs(
            cpus=seen.limits.cpus,
            memory_budget=budget.bytes,
            memory_per_unit=subject.memory_per_unit,
            requested=asked.jobs,
        )
    except CudabuildError as error:
        findings.append(Finding("compile", error.kind, error.message, error.hint))
        return None


def _missing(seen: Seen, subject: Subject) -> Iterator[Finding]:
    """Headers and libraries of the system that the recipe names."""
    if subject.system is None:
        return
    from buildkit.build.system import system_files  # with the recipe's model, which only a named package needs

    try:
        system_files(subject.system, seen.root)
    except MissingHeaders as error:
        yield Finding("compile", error.kind, error.message, error.hint)


def _cache(seen: Seen) -> Iterator[Finding]:
    cache = seen.cache
    folder = seen.shown(cache.folder)
    if not cache.writable:
        why = "is not this user's to write" if cache.is_folder else "cannot be a folder: a file is in its place"
        hint = "set CUDABUILD_CACHE to a folder of your own"
        yield Finding("cache", "read-only-cache", f"The cache {folder} {why}.", hint)
    elif (error := cache.unreadable) is not None:
        yield Finding("cache", error.kind, error.message, error.hint)
    if cache.free < LEAST_FREE:
        text = f"{readable_size(cache.free)} are free for the cache {folder}: torch and a toolkit take about 10 GiB."
        yield Finding("cache", "disk-full", text, "free some space, or set CUDABUILD_CACHE", blocking=False)
    if cache.damaged:
        more = f" and {len(cache.damaged) - 1} more" if len(cache.damaged) > 1 else ""
        text = f"Not as it was stored: {cache.damaged[0]}{more}."
        yield Finding("cache", "store", text, "cudabuild cache verify", blocking=False)


def _setuptools(seen: Seen, judged: Judged) -> Iterator[Finding]:
    """cudabuild builds with a setuptools of its own; plain pip may not."""
    here = seen.python.setuptools if seen.python is not None else None
    torch = judged.host.torch if judged.host is not None else None
    if here is None or torch is None or judged.chosen:
        return
    rule = host_facts.broken_setuptools(torch.version, int(here.partition(".")[0]))
    if rule is not None:
        text = (
            f"setuptools {here} has no {rule.lacks}, which torch {torch.version} imports: plain pip fails there, and "
            "cudabuild brings its own."
        )
        spec = next(iter(host_facts.host_table().setuptools_that_works.values()))
        yield Finding("configure", "setuptools-new", text, f"pip install '{spec}'", blocking=False)


def _network(seen: Seen) -> Iterator[Finding]:
    reach = seen.index.reach
    if reach.outcome == "silent":
        text = f"The package index does not answer ({reach.detail}): only what is in the cache can be built from."
        if reach.slow:
            text = (
                f"The package index did not answer in time ({reach.detail}). It may only be slow; without it, only "
                "what is in the cache can be built from."
            )
        hint = "where there is a network: cudabuild fetch RECIPE; here: cudabuild build RECIPE --offline"
        yield Finding("network", "index-unreachable", text, hint, blocking=False)
