"""What is known of torch's wheels, setuptools, the C library and torch's own checks: ``wheels.toml``, ``hosts.toml``.

Beside ``facts`` since only the solver asks for it: a store hit reads none of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from buildkit.machine.facts import frozen_row, load_table, release_number
from buildkit.machine.target import Target, known_notation


@dataclass(frozen=True)
class WheelRow:
    """What torch's wheels of this CUDA and machine hold device code for, from this torch release on."""

    cuda: str
    since: str
    targets: tuple[str, ...]
    machine: str = "x86_64"


@dataclass(frozen=True)
class JetsonTorch:
    """A torch that NVIDIA builds for its Jetsons."""

    version: str
    cuda: str
    python: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class WheelTable:
    """``wheels.toml``."""

    schema: int
    source: str
    wheel: tuple[WheelRow, ...]
    jetson: tuple[JetsonTorch, ...]


@dataclass(frozen=True)
class SetuptoolsRule:
    """setuptools from ``since`` up to and without ``before`` breaks torch up to and with ``torch``."""

    torch: str
    since: int
    lacks: str
    before: int | None = None


@dataclass(frozen=True)
class GlibcClash:
    """From this glibc on, the math headers of CUDA up to and with this release do not compile."""

    glibc: str
    cuda: str


@dataclass(frozen=True)
class Bounds:
    """From this torch on, its setuptools path refuses a wrong compiler itself, for CUDA up to these releases."""

    since: str
    gcc: str
    clang: str


@dataclass(frozen=True)
class HostTable:
    """``hosts.toml``."""

    schema: int
    source: str
    setuptools: tuple[SetuptoolsRule, ...]
    setuptools_that_works: dict[str, str]
    glibc_clash: GlibcClash
    bounds: tuple[Bounds, ...]


@cache
def wheel_table() -> WheelTable:
    """torch's wheels: their device code, by CUDA, machine and release."""
    values = load_table("wheels.toml")
    values["wheel"] = tuple(WheelRow(**frozen_row(row)) for row in values["wheel"])
    values["jetson"] = tuple(JetsonTorch(**frozen_row(row)) for row in values["jetson"])
    return WheelTable(**values)


@cache
def host_table() -> HostTable:
    """What goes wrong between torch, setuptools, the C library and host compilers."""
    values = load_table("hosts.toml")
    values["setuptools"] = tuple(SetuptoolsRule(**row) for row in values["setuptools"])
    values["glibc_clash"] = GlibcClash(**values["glibc_clash"])
    values["bounds"] = tuple(Bounds(**row) for row in values["bounds"])
    return HostTable(**values)


@cache
def wheel_targets(torch: str, cuda: str, machine: str) -> tuple[Target, ...] | None:
    """What torch's own wheel of this version, CUDA and machine holds device code for; None: there is no such wheel."""
    wanted = release_number(torch)
    rows = [row for row in wheel_table().wheel if (row.cuda, row.machine) == (cuda, machine)]
    fitting = [row for row in rows if release_number(row.since) <= wanted]
    return tuple(known_notation(name) for name in fitting[-1].targets) if fitting else None


def jetson_torch(version: str) -> JetsonTorch | None:
    """NVIDIA's torch of exactly this version, where it is known."""
    return next((known for known in wheel_table().jetson if known.version == version), None)


def broken_setuptools(torch: str, setuptools: int) -> SetuptoolsRule | None:
    """The rule by which this major version of setuptools breaks this torch."""
    rules = (rule for rule in host_table().setuptools if release_number(torch) <= release_number(rule.torch))
    return next(
        (rule for rule in rules if rule.since <= setuptools and (rule.before is None or setuptools < rule.before)), None
    )


def torch_knows_bounds(torch: str, cuda: str, kind: str) -> bool:
    """Whether this torch's setuptools path itself refuses a ``gcc`` or ``clang`` that this CUDA does not take."""
    rows = [row for row in host_table().bounds if release_number(row.since) <= release_number(torch)]
    last = (rows[-1].gcc if kind == "gcc" else rows[-1].clang) if rows else "0.0"
    return release_number(cuda) <= release_number(last)
