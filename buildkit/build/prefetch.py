"""``fetch``: do everything of a build that needs a network, and nothing that compiles the package."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from buildkit.build.borrow import make_links
from buildkit.build.canary import has_canary, plan_canary
from buildkit.build.context import Context
from buildkit.build.environment import ensure_build_environment
from buildkit.build.prepare import Prepared, prepare
from buildkit.plan.request import Request
from buildkit.source.inspect import runtime_requires


def prefetch(request: Request, configured: tuple[str, ...], context: Context) -> dict[str, Any]:
    """Source, torch, toolkit, lock and the files it names, plus what the proof environment and the canary will need.

    The wheels go into uv's cache by installing them once into a folder that is thrown away.
    """
    prepared = prepare(replace(request, require=None), configured, context)  # nothing is proven by fetching
    _fetch(prepared, context)
    if prepared.request.canary and has_canary(prepared):
        _fetch(plan_canary(prepared, context), context)
    return {
        "recipe": prepared.package.name,
        "version": prepared.version,
        "source": prepared.source.sha256,
        "torch": prepared.survey.torch.version or None,
        "cuda": prepared.survey.toolkit.toolkit.release if prepared.survey.toolkit else None,
        "lock": prepared.lock.sha256,
        "key": prepared.key,
    }


def _fetch(prepared: Prepared, context: Context) -> None:
    loan, python = prepared.survey.loan, prepared.survey.machine.python
    links = make_links(loan, context.places.borrowed)
    installer = context.installer()
    with tempfile.TemporaryDirectory(dir=context.places.work, prefix="fetch-") as scratch:
        context.reporter.phase("fetch", "build requirements")
        ensure_build_environment(
            context.places.environments,
            python=python,
            lock=prepared.lock,
            loan=loan,
            links=links,
            installer=installer,
            pycache=context.places.pycache,
            hold=context.hold,
        )
        runtime = [*prepared.package.loaded.recipe.runtime.requires, *runtime_requires(prepared.source)]
        if runtime:
            context.reporter.phase("fetch", "runtime requirements")
            excludes = Path(scratch) / "excludes.txt"
            excludes.write_text("\n".join(loan.names) + "\n", encoding="utf-8")
            proof = installer.create(Path(scratch) / "proof", python.base_executable)
            installer.install(runtime, python=proof, options=["--excludes", str(excludes)])
