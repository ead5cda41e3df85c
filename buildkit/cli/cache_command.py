"""``cudabuild cache``: what is stored, where, and whether it is still what was written."""

from __future__ import annotations

from typing import Any

import click

from buildkit.cli.cache_exchange import export_command, import_command, key_group
from buildkit.cli.cache_gc import gc_command
from buildkit.cli.options import Asked, examples, json_option, make_context
from buildkit.cli.output import SCHEMA, answer, print_json, say
from buildkit.progress import Silent


@click.group(
    "cache", epilog="\b\nExamples:\n  cudabuild cache list\n  cudabuild cache show last\n  cudabuild cache verify"
)
def command() -> None:
    """List, show, verify, clear and share what is stored."""


@command.command("path", epilog=examples("cudabuild cache path", 'cp "$(cudabuild cache path last)" wheels/'))
@click.argument("entry", required=False)
def path_command(entry: str | None) -> int:
    """Print the cache's folder, or the path of ENTRY's wheel (handed out under its own name)."""
    context = make_context(Asked.read({}), Silent())
    if entry is None:
        answer(str(context.places.cache))
        return 0
    from buildkit.build.admit_entry import require_sound

    found = context.store.find(entry)
    require_sound(found, context.store)
    context.hold(context.places.wheels / found.key[:16])
    answer(str(context.store.hand_out(found, context.places.wheels / found.key[:16])))
    return 0


@command.command("list", epilog=examples("cudabuild cache list", "cudabuild cache list --json"))
@json_option
def list_command(as_json: bool) -> int:
    """List the stored wheels, newest first, and what else the cache holds."""
    from buildkit.build.contents import cache_contents
    from buildkit.verify.verdict import stored_grade

    context = make_context(Asked.read({}), Silent())
    entries = list(context.store.entries())
    others = cache_contents(context.places)
    if as_json:
        wheels = [_entry_object(entry) for entry in entries]
        print_json({"schema": SCHEMA, "cache": str(context.places.cache), "wheels": wheels, "others": others})
        return 0
    for entry in entries:
        targets = ";".join(entry.targets) or "cpu"
        answer(
            f"{entry.key[:12]}  {stored_grade(entry.verdict):9} {entry.size >> 10:8} KiB  {targets:18} {entry.filename}"
        )
    for other in others:
        answer(f"{other['kind']:12} {other['name']}")
    if not entries:
        say("no wheels are stored yet: cudabuild RECIPE builds one")
    return 0


@command.command("show", epilog=examples("cudabuild cache show last", "cudabuild cache show 4f2a9c --json"))
@click.argument("entry")
@json_option
def show_command(entry: str, as_json: bool) -> int:
    """Show ENTRY (a build's id, the beginning of a key, a wheel's file name, or `last`): its proof and its inputs."""
    from buildkit.cli.show_page import show
    from buildkit.cli.show_schema import entry_object

    context = make_context(Asked.read({}), Silent())
    found = entry_object(context.store.find(entry))
    if as_json:
        print_json(found.model_dump(mode="json", by_alias=True))
    else:
        show(found)
    return 0


@command.command("verify", epilog=examples("cudabuild cache verify", "cudabuild cache verify --json"))
@json_option
def verify_command(as_json: bool) -> int:
    """Read every stored byte, open every wheel, and name what is not as it was written or not what it says."""
    from buildkit.build.admit_entry import verify_entries

    context = make_context(Asked.read({}), Silent())
    problems = verify_entries(context.store)
    count = sum(1 for _ in context.store.entries())
    if as_json:
        found = [{"key": p.key, "path": p.path, "text": p.text} for p in problems]
        print_json({"schema": SCHEMA, "entries": count, "problems": found})
    else:
        for problem in problems:
            answer(f"{problem.path}: {problem.text}")
        say(f"{count} entries, {len(problems)} problems")
    return 10 if problems else 0


for each in (gc_command, export_command, import_command, key_group):
    command.add_command(each)


def _entry_object(entry: Any) -> dict[str, Any]:
    from buildkit.verify.verdict import stored_grade

    return {
        "key": entry.key,
        "recipe": entry.recipe,
        "version": entry.version,
        "build": entry.build,
        "created": entry.created,
        "filename": entry.filename,
        "sha256": entry.sha256,
        "size": entry.size,
        "targets": list(entry.targets),
        "torch": entry.torch,
        "grade": stored_grade(entry.verdict),
    }
