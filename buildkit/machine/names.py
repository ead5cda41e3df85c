"""GPU and family names: what people type after ``--target`` and what drivers report, to compute capabilities.

A name is used only where a person typed one, or where an old driver knows no capability: names mislead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from buildkit.machine.facts import gpu_table
from buildkit.machine.target import Capability, Target, known_notation, runs_on

# Words after a GPU's name that do not change its capability: memory, form factor, edition.
_HARMLESS = re.compile(
    r"\d+gb?|sxm\d?|pcie?|nvl|hbm\d?e?|super|laptop|gpu|with|max|q|maxq|design|server|workstation|edition|dgxs?|fhhl|sff",
)
_BRANDS = ("nvidia", "grid", "geforce", "tesla", "quadro")


@dataclass(frozen=True)
class Meaning:
    """One GPU that a name can stand for."""

    name: str
    target: Target


@dataclass(frozen=True)
class NameTable:
    """Squashed name to what it can mean: one meaning, or several where it is ambiguous."""

    gpus: dict[str, tuple[Meaning, ...]]
    families: dict[str, tuple[Target, ...]]

    def typable(self) -> tuple[str, ...]:
        """Every name that can be typed, for suggestions."""
        return (*self.gpus, *self.families)


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


def _squashed(name: str) -> str:
    return "".join(_words(name))


def _spellings(name: str) -> set[str]:
    """The squashed forms of one catalogue name: with and without brands, and with the ends drivers add."""
    words = _words(name)
    bare = [word for word in words if word not in _BRANDS]
    forms = {"".join(words), "".join(bare)}
    if words[-1] == "ada":
        forms |= {f"{form}generation" for form in forms} | {form.replace("rtx", "rtxa", 1) for form in forms}
    if words[:2] == ["rtx", "pro"]:
        forms |= {f"{form}blackwell" for form in forms}
    return forms


@cache
def name_table() -> NameTable:
    """All names of ``gpus.toml``; an ambiguous name wins over a short form of a full one."""
    table = gpu_table()
    meaning = {name: Meaning(name, known_notation(group.capability)) for group in table.gpu for name in group.names}
    gpus: dict[str, tuple[Meaning, ...]] = {form: (one,) for name, one in meaning.items() for form in _spellings(name)}
    gpus |= {_squashed(alias): (meaning[name],) for alias, name in table.alias.items()}
    gpus |= {_squashed(name): tuple(meaning[one] for one in names) for name, names in table.ambiguous.items()}
    families = {
        name: tuple(known_notation(capability) for capability in capabilities)
        for name, capabilities in table.family.items()
    }
    return NameTable(gpus, families)


def _leading(words: list[str], *, any_rest: bool) -> tuple[Meaning, ...]:
    """The meanings of the longest run of leading words that is a name; the words after it must be harmless."""
    gpus = name_table().gpus
    for count in range(len(words), 0, -1):
        rest = words[count:]
        found = gpus.get("".join(words[:count]))
        if found and (any_rest or all(_HARMLESS.fullmatch(word) for word in rest)):
            return found
    return ()


def meanings(name: str) -> tuple[Meaning, ...]:
    """What a typed GPU name can mean: nothing, one GPU, or several of different capabilities."""
    words = _words(name)
    while words and words[0] in _BRANDS and not _leading(words, any_rest=False):
        words = words[1:]
    return _leading(words, any_rest=False)


def family(name: str) -> tuple[Target, ...]:
    """The capabilities of a family (``blackwell``, ``ada lovelace``); empty where the name is none."""
    return name_table().families.get(_squashed(name), ())


def capability_of_device(name: str) -> Capability | None:
    """The capability of a GPU by the name its driver reports (``Tesla V100-SXM2-16GB``); None where unknown."""
    words = _words(name)
    while words:
        found = _leading(words, any_rest=True)
        if found:
            return found[0].target.capability if len(found) == 1 else None
        if words[0] not in _BRANDS:
            return None
        words = words[1:]
    return None


def gpus_that_run(targets: Iterable[Target]) -> list[tuple[Capability, tuple[str, ...]]]:
    """The known GPUs that run code for one of the targets: by compute capability, with their names."""
    wanted = tuple(targets)
    groups = ((known_notation(group.capability).capability, group.names) for group in gpu_table().gpu)
    return [(device, names) for device, names in groups if any(runs_on(target, device) for target in wanted)]
