"""``cudabuild cache gc``: what of the cache goes, what stays, and why."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from buildkit.cli.options import Asked, DurationType, SizeType, examples, json_option, make_context
from buildkit.cli.output import answer, print_json, say
from buildkit.progress import Silent
from buildkit.recipe.quantities import format_size

if TYPE_CHECKING:
    from buildkit.cli.cache_schema import GcObject


@click.command(
    "gc",
    epilog=examples(
        "cudabuild cache gc                               what is of no use to anybody; shows what takes room",
        "cudabuild cache gc --older-than 30d --keep 2",
        "cudabuild cache gc --max-size 50GiB --dry-run",
    ),
)
@click.option(
    "--max-size",
    type=SizeType(),
    metavar="SIZE",
    help="Then what was used longest ago, until the cache fits into this, such as 50GiB.",
)
@click.option("--older-than", type=DurationType(), metavar="AGE", help="What was not used for this long, such as 30d.")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of each recipe the N wheels used last stay; without --older-than its other wheels go.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@json_option
def gc_command(
    max_size: int | None, older_than: float | None, keep: int | None, dry_run: bool, as_json: bool
) -> int:  # fmt: skip
    """Clear the cache: wheels, records, environments, toolkits, sources, downloads and build folders.

    Without options only what is of no use to anybody goes: leftovers of commands that were killed, folders of builds
    that failed over a week ago, bytes that nothing names. What a running command uses always stays.
    """
    from buildkit.build.clear_cache import clear_cache
    from buildkit.build.retention import Policy
    from buildkit.cli.cache_schema import gc_object

    context = make_context(Asked.read({}), Silent())
    policy = Policy(max_size, older_than, keep)
    cleared = clear_cache(context.places, context.store, policy, now=time.time(), dry_run=dry_run)
    found = gc_object(context.places.cache, cleared, max_size=max_size, dry_run=dry_run)
    if as_json:
        print_json(found.model_dump(mode="json", by_alias=True))
    else:
        _page(found, max_size)
    return 0


def _page(found: GcObject, max_size: int | None) -> None:
    would = "would go" if found.dry_run else "went"
    for kind in found.kinds:
        gone = f"{kind.removed} {would} ({format_size(kind.freed)})" if kind.removed else ""
        answer(f"{kind.kind:12} {kind.count:6} {format_size(kind.size):>12}  {gone}".rstrip())
    for removed in found.removed:
        answer(f"- {removed.kind} {removed.name}: {format_size(removed.freed)}, {removed.why}")
    for kept in found.kept:
        if kept.kind != "other":
            answer(f"+ {kept.kind} {kept.name} stays: {kept.why}")
    freed, left = format_size(found.before - found.after), format_size(found.after)
    say(f"{'would free' if found.dry_run else 'freed'} {freed}; {left} in {found.cache}")
    if max_size is not None and not found.fits:
        say(f"warning: that is more than {format_size(max_size)}: what stays is in use, or kept for the reasons above")
