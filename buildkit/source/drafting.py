"""From what was found in a source to the draft of its recipe: every finding a comment with its place. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from buildkit.recipe.fields import Module, Proof, fits
from buildkit.recipe.skeleton import Draft, Setting, importable
from buildkit.source.cmake_script import read_cmake
from buildkit.source.findings import Findings, role
from buildkit.source.marks import Mark

_MOST = 8
"""Comments of one kind; a person who wants more has the source."""


def draft_of(name: str, findings: Findings, functions: tuple[str, ...] = ()) -> Draft:
    """A draft without its source. ``functions`` are those that the compiled modules define."""
    stated = findings.stated
    modules = [*stated.modules, *(one for one in stated.compiled if one not in stated.modules)]
    # What the source calls itself is anybody's text: Python allows more of a module's name than a recipe does.
    tops = (one for one in stated.modules if fits(Module, one))
    places = (one for one in stated.compiled if fits(Module, one))
    compiled = next(places, f"{next(tops, importable(name))}._C")
    proofs = [f"{compiled}:{function}" for function in functions if "cuda" in function.lower()]
    proofs = [one for one in proofs if fits(Proof, one)]
    return Draft(
        name=name,
        version=stated.version,
        summary=stated.summary,
        spdx=stated.licence.spdx,
        submodules=bool(findings.submodules),
        modules=tuple(one for one in modules if fits(Module, one)),
        requires=tuple(Setting(text, f"{mark.place}: imports {mark.text}") for text, mark in findings.needs.requires),
        env_cuda=_settings(findings, "cuda"),
        env_cpu=_settings(findings, "cpu"),
        proofs=tuple(proofs[:2]) or (f"{compiled}:something_cuda",),
        notes={
            "license": tuple(_licence(findings)),
            "version": tuple(_source(findings)),
            "build": tuple(_build(findings)),
            "env-cuda": tuple(_environment(findings)),
            "verify": tuple(_verify(functions)),
        },
    )


def _settings(findings: Findings, wanted: str) -> tuple[Setting, ...]:
    chosen = findings.switches if wanted == "cuda" else findings.cpu_switches
    return tuple(Setting(one.value, f"{one.file}:{one.line}", one.name) for one in chosen)


def _licence(findings: Findings) -> Iterator[str]:
    licence = findings.stated.licence
    if not licence.said:
        yield "No licence file, and none in the metadata: ask its authors before you pass anything on."
    yield from _shown("{}", licence.said)
    if not licence.agrees:
        yield "These do not agree: it is for you to decide which holds."
    for mark in licence.limited[:2]:
        yield f"{mark.place}: LIMITS THE USE: {mark.text}"


def _source(findings: Findings) -> Iterator[str]:
    if findings.cuda:
        yield f"{findings.units} files to compile (tests and examples left out). CUDA code:"
        yield from _shown("{}", findings.cuda)
    elif findings.traces:
        yield f"{findings.NO_CUDA}; there may be some nevertheless:"
        yield from _shown("{}", findings.traces)
    else:
        yield f"{findings.NO_CUDA}. There is nothing here for cudabuild to build for a GPU."
    yield from _shown("submodule {}", findings.submodules)


def _build(findings: Findings) -> Iterator[str]:
    script, needs = findings.script, findings.needs
    cmake = findings.cmake if findings.runs_cmake else read_cmake({})
    yield f"Build backend: {findings.stated.backend}"
    if script.problem:
        yield script.problem
    for extension in script.extensions[:_MOST]:
        listed = f" from {', '.join(extension.sources)}" if extension.sources else ""
        yield f"{extension.file}:{extension.line}: {extension.kind} {extension.name}{listed}"
    yield from _shown("{}: fixed; torch 2.14 and later need C++20", (*script.standards, *cmake.standards))
    for mark in (*script.targets, *cmake.targets)[:1]:
        yield f"{mark.place}: {mark.text}: it sets targets itself, which needs a patch"
    yield from _shown("{}: one file after the other, which cudabuild compiles side by side", script.serial)
    yield from _shown("{}: uses the network while it builds, and there may be none", (*script.network, *cmake.network))
    yield from _shown("{} of its own command line, which no frontend passes: needs a patch", script.options)
    yield from _shown("{}: without nvcc it builds for the CPU in silence; cuda-proof tells", cmake.falls_back)
    yield from _shown("imports {}: add the project that brings it to requires", needs.unknown)
    yield from _shown("imports {} and goes on without it", needs.optional)


def _environment(findings: Findings) -> Iterator[str]:
    for variable in findings.script.variables:
        if role(variable.name) == "other":
            yield f"{variable.file}:{variable.line}: reads {variable.name}"
    if not findings.switches and findings.cuda:
        yield "No variable that forces CUDA was found: where no GPU is visible, look how it decides."


def _verify(functions: tuple[str, ...]) -> Iterator[str]:
    if functions:
        more = " ..." if len(functions) > 5 else ""
        yield f"Compiled modules define: {', '.join(functions[:5])}{more}"


def _shown(words: str, marks: Iterable[Mark]) -> Iterator[str]:
    """Each mark once, behind its place; the same text on several lines is one comment."""
    places: dict[str, list[Mark]] = {}
    for mark in marks:
        places.setdefault(mark.text, []).append(mark)
    for text, found in list(places.items())[:_MOST]:
        where = f"{found[0].place}{''.join(f', {mark.line}' for mark in found[1:4] if mark.file == found[0].file)}"
        yield f"{where}: {words.format(text)}"
    if len(places) > _MOST:
        yield f"... and {len(places) - _MOST} more"
