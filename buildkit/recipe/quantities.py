"""Sizes and durations as people write them: ``2.5 GiB``, ``8G``, ``30 min``, ``1h 30m``.

Pure. Sizes become bytes, durations become whole seconds (rounded up). Both raise ``ValueError`` with a
sentence that says what would be understood; a number without a unit is refused, because whoever reads it
later guesses.
"""

from __future__ import annotations

import math
import re

# K, M, G and T alone are binary, as docker, Slurm and systemd read them.
_SIZE_UNITS = {
    "b": 1,
    "k": 2**10,
    "m": 2**20,
    "g": 2**30,
    "t": 2**40,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_DURATION_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}

SIZE_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,9})? ?([KMGTkmgt]([Ii]?[Bb])?|[Bb])$"
DURATION_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,9})? ?[a-z]+( ?[0-9]{1,9}(\.[0-9]{1,9})? ?[a-z]+)*$"
LARGEST_SIZE = 2**54
"""Bytes that no machine has: 16384 TiB. Whatever is passed on stays well within 18 digits."""
_AMOUNT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([a-z]+) ?")


def parse_size(text: str) -> int:
    """Bytes of ``2.5 GiB``, ``8GB``, ``512M``; upper and lower case alike, decimal fractions allowed."""
    plain = text.strip()
    match = re.match(SIZE_PATTERN, plain)
    if match is None:
        raise ValueError(f"{text!r} is not a size: write a number and a unit, such as '2.5 GiB' or '800 MiB'")
    unit = match.start(2)
    size = round(float(plain[:unit]) * _SIZE_UNITS[plain[unit:].lower()])
    if size <= 0:
        raise ValueError(f"{text!r} is no amount of memory: it must be more than nothing")
    if size > LARGEST_SIZE:
        raise ValueError(f"{text!r} is more memory than any machine has: it must be at most {LARGEST_SIZE >> 40} TiB")
    return size


def parse_duration(text: str, *, zero: bool = False) -> int:
    """Seconds of ``90 s``, ``30 min``, ``1h30m``, ``1.5 hours``; with ``zero`` also of ``0`` and ``0 s``."""
    plain = text.strip().lower()
    if zero and plain == "0":
        return 0
    amounts = _AMOUNT.findall(plain)
    known = all(unit in _DURATION_UNITS for _, unit in amounts)
    if re.match(DURATION_PATTERN, plain) is None or not known:
        raise ValueError(f"{text!r} is not a duration: write a number and a unit, such as '30 min', '90 s' or '1h30m'")
    seconds = math.ceil(sum(float(number) * _DURATION_UNITS[unit] for number, unit in amounts))
    if seconds < (0 if zero else 1):
        raise ValueError(f"{text!r} is no time at all: it must be more than nothing")
    return seconds


def format_size(size: int) -> str:
    """``2684354560`` as ``2.5 GiB``: one decimal, the largest unit that leaves at least 1."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{size} B"
