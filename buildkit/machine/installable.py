"""CUDA toolkits that can be had without root: from NVIDIA's archives (11.8 to 12.9) and from wheels (13.x). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from buildkit.errors import UsageError
from buildkit.machine import facts
from buildkit.machine.facts import release_number

Origin = Literal["archives", "wheels"]

WHEEL_MAJORS = (13,)
"""CUDA majors whose toolkit can be made from package-index wheels: those of 12.x hold a ptxas, but no nvcc."""


@dataclass(frozen=True)
class Installable:
    """A release ("12.8"), where it comes from, and its versions there, the one to try first first.

    Wheels are asked for by release: they have no versions here.
    """

    release: str
    origin: Origin
    versions: tuple[str, ...] = ()


@cache
def installable() -> tuple[Installable, ...]:
    """Every release that can be installed, newest first."""
    found = []
    for known in reversed(facts.known_toolkits()):
        if known.archives:
            found.append(Installable(known.release, "archives", tuple(reversed(known.archives))))
        elif from_wheels(known.release):
            found.append(Installable(known.release, "wheels"))
    return tuple(found)


def from_wheels(release: str) -> bool:
    """Whether a toolkit of this release can be made from wheels."""
    return release_number(release)[0] in WHEEL_MAJORS


def find_installable(release: str) -> Installable | None:
    """What can be installed of exactly this release."""
    return next((each for each in installable() if each.release == release), None)


def nearest_release(release: str) -> str | None:
    """The nearest release of the same major series that can be installed; the newer one of two."""
    major, minor = release_number(release)
    same = [each.release for each in installable() if release_number(each.release)[0] == major]
    return min(same, key=lambda other: abs(release_number(other)[1] - minor), default=None)


def typed_version(typed: str) -> tuple[str, str | None] | None:
    """The release and, where it was typed, the exact version: ``12.8.1`` is ("12.8", "12.8.1"); None for no version.

    Leading zeros mean nothing; digits are ASCII's.
    """
    found = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?", typed.strip())
    if found is None:
        return None
    release = f"{int(found[1])}.{int(found[2])}"
    return release, f"{release}.{int(found[3])}" if found[3] else None


def asked_version(typed: str) -> Installable:
    """What a person means by ``12.8`` or ``12.8.1``. UsageError, naming the nearest ones, for what there is not.

    A release of 13.x that is newer than the tables is tried all the same: the index knows better. So is a version
    of a known release.
    """
    told = typed_version(typed)
    if told is None:
        raise UsageError(f"{typed!r} is no version of CUDA", hint=_near(typed))
    release, exact = told
    known = find_installable(release)
    if known is None and from_wheels(release):
        known = Installable(release, "wheels")
    if known is None:
        raise UsageError(f"there is no CUDA {release} that could be installed without root", hint=_near(typed))
    if exact is None:
        return known
    if known.origin == "wheels":
        raise UsageError(
            f"CUDA {release} comes as wheels, which are asked for by release",
            hint=f"cudabuild toolkit install {release}",
        )
    return Installable(release, "archives", (exact,))


def _near(typed: str) -> str:
    """A command for the nearest release, however the version was spelled (``128``, ``cu128``, ``12``, ``11.7``)."""
    digits = re.findall(r"[0-9]+", typed)
    joined = re.fullmatch(r"([0-9]{2})([0-9])", digits[0]) if len(digits) == 1 else None
    wanted = (int(joined[1]), int(joined[2])) if joined else tuple(int(part[:4]) for part in (*digits, "0", "0"))[:2]

    def distance(release: str) -> float:
        major, minor = release_number(release)
        return abs(major + minor / 100 - (wanted[0] + wanted[1] / 100))

    nearest = sorted((each.release for each in installable()), key=distance)[:2]
    return f"the nearest: cudabuild toolkit install {' or '.join(nearest)}; all of them: cudabuild toolkit list"
