"""The jobs of a workflow, as GitHub reads them. Pure.

What comes from the file never stands in a script: it reaches steps as variables, which a shell does not read as code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from buildkit.matrix.github_cells import Row
from buildkit.matrix.github_data import action, image_of, script
from buildkit.matrix.github_settings import AFTER_BUILD, BEFORE_BUILD, GithubSettings, Publish

Job = dict[str, Any]
Step = dict[str, Any]

SMALL_RUNNER = "ubuntu-24.04"
"""For jobs that only move files."""
UNLESS_CANCELLED = "${{ !cancelled() }}"
WORK, TOOLS = "/cudabuild", "/opt/cudabuild"
"""In the container: what is built and stored, and cudabuild itself. Neither path may change: compilers write the first
into what they make."""
CACHED = "\n".join(f"{WORK}/cache/{name}" for name in ("builds", "locks", "memo", "profiles", "sources", "store"))
"""Wheels, what units needed before, and what builds that were ended have compiled; torch and toolkits are too large
for the 10 GB that a repository's caches may take."""
_READ: dict[str, str] = {"contents": "read"}


def build_job(matrix: Any, settings: GithubSettings, number: int, *, after: str = "") -> Job:
    """The round ``number`` of the cells of ``matrix`` (a table, or an expression that gives one), ``after`` a job that
    says what the round before has left.
    """  # fmt: skip
    image = image_of(settings.glibc)
    limit = settings.checkpoint + BEFORE_BUILD + AFTER_BUILD
    waits = {"needs": [after], "if": f"${{{{ !cancelled() && needs.{after}.outputs.count > 0 }}}}"} if after else {}
    strategy: dict[str, Any] = {"fail-fast": False}
    if settings.parallel:
        strategy["max-parallel"] = settings.parallel
    return {
        "name": "${{ matrix.cell }}",
        **waits,
        "runs-on": "${{ matrix.runner }}",
        "container": {"image": "${{ matrix.image }}"},
        "timeout-minutes": limit // 60,
        "permissions": _READ,
        "env": {"WORK": WORK, "TOOLS": TOOLS},
        "strategy": {**strategy, "matrix": matrix},
        "steps": [
            _run("Tools", "tools", PACKAGES=_cell("packages"), INSTALLER=image.installer, TOOLS_PATH=image.path),
            _checkout(),
            {
                "name": "What earlier runs stored and learned",
                "uses": action("actions/cache").uses("restore"),
                "with": {"path": CACHED, "key": _cache_key(), "restore-keys": _cache_prefixes()},
            },
            _run(
                "cudabuild, toolkit, Python",
                "install",
                CUDABUILD=settings.install,
                BOOT_PYTHON=image.python,
                CELL_PYTHON=_cell("python"),
                CELL_CUDA=_cell("cuda"),
            ),
            {**_run("Build", "build", **_build_variables(settings, number)), "id": "build"},
            *_after_build(number),
        ],
    }


def _build_variables(settings: GithubSettings, number: int) -> dict[str, str]:
    named = ("package", "torch", "device", "targets", "require", "timeout", "memory")
    return {
        "CELL": _cell("cell"),
        **{f"CELL_{name.upper()}": _cell(name) for name in named},
        "CELL_JSON": "${{ toJSON(matrix) }}",
        "CHECKPOINT": f"{settings.checkpoint}s",
        "LAST_ROUND": "true" if number == settings.rounds else "false",
    }


def _after_build(number: int) -> list[Step]:
    """Whatever came of the build: its wheel, its log, or that the next round has to go on."""
    uploads = (
        ("done", "The wheel with its verdict", "wheel", f"{WORK}/out/"),
        ("unfinished", "What the next round goes on with", f"unfinished-{number}", f"{WORK}/unfinished/"),
        ("failed", "The log", "log", f"{WORK}/cache/logs/"),
    )
    steps = [
        {
            "name": name,
            "if": f"${{{{ !cancelled() && steps.build.outputs.state == '{state}' }}}}",
            **_upload(f"{artifact}-{_cell('cell')}", path),
        }
        for state, name, artifact, path in uploads
    ]
    save = {
        "name": "Store and learn",
        "if": "${{ always() && steps.build.outputs.state }}",
        "uses": action("actions/cache").uses("save"),
        "with": {"path": CACHED, "key": _cache_key()},
    }
    return [*steps, save]


def left_job(number: int, *, needs: Sequence[str]) -> Job:
    """Which cells the round ``number`` has left, as a matrix."""
    return {
        "name": "What is left",
        "needs": list(needs),
        "if": UNLESS_CANCELLED,
        "runs-on": SMALL_RUNNER,
        "timeout-minutes": 10,
        "permissions": {},
        "outputs": {"count": "${{ steps.left.outputs.count }}", "cells": "${{ steps.left.outputs.cells }}"},
        "steps": [
            _download(f"unfinished-{number}-*", "unfinished"),
            {**_run("Cells", "left"), "id": "left"},
        ],
    }


def prove_job(rows: Sequence[Row], settings: GithubSettings, *, needs: Sequence[str]) -> Job:
    """Proofs of wheels on runners with a GPU."""
    wheel = f"wheel-{_cell('cell')}"
    return {
        "name": "${{ matrix.cell }} on ${{ matrix.gpu }}",
        "needs": list(needs),
        "if": UNLESS_CANCELLED,
        "runs-on": "${{ fromJSON(matrix.labels) }}",
        "timeout-minutes": 60,
        "permissions": _READ,
        "strategy": {"fail-fast": False, "matrix": {"include": list(rows)}},
        "steps": [
            _checkout(),
            {
                # No wheel is the build's failure, and says nothing about this GPU.
                "name": "The wheel",
                "id": "wheel",
                "continue-on-error": True,
                "uses": action("actions/download-artifact").uses(),
                "with": {"name": wheel, "path": "wheel"},
            },
            _run(
                "Prove",
                "prove",
                condition="${{ steps.wheel.outcome == 'success' }}",
                CUDABUILD=settings.install,
                CELL=_cell("cell"),
                CELL_TORCH=_cell("torch"),
                CELL_PYTHON=_cell("python"),
                CELL_TARGETS=_cell("targets"),
                GPU=_cell("gpu"),
            ),
            {
                "name": "The verdict",
                "if": "${{ !cancelled() && steps.wheel.outcome == 'success' }}",
                **_upload("proof-${{ matrix.cell }}-sm${{ matrix.gpu }}", "proof/"),
            },
        ],
    }


def publish_job(publish: Publish, settings: GithubSettings, *, needs: Sequence[str], proofs: Sequence[str]) -> Job:
    """Wheels and verdicts to an index; not where a proof failed."""
    wanted = "!cancelled() && (inputs.publish || github.ref_type == 'tag')"
    fine = "".join(f" && needs.{job}.result != 'failure'" for job in proofs)
    trusted = publish.to == "trusted"
    steps = [_checkout()] if settings.install.startswith(".") and not trusted else []
    steps += [
        _download("wheel-*", "artifacts", merge=False),
        *([_download("proof-*", "artifacts", merge=False)] if proofs else []),
        _run("Wheels and verdicts", "collect"),
        _trusted(publish) if trusted else _to_ours(publish, settings),
    ]
    return {
        "name": "Publish",
        "needs": [*needs, *proofs],
        "if": f"${{{{ {wanted}{fine} }}}}",
        "runs-on": SMALL_RUNNER,
        "timeout-minutes": 60,
        "environment": publish.environment,
        "permissions": {"id-token": "write"} if trusted else _READ,
        "steps": steps,
    }


def _trusted(publish: Publish) -> Step:
    given = {"packages-dir": "wheels", "repository-url": publish.index, "skip-existing": True, "attestations": False}
    return {"name": "Publish", "uses": action("pypa/gh-action-pypi-publish").uses(), "with": given}


def _to_ours(publish: Publish, settings: GithubSettings) -> Step:
    parts = urlsplit(publish.index)
    root = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/legacy')}"
    token = {"CUDABUILD_TOKEN": "${{ secrets.CUDABUILD_TOKEN }}"}
    return _run("Publish", "publish", CUDABUILD=settings.install, INDEX=publish.index, INDEX_ROOT=root, **token)


def _run(name: str, script_name: str, *, condition: str = "", **variables: str) -> Step:
    first = {"name": name, **({"if": condition} if condition else {})}
    return {**first, **({"env": variables} if variables else {}), "run": script(script_name)}


def _checkout() -> Step:
    return {"uses": action("actions/checkout").uses(), "with": {"persist-credentials": False}}


def _upload(name: str, path: str) -> Step:
    given = {"name": name, "path": path, "if-no-files-found": "error", "overwrite": True}
    return {"uses": action("actions/upload-artifact").uses(), "with": given}


def _download(pattern: str, path: str, *, merge: bool = True) -> Step:
    given: dict[str, Any] = {"pattern": pattern, "path": path, "merge-multiple": merge}
    return {"uses": action("actions/download-artifact").uses(), "with": given}


def _cell(key: str) -> str:
    return f"${{{{ matrix.{key} }}}}"


def _cache_key() -> str:
    """Caches are never written over: each try of each run has its own, and takes the newest before it."""
    return f"{_prefix()}{_cell('cell')}/${{{{ github.run_id }}}}-${{{{ github.run_attempt }}}}-${{{{ github.job }}}}"


def _cache_prefixes() -> str:
    """This cell's newest; without one, that of another cell of the package, from which there is something to learn."""
    return f"{_prefix()}{_cell('cell')}/\n{_prefix()}"


def _prefix() -> str:
    return f"cudabuild-1/${{{{ runner.arch }}}}/{_cell('image')}/{_cell('package')}/"
