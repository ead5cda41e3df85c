"""``cudabuild explain``: why a build failed, from any log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from buildkit.cli.console import printable
from buildkit.cli.options import Asked, make_context
from buildkit.cli.output import answer, print_json
from buildkit.progress import Silent

if TYPE_CHECKING:
    from buildkit.cli.explain_input import Source
    from buildkit.diagnose.engine import Finding

NOT_EXPLAINED = 1
"""The exit code where no rule knows what the log shows."""
_OTHERS = 3
"""Further causes that are named."""

EPILOG = """\b
Examples:
  cudabuild explain last                         the last build
  cudabuild explain build.log                    any log: pip's, uv's, Docker's, CI's
  pip install diso 2>&1 | cudabuild explain -    what another program prints
  cudabuild explain build.log --json
"""


@click.command("explain", epilog=EPILOG)
@click.argument("what", metavar="FILE|BUILD|-")
@click.option("--all", "every", is_flag=True, help="Show each cause in full, not the first one only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(what: str, every: bool, as_json: bool, **options: Any) -> int:
    """Say why a build failed: the cause, the lines of the log that show it, and the next command to type.

    FILE is any log, `-` standard input; BUILD is an id, the beginning of a key, a recipe's name, or `last`. Of a long
    log the last 16 MiB are read.

    The exit code is 0 where the cause is known, 1 where no rule knows it: then the first error is shown as it is.
    """
    from buildkit.cli.explain_input import read_source
    from buildkit.diagnose.engine import findings
    from buildkit.store.builds import BuildRecords

    context = make_context(Asked.read(options), Silent())
    source = read_source(what, BuildRecords(context.places.store))
    found = findings(source.log)
    if as_json:
        from buildkit.cli.explain_schema import explain_object

        print_json(explain_object(source, found).model_dump(by_alias=True))
    else:
        for line in lines_of(source, found, every=every):
            answer(printable(line))
    return 0 if found else NOT_EXPLAINED


def lines_of(source: Source, found: Sequence[Finding], *, every: bool = False) -> Iterator[str]:
    """The page for people."""
    if not found:
        yield from _unknown(source)
        return
    for finding in found if every else found[:1]:
        yield from cause_lines(finding)
    for finding in () if every else found[1 : 1 + _OTHERS]:
        word = "then" if finding.because_of else "also"
        yield f"{word}: {finding.cause} (line {finding.line})"
    if not every and len(found) > 1 + _OTHERS:
        yield f"and {len(found) - 1 - _OTHERS} more: --all shows them"


def cause_lines(finding: Finding) -> Iterator[str]:
    """One cause: at most six lines."""
    yield f"cause: {finding.cause}"
    for each in finding.evidence:
        yield f"  | {each.line}: {each.text}"
    yield f"next: {finding.hint}"
    if finding.rule.links:
        yield f"see: {finding.rule.links[0]}"


def _unknown(source: Source) -> Iterator[str]:
    from buildkit.diagnose.first import first_error_at
    from buildkit.diagnose.shown import hint_of_kind

    log, record = source.log, source.record
    if record is not None and record.error:
        yield f"build {record.id} ended with {record.error}; its log shows no cause that is known"
        yield f"next: {hint_of_kind(record.error)}"
        return
    place = first_error_at(log.lines)
    if place is None:
        yield "this log reports no error" if log.lines else "this log is empty"
        yield "next: once more, with all output: pip install -v NAME 2>&1 | cudabuild explain -"
        return
    yield "no rule knows the cause; the first error is:"
    for index in range(place, min(place + 3, len(log.lines))):
        yield f"  | {log.numbers[index]}: {log.lines[index].strip()}"
    there = log.numbers[place]
    yield f"next: read on from there: {f'line {there}' if source.piped else f'less +{there} {source.name}'}"
