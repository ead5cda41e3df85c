"""What of a cache stays and what goes: pure, from what is there and what was asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from buildkit.build.disk_use import DiskUse
from buildkit.store.clearing import Stored

Kind = Literal[
    "wheel", "copy", "record", "build", "environment", "torch", "toolkit", "source", "download", "uv", "leftover",
    "other",
]  # fmt: skip
YOUNG = 600.0
"""Seconds for which everything stays after its use: it may have been printed to be typed."""
FIRST: frozenset[Kind] = frozenset({"uv", "download"})
"""Kinds that go first where room is wanted: copies of what an index has, and everything made of them stays."""


@dataclass(frozen=True)
class Item:
    """A part of the cache that goes or stays as a whole. ``used`` is in seconds since the epoch."""

    kind: Kind
    name: str
    paths: tuple[Path, ...]
    used: float
    use: DiskUse = field(default_factory=DiskUse)
    pinned: str = ""
    """Why it never goes; empty if it may."""
    useless: str = ""
    """Why nobody needs it any more, so that it goes without being asked for."""
    stored: Stored | None = None
    """The wheel in the store that it is."""


@dataclass(frozen=True)
class Policy:
    """What was asked: ``max_size`` in bytes, ``older_than`` in seconds, ``keep`` wheels of each recipe."""

    max_size: int | None = None
    older_than: float | None = None
    keep: int | None = None

    @property
    def asked(self) -> bool:
        """Whether anything was; else only what is of no use to anybody goes."""
        return any(value is not None for value in (self.max_size, self.older_than, self.keep))


@dataclass(frozen=True)
class Choice:
    """``going``: with why. ``candidates``: what may go as well for want of room, in that order. ``kept``: with why."""

    going: tuple[tuple[Item, str], ...]
    candidates: tuple[Item, ...]
    kept: tuple[tuple[Item, str], ...]


def choose(items: Sequence[Item], policy: Policy, now: float) -> Choice:
    """What goes and stays.

    ``older_than``: what was not used for as long goes. ``keep``: the wheels of a recipe that were used last stay, and
    (with no ``older_than``) its other wheels go. ``max_size``: what was used longest ago goes, until all that is left
    fits.
    """
    newest = _newest(items, policy.keep)
    going: list[tuple[Item, str]] = []
    candidates: list[Item] = []
    kept: list[tuple[Item, str]] = []
    for item in sorted(items, key=lambda each: (each.kind not in FIRST, each.used, each.name)):
        why = _why_it_goes(item, policy, now)
        if item.useless:
            going.append((item, item.useless))
        elif item.pinned:
            kept.append((item, item.pinned))
        elif now - item.used < YOUNG:
            kept.append((item, "used in the last minutes"))
        elif id(item) in newest:
            kept.append((item, f"among the {policy.keep} used last of its recipe"))
        elif why:
            going.append((item, why))
        else:
            candidates.append(item)
    room = policy.max_size is not None
    return Choice(tuple(going), tuple(candidates) if room else (), tuple(kept) if policy.asked else ())


def _why_it_goes(item: Item, policy: Policy, now: float) -> str:
    if policy.older_than is not None:
        return "not used for longer than asked" if now - item.used > policy.older_than else ""
    return f"not among the {policy.keep} used last of its recipe" if policy.keep is not None and item.stored else ""


def _newest(items: Sequence[Item], keep: int | None) -> set[int]:
    """Those wheels that were used last, of each recipe."""
    if keep is None:
        return set()
    of: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        for recipe in item.stored.recipes if item.stored else ():
            of[recipe].append(item)
    groups = (sorted(group, key=lambda each: each.used, reverse=True) for group in of.values())
    return {id(item) for group in groups for item in group[:keep]}
