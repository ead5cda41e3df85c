"""What a person asked for, resolved from options, variables and the configuration file, and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

_TORCH = re.compile(
    r"(?P<release>\d+(?:\.\d+){1,2})(?P<rest>(?:(?:a|b|rc)\d+)?(?:\.dev\d+)?(?:\+[a-z0-9]+(?:\.[a-z0-9]+)*)?)"
)

MOST_JOBS = 100_000
"""Compilations at once that may be asked for."""

Device = Literal["cuda", "cpu", "auto"]
BuiltFor = Literal["cuda", "cpu"]
Requirement = Literal["built", "audited", "imported", "executed"]


def parse_torch(text: str) -> str:
    """``active``, or a version with its three numbers (``2.13`` is 2.13.0). Raises ValueError."""
    found = _TORCH.fullmatch(text.strip())
    if text.strip() != "active" and found is None:
        raise ValueError(f"{text!r} is no torch version: write active, 2.13.0 or 2.13.0+cu130")
    if found is None:
        return "active"
    return f"{found['release']}{'.0' * (2 - found['release'].count('.'))}{found['rest']}"


@dataclass(frozen=True)
class Request:
    """One package to build. Times are in seconds, memory in bytes; None means "decide for me"."""

    package: str
    """A recipe's name, a folder's path, or ``pypi:NAME[==VERSION]``."""
    version: str | None = None
    targets: tuple[str, ...] = ()
    torch: str | None = None
    """None or ``active``: the active environment's; else ``2.13.0`` or ``2.13.0+cu130``."""
    python: Path | None = None
    cuda_home: Path | None = None
    memory: int | None = None
    jobs: int | None = None
    timeout: float | None = None
    stall_timeout: float = 600.0
    device: Device = "cuda"
    require: Requirement | None = None
    source: str | None = None
    refresh: bool = False
    offline: bool = False
    resume: bool = True
    """Whether objects that an ended try of this build has finished are used."""
    find_links: tuple[str, ...] = ()
    recipes: Path | None = None
    canary: bool = True
    """Whether the small kernel is built and run before a CUDA package is compiled."""
    defer: bool = True
    """Whether files that a backend compiles one after the other are compiled side by side; the wheel is the same."""
    passed_environment: dict[str, str] = field(default_factory=dict)
    """Variables that the backend may see because the person asked for it; part of the key."""
