"""What is not as it was at the last success (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from buildkit.guard.trace import Trace
from buildkit.recipe.quantities import format_size
from buildkit.report.page import duration
from buildkit.report.summary import summarise
from buildkit.report.text import printable, shortened
from buildkit.report.view import Change

LONGEST = 120
"""Characters of a value that are shown."""
NAMES = {
    "targets": "targets", "torch": "torch", "cuda": "CUDA", "python": "Python", "jobs": "jobs",
    "memory_budget": "memory budget", "timeout": "timeout", "stall_timeout": "stall timeout", "toolkit": "toolkit",
    "compiler": "compiler", "require": "required grade",
}  # fmt: skip
"""What is decided of a build, as people call it, in the order in which it is shown."""


def said(name: str, value: Any) -> str:
    """A plan's value in words."""
    if value in (None, "", [], ()):
        return "none"
    if name == "memory_budget":
        return format_size(int(value))
    if name in {"timeout", "stall_timeout"}:
        return duration(float(value))
    if isinstance(value, (list, tuple)):
        return printable(shortened(", ".join(map(str, value)), LONGEST))
    return printable(shortened(value if isinstance(value, str) else json.dumps(value, default=str), LONGEST))


def of_plans(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    """Decisions that differ; only those that both plans have."""
    for name, title in NAMES.items():
        if name in before and name in now and _plain(before[name]) != _plain(now[name]):
            yield Change(title, said(name, before[name]), said(name, now[name]))


def of_inputs(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    """Fields of the key that differ, and that no plan tells; those inside mappings as ``environment.CFLAGS``."""
    old, new = dict(flat(before)), dict(flat(now))
    for name in sorted({*old, *new}):
        if name not in NAMES and old.get(name) != new.get(name):
            yield Change(name, old.get(name) or "none", new.get(name) or "none")


def flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The fields as texts, those of a mapping each by itself; what says nothing is left out."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif value not in (None, "", [], ()):
            yield f"{prefix}{name}", said("", value)


def of_figures(before: Trace | None, now: Trace | None) -> Iterator[Change]:
    """What it took: time, compilations, memory, the longest."""
    if before is None or now is None:
        return
    old, new = summarise(before), summarise(now)
    yield from _unless_equal("time under the guard", duration(before.seconds), duration(now.seconds))
    yield from _unless_equal("compilations", str(old.units), str(new.units))
    yield from _unless_equal("most memory", format_size(old.peak), format_size(new.peak))
    if old.longest is not None and new.longest is not None:
        pair = [f"{printable(shortened(one.name, 80))}, {duration(one.seconds)}" for one in (old.longest, new.longest)]
        yield from _unless_equal("longest compilation", *pair)


def of_sizes(before: int, now: int) -> Iterator[Change]:
    """The wheel's size in bytes."""
    yield from _unless_equal("wheel", format_size(before), format_size(now))


def _unless_equal(what: str, before: str, now: str) -> Iterator[Change]:
    if before != now:
        yield Change(what, before, now)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
