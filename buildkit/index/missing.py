"""What is said of what is not here: which variants come near, and the command that would make it. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from buildkit.index.shelf import Shelf
from buildkit.index.variants import build_command, nearest, read_variant


@dataclass(frozen=True)
class Missing:
    """A 404 in words. ``variants`` are paths that have it, or that are near; ``command`` would make it."""

    kind: str
    message: str
    hint: str = ""
    variants: list[str] = field(default_factory=list)
    command: str = ""
    names: list[str] = field(default_factory=list)


def missing_variant(shelf: Shelf, variant: str) -> Missing:
    """No wheel stands under this path."""
    near = nearest(variant, shelf.variants)
    if read_variant(variant) is None:
        hint = "paths are made like pt2.13-cu130, pt2.13-cu130-sm120, pt2.13-cpu or cu130; / lists those that are here"
        return Missing("no-such-variant", f"{variant} is not the path of a variant", hint, near)
    command = build_command("RECIPE", variant, shelf.torches())
    return Missing("no-such-variant", f"no wheel is here for {variant}", _run(command), near, command)


def missing_project(shelf: Shelf, variant: str, project: str, upstream: str) -> Missing:
    """No wheel of this project stands under this path."""
    have = shelf.where(project)
    if project in shelf.owned:
        command = build_command(project, variant, shelf.torches())
        message = f"{project} is not here for {variant}"
        if withheld := _withheld(shelf, variant, project):
            return Missing("withheld", f"{message}: {withheld}", _run(command), have, command)
        return Missing("no-such-project", message, _run(command), nearest(variant, have), command)
    near = difflib.get_close_matches(project, shelf.owned, n=3)
    hint = "" if upstream else "other packages come from another index, or through this one with --upstream URL"
    return Missing("no-such-project", f"{project} is not a package of this index", hint, [], "", near)


def missing_file(shelf: Shelf, variant: str, filename: str) -> Missing:
    """No such file stands under this path."""
    if reason := shelf.withheld.get((variant, filename)):
        damaged = "damaged" in reason or "not in the store" in reason
        kind = "damaged-wheel" if damaged else "withheld"
        hint = "build it again" if damaged else "take another wheel of the project's page"
        return Missing(kind, f"{filename} is not served: {reason}", hint)
    elsewhere = [other for other in shelf.variants if shelf.file(other, filename) is not None]
    return Missing("no-such-file", f"{filename} is not a file of {variant}", "see the project's page", elsewhere)


def _withheld(shelf: Shelf, variant: str, project: str) -> str:
    """Why the first of a project's files that are kept back is."""
    start = project.replace("-", "_")
    for (place, filename), reason in sorted(shelf.withheld.items()):
        if place == variant and filename.partition("-")[0].lower().replace(".", "_") == start:
            return f"{filename}: {reason}"
    return ""


def _run(command: str) -> str:
    return f"this command makes it: {command}" if command else ""
