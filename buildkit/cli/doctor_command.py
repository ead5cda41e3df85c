"""``cudabuild doctor``: what is here, what does not fit, what to type."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from buildkit.cli.options import Asked, json_option, make_context
from buildkit.cli.output import SCHEMA, answer, print_json, say
from buildkit.errors import CudabuildError
from buildkit.progress import Silent

if TYPE_CHECKING:
    from buildkit.build.context import Context

Finding = tuple[str, dict[str, Any], list[str]]
"""A name, what was found, and what does not fit."""


@click.command("doctor", epilog="\b\nExample:\n  cudabuild doctor --json")
@click.option("--python", metavar="PATH", help="Interpreter or environment to look at.")
@json_option
def command(python: str | None, as_json: bool) -> int:
    """Say what this machine is, what does not fit together, and what to type.

    Ends with 0 where a CUDA extension can be built here, else with 5.
    """
    asked = Asked.read({})
    context = make_context(asked, Silent(), may_install=False)
    findings = [_examine(name, look, context, python) for name, look in LOOKS]
    problems = [problem for _, _, found in findings for problem in found]
    if as_json:
        value = {name: facts for name, facts, _ in findings}
        print_json({"schema": SCHEMA, "ok": not problems, "machine": value, "problems": problems})
        return 5 if problems else 0
    for name, facts, found in findings:
        shown = ", ".join(f"{key} {value}" for key, value in facts.items() if value not in (None, "", [], ()))
        answer(f"{name:10} {shown or '-'}")
        for problem in found:
            answer(f"{'':10} ! {problem}")
    say(
        "this machine can build CUDA extensions"
        if not problems
        else f"{len(problems)} problem(s), see the lines with !"
    )
    return 5 if problems else 0


Look = Callable[["Context", "str | None"], "tuple[dict[str, Any], list[str]]"]


def _examine(name: str, look: Look, context: Context, python: str | None) -> Finding:
    try:
        facts, problems = look(context, python)
    except CudabuildError as error:
        return name, {}, [f"{error.message}{' - ' + error.hint if error.hint else ''}"]
    return name, facts, problems


def _interpreter(context: Context, python: str | None) -> Any:
    from pathlib import Path

    from buildkit.machine.interpreter import active_interpreter

    return active_interpreter(Path(python) if python else None, context.environ, context.cwd, context.memo)


def _python(context: Context, python: str | None) -> tuple[dict[str, Any], list[str]]:
    found = _interpreter(context, python)
    problems = [] if found.has_headers else ["Python.h is missing - apt-get install python3-dev"]
    return {"version": found.version, "at": str(found.executable), "headers": found.has_headers}, problems


def _torch(context: Context, python: str | None) -> tuple[dict[str, Any], list[str]]:
    from buildkit.machine.torch_identity import identify_torch

    found = identify_torch(_interpreter(context, python).site_packages)
    if found is None:
        return {"note": "none in the active environment: one is installed into the cache when it is needed"}, []
    problems = []
    if found.hip is not None:
        problems.append("a ROCm build: cudabuild builds for CUDA only")
    elif found.cuda is None:
        problems.append("a CPU-only build: name another with --torch 2.13.0+cu130")
    return {"version": found.version, "CUDA": found.cuda, "at": str(found.location)}, problems


def _toolkits(context: Context, _python: str | None) -> tuple[dict[str, Any], list[str]]:
    from buildkit.machine.toolkit import find_toolkits

    found = find_toolkits(context.environ, None, context.memo)
    rows = [
        f"CUDA {toolkit.version} at {toolkit.root} ({toolkit.origin}"
        + (f", {len(toolkit.missing)} headers missing" if toolkit.missing else "")
        + ")"
        for toolkit in found
    ]
    return {"found": rows or "none here: 13.x is made from package-index wheels when it is needed"}, []


def _compiler(context: Context, _python: str | None) -> tuple[dict[str, Any], list[str]]:
    from buildkit.machine.compiler import find_host_compiler, glibc_version

    found = find_host_compiler(context.environ, context.memo)
    return {found.kind: found.version, "at": str(found.path), "glibc": glibc_version()}, []


def _gpus(context: Context, _python: str | None) -> tuple[dict[str, Any], list[str]]:
    from buildkit.machine.gpus import visible_gpus

    found = visible_gpus(context.environ)
    rows = [f"{gpu.name} ({gpu.capability[0]}.{gpu.capability[1]})" for gpu in found.gpus]
    facts = {"visible": rows or "none: give --target", "driver": found.driver, "notes": list(found.notes)}
    return facts, []


def _limits(context: Context, _python: str | None) -> tuple[dict[str, Any], list[str]]:
    from buildkit.machine.limits import read_limits

    found = read_limits(context.environ)
    return {
        "CPUs": f"{found.cpus} ({found.cpu_source})",
        "memory": f"{found.memory / 2**30:.1f} GiB ({found.memory_source})",
        "available": f"{found.memory_available / 2**30:.1f} GiB",
    }, []


def _cache(context: Context, _python: str | None) -> tuple[dict[str, Any], list[str]]:
    import shutil

    places = context.places
    existing = next(folder for folder in (places.cache, *places.cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    problems = [f"only {free / 2**30:.1f} GiB free: torch and a toolkit need about 10"] if free < 10 * 2**30 else []
    return {"at": str(places.cache), "free": f"{free / 2**30:.1f} GiB", "index": context.index.described()}, problems


LOOKS: tuple[tuple[str, Look], ...] = (
    ("python", _python),
    ("torch", _torch),
    ("toolkits", _toolkits),
    ("compiler", _compiler),
    ("gpus", _gpus),
    ("limits", _limits),
    ("cache", _cache),
)
