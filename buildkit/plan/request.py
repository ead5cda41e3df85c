"""What a person asked for, resolved from options, variables and the configuration file, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Device = Literal["cuda", "cpu", "auto"]
BuiltFor = Literal["cuda", "cpu"]
Requirement = Literal["built", "audited", "imported", "executed"]


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
    find_links: tuple[str, ...] = ()
    recipes: Path | None = None
    passed_environment: dict[str, str] = field(default_factory=dict)
    """Variables that the backend may see because the person asked for it; part of the key."""
