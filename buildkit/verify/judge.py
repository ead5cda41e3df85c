"""Does the device code of a wheel answer what was asked for? Pure: from what was listed to evidence or a cause."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from buildkit.errors import CpuOnlyWheel, MissingTargets
from buildkit.machine.arch import Target
from buildkit.verify.device_code import ObjectCode, UnitCode

_CPU_ONLY_LINES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"not compiling with cuda",
        r"(compiling|building|built|installing)\b.*\bwithout (cuda|gpu)",
        r"cuda (is )?(was )?not (found|available|detected|enabled)",
        r"could not find (cuda|nvcc)",
        r"no cuda runtime is found",
        r"no cuda (toolkit|compiler|device)s?\b.*(found|detected|available)",
        r"\bcpu[- ]only\b",
        r"nvcc(: command| is|:)? not found|no nvcc\b|failed to find nvcc",
        r"cuda_home (environment variable )?is not set|cuda_home\b.*\bnone\b",
        r"(skipping|disabling|disabled?) (the )?(cuda|gpu)\b|\b(cuda|gpu)( support)?:? (is )?(disabled|off)\b",
        r"torch\.cuda\.is_available\(\).*false",
        r"(compiling|building|only) (only )?(for|the) cpu\b|falling back to (the )?cpu",
    )
)


def cpu_only_line(log_text: str) -> str:
    """The first line of a build log that shows why no device code was made, or an empty text.

    Patterns are tried from the plainest to the vaguest, each over the whole log.
    """
    lines = [line.strip() for line in log_text.splitlines()]
    for pattern in _CPU_ONLY_LINES:
        for line in lines:
            if pattern.search(line):
                return line
    return ""


def judge_device_code(
    objects: Sequence[ObjectCode],
    targets: Sequence[Target],
    cuda_objects: Iterable[str] = (),
    *,
    log_text: str = "",
) -> dict[str, Any]:
    """Evidence that a wheel holds code for ``targets``, or the cause why not.

    At least one object holds device code, and each that holds any holds every target in every unit (PTX where
    the target asks for it); others may hold none. Every pattern of ``cuda_objects`` names at least one object,
    and all those it names hold device code. Raises :class:`CpuOnlyWheel` or :class:`MissingTargets`.
    """
    holding = [entry for entry in objects if entry.units]
    if not holding:
        raise CpuOnlyWheel(
            "CPU-only wheel: CUDA was asked for, and no shared object of the wheel holds device code",
            evidence=cpu_only_line(log_text) or _listed(objects),
            hint="see the whole log: cudabuild log last   (if a CPU build is what you want: --device cpu)",
        )
    _check_named(objects, tuple(cuda_objects), log_text)
    lacking = [line for entry in holding for line in _lacking(entry, targets)]
    if lacking:
        raise MissingTargets(
            f"the wheel lacks device code for what was asked ({', '.join(map(str, targets))}): {'; '.join(lacking)}",
            evidence=lacking[0],
            hint="see which -gencode flags the compiler got: cudabuild log last",
        )
    return {
        "targets": [str(target) for target in held_by_all(holding)],
        "objects": [entry.evidence() for entry in holding],
        "without_device_code": [entry.path for entry in objects if not entry.units],
    }


def held_by_all(objects: Sequence[ObjectCode]) -> tuple[Target, ...]:
    """The targets that every unit of every object holds; with the PTX flag where every unit holds that as well."""
    units = [unit for entry in objects for unit in entry.units]
    elf = set.intersection(*(set(unit.elf) for unit in units)) if units else set()
    ptx = set.intersection(*(set(unit.ptx) for unit in units)) if units else set()
    return tuple(sorted(Target(t.major, t.minor, t.suffix, t in ptx) for t in elf))


def missing_in(unit: UnitCode, targets: Iterable[Target]) -> list[str]:
    """What one unit lacks: ``sm_86`` for machine code, ``PTX of 8.6`` for PTX."""
    lacking: list[str] = []
    for target in targets:
        plain = Target(target.major, target.minor, target.suffix)
        if plain not in unit.elf:
            lacking.append(f"sm_{plain.number}")
        if target.ptx and plain not in unit.ptx:
            lacking.append(f"PTX of {plain}")
    return lacking


def _lacking(entry: ObjectCode, targets: Sequence[Target]) -> list[str]:
    return [
        f"{entry.path}: {unit.name} lacks {', '.join(missing)} (it holds {_held(unit)})"
        for unit in entry.units
        if (missing := missing_in(unit, targets))
    ]


def _held(unit: UnitCode) -> str:
    return ", ".join([f"sm_{target.number}" for target in unit.elf] + [f"PTX of {target}" for target in unit.ptx])


def _listed(objects: Sequence[ObjectCode]) -> str:
    if not objects:
        return "the wheel holds no shared object at all"
    return f"without device code: {', '.join(entry.path for entry in objects)}"


def _check_named(objects: Sequence[ObjectCode], patterns: Sequence[str], log_text: str) -> None:
    for pattern in patterns:
        named = [entry for entry in objects if fnmatchcase(entry.path, pattern)]
        empty = [entry.path for entry in named if not entry.units]
        if not named or empty:
            subject = f"{', '.join(empty)} holds no device code" if named else f"no shared object matches {pattern!r}"
            raise CpuOnlyWheel(
                f"{subject}; the recipe's verify.cuda-objects asks for it",
                evidence=cpu_only_line(log_text) or _listed(objects),
                hint="see the whole log: cudabuild log last",
            )
