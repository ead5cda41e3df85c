"""``cudabuild matrix audit``: which cells an index serves, and which not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from buildkit.cli.matrix_inputs import matrix_options, read_inputs
from buildkit.cli.options import SizeType, examples, json_option
from buildkit.cli.output import answer, print_json, say
from buildkit.errors import StoreError, UsageError

if TYPE_CHECKING:
    from buildkit.cli.matrix_audit_schema import AuditedObject, AuditObject
    from buildkit.cli.matrix_inputs import Inputs
    from buildkit.matrix.audit import Finding
    from buildkit.matrix.audit_stale import Pinned
    from buildkit.matrix.cell import Cell

DEFAULT_LIMIT = 16 << 20

EPILOG = examples(
    "cudabuild matrix audit https://wheels.example/",
    "cudabuild matrix audit http://127.0.0.1:8080/pt2.13-cu130/simple/ --json",
    "cudabuild matrix audit 'https://wheels.example/{variant}/simple/' --only 'diso-*'",
)


@click.command("audit", epilog=EPILOG)
@click.argument("index", metavar="INDEX-URL")
@matrix_options
@click.option("--look", is_flag=True, help="Look into wheels that have a verdict, too.")
@click.option(
    "--limit", type=SizeType(), default=DEFAULT_LIMIT, metavar="SIZE", help="Read at most this of a wheel (16MiB)."
)
@json_option
def audit_command(index: str, *, look: bool, limit: int, as_json: bool, **options: Any) -> int:
    """Say which cells an index serves and at which grade, and which are missing, stale or without code for a target.

    INDEX-URL is any simple index, or what `cudabuild serve` serves. No wheel is downloaded: of those that have no
    verdict, the parts that list their device code are read. Exit code 10 if a cell is not served as it should be.
    """
    from buildkit.build.remote_index import RemoteIndex
    from buildkit.matrix.audit import Audit

    inputs = read_inputs(options)
    with RemoteIndex(index_address(index), inputs.context.index) as remote:
        audit = Audit(remote, {cell.id: _pinned(cell, inputs) for cell in inputs.cells}, limit, look_always=look)
        audit.check()
        findings = [audit.of(cell) for cell in inputs.cells]
        shown = _object(index, inputs.file, findings, remote.fetched)
    if as_json:
        print_json(shown.model_dump(mode="json", by_alias=True))
    else:
        for line in _lines(shown):
            answer(line)
        say(_summary(shown))
    return 0 if all(each.status == "served" for each in findings) else StoreError.exit_code


def index_address(index: str) -> str:
    """The same, if it is an index's address. Raises UsageError."""
    from buildkit.process import redact

    try:
        parts = urlsplit(index)
        fine = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or True)
    except ValueError:  # a bracket without the other one, a port that is none
        fine = False
    if not fine:
        hint = "cudabuild matrix audit https://HOST/simple/"
        raise UsageError(f"{redact(index)} is not an index's address", hint=hint)
    return index


def _pinned(cell: Cell, inputs: Inputs) -> Pinned:
    """What the recipe says of a cell's version today."""
    from buildkit.matrix.audit import project_names
    from buildkit.matrix.audit_stale import Pinned
    from buildkit.recipe.loader import load_recipe
    from buildkit.recipe.owned import names_of

    wanted = inputs.packages[cell.recipe, cell.version]
    if not wanted.known or wanted.folder is None:
        return Pinned(project_names([wanted.name]))
    loaded = load_recipe(wanted.folder)
    version = next((each for each in loaded.recipe.versions if each.version == cell.version), None)
    return Pinned(
        project_names(list(names_of(loaded.recipe))),
        loaded.sha256,
        (version.sha256 or "") if version is not None and version.sdist else "",
        {patch.label: loaded.patch_sha256(patch) for patch in loaded.recipe.patches},
    )


def _object(index: str, file: Path, findings: list[Finding], fetched: int) -> AuditObject:
    from buildkit.cli.matrix_audit_schema import AuditObject
    from buildkit.matrix.audit import RANK
    from buildkit.process import redact

    counts = {status: sum(each.status == status for each in findings) for status in RANK}
    return AuditObject(
        index=redact(index),
        file=str(file),
        counts={status: count for status, count in counts.items() if count},
        cells=[_audited(each) for each in findings],
        fetched=fetched,
    )


def _audited(each: Finding) -> AuditedObject:
    from buildkit.cli.matrix_audit_schema import AuditedObject
    from buildkit.machine.arch import parse_targets

    cell = each.cell
    return AuditedObject(
        cell=cell.id,
        status=each.status,
        reasons=list(each.reasons),
        filename=each.filename or None,
        url=each.url or None,
        sha256=each.sha256 or None,
        grade=each.grade or None,
        verdict=each.verdict_url or None,
        targets=[str(target) for target in parse_targets(cell.targets)] if cell.targets else [],
        held=list(each.held),
        lacking=list(each.lacking),
        evidence=each.evidence,
        complete=each.complete,
        size=each.size or None,
        fetched=each.fetched,
    )


def _lines(shown: AuditObject) -> Iterator[str]:
    width = max((len(each.cell) for each in shown.cells), default=0)
    for each in shown.cells:
        words = [each.cell.ljust(width), each.status.ljust(7), (each.grade or "-").ljust(8), "; ".join(each.reasons)]
        yield "  ".join(words).rstrip()


def _summary(shown: AuditObject) -> str:
    from buildkit.recipe.quantities import format_size

    counted = ", ".join(f"{count} {status}" for status, count in shown.counts.items())
    return f"{shown.index}: {counted}; {format_size(shown.fetched)} were read"
