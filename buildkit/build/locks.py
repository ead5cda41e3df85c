"""Locks of build requirements: resolved once, stored, reused until ``--refresh``, so that a hit needs no network."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.build.borrow import Loan
from buildkit.build.installer import Installer
from buildkit.errors import NotCached
from buildkit.machine.interpreter import Interpreter
from buildkit.progress import Reporter

BASELINE_REQUIRES = ("setuptools>=77,<82", "wheel", "ninja>=1.11", "pybind11>=2.12")
"""What nearly every extension takes for granted and few declare. setuptools 82 lacks pkg_resources, older
ones than 64 give the name UNKNOWN, and ``UNKNOWN`` wheels install without an error."""


@dataclass(frozen=True)
class RequirementLock:
    """A resolved set of build requirements: the file, and the hash that goes into the key."""

    path: Path
    sha256: str


def requirement_set(recipe: Sequence[str], static: Sequence[str], discovered: Sequence[str]) -> tuple[str, ...]:
    """What the environment must hold: the baseline, the recipe's, the source's own, and what its backend asked for.

    A requirement on a baseline package takes the baseline's place only where the recipe makes it: sources
    pin ancient setuptools, recipes are tested.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    def name(text: str) -> str:
        return canonicalize_name(Requirement(text).name)

    chosen = {name(text): text for text in BASELINE_REQUIRES}
    chosen |= {name(text): text for text in recipe}
    rest = sorted({text for text in [*static, *discovered] if name(text) not in chosen})
    return (*sorted(chosen.values()), *rest)


def lock_id(requirements: Sequence[str], loan: Loan, python: Interpreter, index: str) -> str:
    """The name of a lock: what was asked, for which Python and platform, of which index, beside which torch."""
    parts = [*requirements, "", loan.fingerprint, python.abi, python.version, python.platform, index]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def find_lock(folder: Path, identifier: str) -> RequirementLock | None:
    """The lock of this name, if it was resolved before."""
    path = folder / f"{identifier}.txt"
    try:
        return RequirementLock(path, hashlib.sha256(path.read_bytes()).hexdigest())
    except FileNotFoundError:
        return None


def resolve_lock(
    folder: Path,
    identifier: str,
    requirements: Sequence[str],
    loan: Loan,
    python: Interpreter,
    installer: Installer,
    reporter: Reporter,
) -> RequirementLock:
    """Resolve against the index and store the answer durably. Raises NotCached when offline."""
    if installer.offline:
        raise NotCached(
            "the build requirements were never resolved on this machine, and --offline forbids it now",
            evidence=", ".join(requirements),
            hint="run `cudabuild fetch` with the same options where there is a network",
        )
    reporter.phase("environment", "resolving the build requirements")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".resolve-") as scratch:
        excludes = Path(scratch) / "excludes.txt"
        excludes.write_text("\n".join(loan.names) + "\n", encoding="utf-8")
        text = installer.compile(requirements, python=python.executable, excludes=excludes)
        path = folder / f"{identifier}.txt"
        temporary = Path(scratch) / "lock.txt"
        temporary.write_text(text, encoding="utf-8")
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    return RequirementLock(path, hashlib.sha256(text.encode()).hexdigest())
