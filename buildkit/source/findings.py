"""How a source will be built, and whether it holds CUDA code: files in, findings out. Pure.

What decides whether a package has CUDA code errs on one side: every trace counts as CUDA code, so that
nothing is refused that could have been built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import ClassVar

from buildkit.source.cmake_script import CMakeScript, read_cmake
from buildkit.source.inspect import UNIT_ENDINGS, in_use
from buildkit.source.marks import Mark, in_lines
from buildkit.source.reading import SourceText
from buildkit.source.requirements import Needs, needs_of
from buildkit.source.setup_script import SetupScript, Variable, read_setup
from buildkit.source.stated import Stated, read_stated

_TRACE = re.compile(
    r"\b(?:CUDAExtension|cpp_extension|load_inline|cuda_runtime(?:_api)?\.h|cuda\.h|__global__|__device__|nvcc|nvrtc|"
    r"cudart|cudaMalloc|CUDAToolkit)\b"
)
"""Words of CUDA code that is made, found or compiled in another way than by the usual three."""
_LANGUAGE_ELSEWHERE = re.compile(r"['\"]cuda['\"]|cuda_(?:library|binary)\s*\(|rules_cuda")
_CPU_SWITCH = re.compile(r"(^|_)(NO_CUDA|ONLY_CPU|CPU_ONLY|FORCE_CPU|SKIP_CUDA(_BUILD|_EXT)?|DISABLE_CUDA)$")
_CUDA_SWITCH = re.compile(r"(^|_)(FORCE_CUDA|FORCE_BUILD|(WITH|USE|ENABLE|BUILD)_CUDA(_EXT)?)$")
_OTHER_SWITCH = re.compile(r"(^|_)(FORCE|NVCC_FLAGS|NVCC_APPEND_FLAGS|MAX_JOBS|NO_NINJA)(_|$)|CUDA_ARCH")
_DEFINED = re.compile(r"\b(?:m|module)\.(?:def|impl)\(\s*\"([A-Za-z_]\w*)\"")


@dataclass(frozen=True)
class Findings:
    """Everything found; places are ``file:line`` inside the source."""

    NO_CUDA: ClassVar[str] = "no CUDA code was found: no .cu or .cuh file, no CUDAExtension, no CUDA language in CMake"

    stated: Stated
    script: SetupScript
    cmake: CMakeScript
    cuda: tuple[Mark, ...]
    """Where CUDA code is: .cu files, CUDAExtension, CMake's language."""
    traces: tuple[Mark, ...]
    """Where it may come from in another way; looked for only where there is none of the first."""
    units: int
    needs: Needs
    submodules: tuple[Mark, ...]

    @property
    def has_cuda(self) -> bool:
        """False only where there is not a trace of CUDA code in the source."""
        return bool(self.cuda or self.traces)

    @property
    def runs_cmake(self) -> bool:
        """Whether the build runs CMake: a CMakeLists.txt may lie there for another use."""
        return "setuptools" not in self.stated.backend or self.script.runs_cmake

    @property
    def switches(self) -> tuple[Variable, ...]:
        """Variables that make the build compile for CUDA where no GPU is visible."""
        return tuple(variable for variable in self.script.variables if role(variable.name) == "cuda")

    @property
    def cpu_switches(self) -> tuple[Variable, ...]:
        """Variables that keep CUDA out of the build."""
        return tuple(variable for variable in self.script.variables if role(variable.name) == "cpu")


def role(name: str) -> str:
    """What setting a variable of this name is for: ``cuda``, ``cpu``, ``other`` (worth knowing), or nothing."""
    if _CPU_SWITCH.search(name):
        return "cpu"
    if _CUDA_SWITCH.search(name):
        return "cuda"
    return "other" if _OTHER_SWITCH.search(name) else ""


def find(source: SourceText) -> Findings:
    """Look through a source. Never raises: what cannot be read is left out, and a setup.py says why."""
    script = _scripts(source)
    stated = read_stated(source, script)
    cmake = read_cmake({name: text for name, text in source.texts.items() if _is_cmake(name)})
    cuda = (*_cuda_files(source), *_cuda_extensions(script), *cmake.cuda)
    runs_script = "setuptools" in stated.backend
    return Findings(
        stated=stated,
        script=script,
        cmake=cmake,
        cuda=cuda,
        traces=() if cuda else (*_unknown(source, stated, script, cmake), *_traces(source)),
        units=sum(1 for name in source.names if name.endswith(UNIT_ENDINGS) and in_use(name)),
        needs=needs_of(script, stated.requires, _local_modules(source)) if runs_script else Needs(),
        submodules=tuple(_submodules(source)),
    )


def defined_functions(source: SourceText) -> tuple[str, ...]:
    """Functions that compiled modules define, the ones with cuda in their name first."""
    found = {
        match[1]
        for name, text in source.texts.items()
        if name.endswith((".cpp", ".cc", ".cxx", ".cu", ".h", ".hpp")) and in_use(name)
        for match in _DEFINED.finditer(text)
    }
    return tuple(sorted(found, key=lambda name: ("cuda" not in name.lower(), name)))


def _scripts(source: SourceText) -> SetupScript:
    """setup.py with what the project's own modules beside it, which it imports, do to its switches and flags."""
    text = source.own("setup.py")
    if text is None:
        return SetupScript()
    script = read_setup(text, source.inside("setup.py"))
    for module in dict.fromkeys(found.module for found in script.imports):
        beside = source.own(f"{module}.py")
        if beside is not None and module != "setup":
            more = read_setup(beside, source.inside(f"{module}.py"))
            script = replace(
                script,
                extensions=(*script.extensions, *more.extensions),
                variables=(*script.variables, *more.variables),
                imports=(*script.imports, *more.imports),
                standards=(*script.standards, *more.standards),
                targets=(*script.targets, *more.targets),
                network=(*script.network, *more.network),
            )
    return script


def _is_cmake(name: str) -> bool:
    return name.endswith(("CMakeLists.txt", ".cmake")) and in_use(name)


def _cuda_files(source: SourceText) -> Iterator[Mark]:
    """One mark for a folder, or a big library's tests would fill the page."""
    folders: dict[str, list[str]] = {}
    for name in source.names:
        if name.endswith((".cu", ".cuh", ".cu.in", ".cuh.in")):
            folders.setdefault(str(PurePosixPath(name).parent), []).append(name)
    for names in folders.values():
        more = f" and {len(names) - 1} more beside it" if len(names) > 1 else ""
        yield Mark(f"CUDA source{more}", names[0], 1)


def _cuda_extensions(script: SetupScript) -> Iterator[Mark]:
    for extension in script.extensions:
        if extension.kind == "CUDAExtension":
            yield Mark(f"CUDAExtension {extension.name}", extension.file, extension.line)


def _unknown(source: SourceText, stated: Stated, script: SetupScript, cmake: CMakeScript) -> Iterator[Mark]:
    """Why nobody can say from the source alone what the build will compile."""
    if stated.own_backend:
        yield Mark("the build backend is the project's own", source.inside("pyproject.toml"), 1)
    if script.problem:
        yield Mark("setup.py cannot be read", source.inside("setup.py"), 1)
    yield from (Mark(f"more is fetched at build time: {mark.text}", mark.file, mark.line) for mark in script.network)
    yield from (Mark(f"more is fetched at build time: {mark.text}", mark.file, mark.line) for mark in cmake.network)
    if source.skipped:
        more = f", nor were {len(source.skipped) - 1} others" if len(source.skipped) > 1 else ""
        yield Mark(f"was not read{more}", source.skipped[0], 1)


def _traces(source: SourceText) -> Iterator[Mark]:
    for name, text in source.texts.items():
        path = PurePosixPath(name)
        if path.suffix in {".toml", ".cfg"} or path.name in {"PKG-INFO", "METADATA"}:
            continue
        pattern = _LANGUAGE_ELSEWHERE if path.name in {"meson.build", "BUILD", "BUILD.bazel"} else _TRACE
        yield from in_lines(text, name, pattern)[:1]


def _submodules(source: SourceText) -> Iterator[Mark]:
    text = source.texts.get(".gitmodules", "")
    yield from in_lines(text, ".gitmodules", re.compile(r"(?<=url = )\S+|(?<=url=)\S+"))


def _local_modules(source: SourceText) -> frozenset[str]:
    """Modules and packages that lie beside setup.py."""
    names = {name.removeprefix(f"{source.project}/") for name in source.names}
    inner = {PurePosixPath(name.removeprefix("src/")) for name in names}
    files = {path.stem for path in inner if len(path.parts) == 1 and path.suffix == ".py"}
    return frozenset(files | {path.parts[0] for path in inner if len(path.parts) == 2 and path.name == "__init__.py"})
