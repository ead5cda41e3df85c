"""What can be wrong with toolkit, host compiler and C library, and what nvcc and torch make of the targets."""

from __future__ import annotations

from collections.abc import Iterator

from buildkit.machine import facts, host_facts
from buildkit.machine.facts import release_number, short_release
from buildkit.machine.solver.answer import Problem, Step
from buildkit.machine.solver.host import Host, HostCompiler, HostToolkit
from buildkit.machine.target import Target
from buildkit.machine.target_support import path_refusal, toolkit_refusal


def check_toolkit(host: Host) -> Iterator[Problem]:
    """From the target list to the last object: everything before the GPU."""
    if not host.wanted:
        yield Problem("plan", "no-target", "There is no GPU here to take the target from, and no target was given.")
    if host.compiler is None:
        yield Problem("configure", "no-compiler", "There is no C++ compiler here.")
    yield from _path(host)
    toolkit = host.toolkit
    if toolkit is None:
        yield _none_that_fits(host)
        return
    yield from _release(host, toolkit)
    yield from _parts(toolkit)
    if host.compiler is not None:
        yield from _compiler(host, host.compiler, toolkit)
    yield from _glibc(host, toolkit)
    yield from _targets(host, toolkit)


def _none_that_fits(host: Host) -> Problem:
    wanted = host.torch.cuda if host.torch is not None else None
    if not host.toolkits or wanted is None:
        return Problem("configure", "no-toolkit", f"There is no CUDA toolkit here{_for(wanted)}: CUDA_HOME is not set.")
    here = ", ".join(toolkit.release for toolkit in host.toolkits)
    return Problem(
        "configure",
        "toolkit-major",
        f"torch was built with CUDA {wanted}, the toolkit here is CUDA {here}: torch refuses another major version.",
    )


def _for(wanted: str | None) -> str:
    return f" (torch is of CUDA {wanted})" if wanted else ""


def _release(host: Host, toolkit: HostToolkit) -> Iterator[Problem]:
    cuda = host.torch.cuda if host.torch is not None else None
    if cuda is not None and release_number(cuda) != release_number(toolkit.release):
        sentence = (
            f"torch is of CUDA {cuda}, the toolkit of CUDA {toolkit.release}: they differ in the minor version only, "
            "so torch warns and the build works."
        )
        yield Problem("configure", "toolkit-minor", sentence, blocking=False)
    known = facts.toolkit_release(toolkit.release)
    if known is None or known.release != short_release(toolkit.release):
        taken = f"taken to be like {known.release}" if known else "nvcc itself will tell what it takes"
        sentence = f"CUDA {toolkit.release} is not in cudabuild's tables: {taken}."
        yield Problem("plan", "unknown-release", sentence, blocking=False)


def _parts(toolkit: HostToolkit) -> Iterator[Problem]:
    if "headers" in toolkit.lacks:
        sentence = (
            f"The CUDA {toolkit.release} toolkit lacks headers that torch's own headers include, such as cusparse.h."
        )
        yield Problem("compile", "toolkit-incomplete", sentence)
    if "libraries" in toolkit.lacks:
        sentence = f"The CUDA {toolkit.release} toolkit lacks libraries to link with, such as libcudart."
        yield Problem("link", "toolkit-incomplete", sentence)


def _compiler(host: Host, compiler: HostCompiler, toolkit: HostToolkit) -> Iterator[Problem]:
    newest = newest_compiler(toolkit.release, compiler.kind)
    if newest is None or compiler.major <= newest:
        return
    sentence = f"{compiler} is too new for CUDA {toolkit.release}: its nvcc takes {compiler.kind} up to {newest}."
    yield Problem(_compiler_step(host, compiler, toolkit), "compiler-new", sentence)


def newest_compiler(release: str, kind: str) -> int | None:
    """The newest major version of this compiler that this CUDA takes; None where the table does not hold it."""
    return facts.newest_gcc(release) if kind == "gcc" else facts.newest_clang(release)


def _compiler_step(host: Host, compiler: HostCompiler, toolkit: HostToolkit) -> Step:
    """CMake tries the compiler out before all else; torch's setuptools path does where it knows the bounds."""
    if host.project == "cmake" or host.torch is None:
        return "configure"
    knows = host_facts.torch_knows_bounds(host.torch.version, toolkit.release, compiler.kind)
    return "configure" if knows else "compile"


def _glibc(host: Host, toolkit: HostToolkit) -> Iterator[Problem]:
    clash = host_facts.host_table().glibc_clash
    is_new = release_number(host.glibc) >= release_number(clash.glibc)
    if is_new and release_number(toolkit.release) <= release_number(clash.cuda):
        sentence = (
            f"glibc {host.glibc} and CUDA {toolkit.release} both declare cospi and sinpi, and differently; "
            f"CUDA later than {clash.cuda} is mended."
        )
        yield Problem("configure" if host.project == "cmake" else "compile", "glibc-math", sentence)


def _path(host: Host) -> Iterator[Problem]:
    """What torch.utils.cpp_extension itself raises on."""
    if host.project != "setuptools" or host.torch is None:
        return
    version = host.torch.version
    sentences = [_said(target, reason) for target in host.wanted if (reason := path_refusal(target, version))]
    if sentences:
        yield Problem("configure", "target-unknown", " ".join(sentences))


def _targets(host: Host, toolkit: HostToolkit) -> Iterator[Problem]:
    release = short_release(toolkit.release)
    sentences = [_said(target, reason) for target in host.wanted if (reason := toolkit_refusal(target, release))]
    if sentences:
        yield Problem("compile", "target-toolkit", " ".join(sentences))


def _said(target: Target, reason: str) -> str:
    return f"{target}: {reason}"
