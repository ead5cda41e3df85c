"""A target as a value: a compute capability with its suffix and PTX flag, what runs where, and how tools spell it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Suffix = Literal["", "a", "f"]
Capability = tuple[int, int]

# The integrated GPUs: machine code of their major series does not run on them, nor theirs on the others.
# 12.1 (GB10) is integrated too, and yet runs 12.0 code. 11.0 is alone in its series.
# Source: CUDA C++ Programming Guide, "Binary Compatibility" (Tegra is excepted), and NVIDIA's release notes of 10.1.
_APART: frozenset[Capability] = frozenset({(5, 3), (6, 2), (7, 2), (8, 7), (10, 1)})

_NOTATION = re.compile(
    r"(?:(?P<prefix>sm|compute)[_-]?)?"
    r"(?:(?P<major>[2-9]|[1-9]\d)\.(?P<minor>\d)|(?P<number>[2-9]\d|[1-9]\d\d))"
    r"(?P<suffix>[af]?)(?:-(?P<kind>real|virtual))?(?P<ptx>\+ptx)?",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, order=True)
class Target:
    """One compute capability to compile for.

    ``suffix`` is ``a`` (code for exactly this chip) or ``f`` (for its family); ``ptx`` says that PTX is embedded
    beside the machine code. The order is numerical: 8.6 < 9.0 < 9.0a < 10.0.
    """

    major: int
    minor: int
    suffix: Suffix = ""
    ptx: bool = False

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}{self.suffix}{'+PTX' if self.ptx else ''}"

    @property
    def number(self) -> str:
        """As nvcc writes it after ``sm_`` and ``compute_``: ``86``, ``90a``, ``120f``."""
        return f"{self.major}{self.minor}{self.suffix}"

    @property
    def capability(self) -> Capability:
        """The device's own numbers: (12, 0)."""
        return (self.major, self.minor)

    @property
    def without_ptx(self) -> Target:
        """The same machine code alone."""
        return replace(self, ptx=False)

    @property
    def with_ptx(self) -> Target:
        """The same machine code with its PTX."""
        return replace(self, ptx=True)

    @property
    def plain(self) -> Target:
        """The same capability without suffix; the PTX flag stays."""
        return replace(self, suffix="")


def read_notation(text: str) -> Target | None:
    """The target that a number means, or None where the text is no number.

    Read are ``8.6``, ``86``, ``sm_86``, ``9.0a``, ``12.0f``, ``8.6+PTX``, and CMake's ``86-real`` and
    ``86-virtual``. ``compute_86`` names PTX for nvcc, so it is 8.6+PTX here.
    """
    match = _NOTATION.fullmatch(text)
    if match is None:
        return None
    number = match["number"]
    major, minor = (number[:-1], number[-1]) if number else (match["major"], match["minor"])
    letter = match["suffix"].lower()
    suffix: Suffix = "a" if letter == "a" else "f" if letter == "f" else ""
    virtual = (match["kind"] or "").lower() == "virtual" or (match["prefix"] or "").lower() == "compute"
    return Target(int(major), int(minor), suffix, ptx=virtual or match["ptx"] is not None)


def known_notation(text: str) -> Target:
    """:func:`read_notation` for texts that must be right (our own data); ValueError where they are not."""
    target = read_notation(text)
    if target is None:
        raise ValueError(f"{text!r} is no compute capability")
    return target


def merged(targets: Iterable[Target]) -> tuple[Target, ...]:
    """Sorted, each once; 8.6 beside 8.6+PTX is 8.6+PTX."""
    found = set(targets)
    return tuple(sorted(target for target in found if target.ptx or target.with_ptx not in found))


def runs_on(image: Target, device: Capability) -> bool:
    """Whether code built for ``image`` can run on a device of this capability.

    Machine code runs on the same major with a minor at least as high, integrated GPUs apart; ``a`` only on its
    chip, ``f`` in its family. PTX is compiled by the driver for every later capability (a driver that is older
    than the toolkit may refuse it: see ``compat.check_driver``); the PTX of ``a`` and ``f`` is bound as they are.
    """
    if image.suffix == "a":
        return device == image.capability
    same_series = device == image.capability or (
        device[0] == image.major
        and device[1] >= image.minor
        and device not in _APART
        and image.capability not in _APART
    )
    return same_series or (image.ptx and image.suffix == "" and device >= image.capability)


def covers(have: Iterable[Target], wanted: Iterable[Target]) -> bool:
    """Whether ``have`` holds everything that ``wanted`` names, PTX included (8.6+PTX covers 8.6)."""
    held = set(have)
    held |= {target.without_ptx for target in held}
    return all(target in held for target in wanted)


def torch_arch_list(targets: Iterable[Target]) -> str:
    """The value of TORCH_CUDA_ARCH_LIST: ``8.6;12.0+PTX`` (commas and other blanks make torch raise)."""
    return ";".join(str(target) for target in merged(targets))


def cmake_architectures(targets: Iterable[Target]) -> str:
    """The value of CUDAARCHS and CMAKE_CUDA_ARCHITECTURES: ``86-real;120`` (a bare number is code and PTX)."""
    return ";".join(target.number if target.ptx else f"{target.number}-real" for target in merged(targets))
