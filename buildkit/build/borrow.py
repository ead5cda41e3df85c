"""Borrowing a torch: a folder of links to torch and the closure of its requirements, and to nothing else.

The folder is named in a ``.pth`` of the private environment. The lender's whole site-packages is never put
on the path: a build must not find the person's other packages, and uv must not uninstall any of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.errors import DependencyConflict
from buildkit.machine.identity import Memo, file_identity
from buildkit.machine.interpreter import Interpreter
from buildkit.machine.torch_identity import NO_TORCH, TorchIdentity

if TYPE_CHECKING:
    from importlib.metadata import Distribution

OWN_TOOLS = frozenset({"setuptools", "pip", "wheel"})
"""Named by torch's requirements too, but which version builds a package is the package's own affair."""


@dataclass(frozen=True)
class Loan:
    """What is borrowed. ``versions`` maps normalised names to versions, torch's as its version.py says it."""

    site: Path
    versions: tuple[tuple[str, str], ...]
    entries: tuple[str, ...]
    """Top-level names in ``site`` (packages, modules, dist-info folders) that are linked."""

    @property
    def fingerprint(self) -> str:
        """Names and versions, without places: goes into the key."""
        text = "\n".join(f"{name}=={version}" for name, version in self.versions)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def names(self) -> tuple[str, ...]:
        """The distributions that no installer may bring in again."""
        return tuple(name for name, _ in self.versions)

    def modules(self) -> frozenset[str]:
        """Top-level module names that a wheel of another distribution must not hold."""
        return frozenset(entry.removesuffix(".py") for entry in self.entries if not entry.endswith(".dist-info"))


NO_LOAN = Loan(NO_TORCH.location, (), ())
"""Nothing is borrowed for a package that is built without torch."""


def plan_loan(torch: TorchIdentity, python: Interpreter, memo: Memo) -> Loan:
    """Torch and the closure of its requirements as they are installed at ``torch.location``.

    Remembered by the identity of the site-packages folder: installing or removing anything changes it.
    """
    site = torch.location
    key = hashlib.sha256(f"{site}\0{python.version}\0{torch.version}".encode()).hexdigest()
    remembered = memo.get("loan", key, file_identity(site))
    if isinstance(remembered, dict):
        versions, entries = remembered.get("versions"), remembered.get("entries")
        if isinstance(versions, dict) and isinstance(entries, list):
            return Loan(site, tuple((str(k), str(v)) for k, v in versions.items()), tuple(map(str, entries)))
    loan = _closure(torch, python)
    entries = list(loan.entries)
    memo.put("loan", key, file_identity(site), {"versions": {**dict(loan.versions)}, "entries": [*entries]})
    return loan


def sound_distributions(folders: Sequence[Path]) -> list[Distribution]:
    """Everything installed in some site-packages folders; leftovers without a name or a version are passed over.

    An interrupted uninstall leaves a dist-info without METADATA, whose name is None.
    """
    from importlib.metadata import distributions

    def whole(found: Distribution) -> bool:
        try:
            return "Name" in found.metadata and "Version" in found.metadata
        except (FileNotFoundError, KeyError):
            return False

    return [found for found in distributions(path=[str(folder) for folder in folders]) if whole(found)]


def _closure(torch: TorchIdentity, python: Interpreter) -> Loan:
    from packaging.utils import canonicalize_name

    # An environment's own packages come first: a name found twice counts as the first one.
    installed: dict[str, Distribution] = {}
    for found in sound_distributions([torch.location]):
        installed.setdefault(canonicalize_name(found.name), found)
    markers = marker_environment(python)
    wanted: list[tuple[str, frozenset[str]]] = [("torch", frozenset())]
    seen: set[tuple[str, frozenset[str]]] = set()
    versions: dict[str, str] = {}
    entries: set[str] = set()
    while wanted:
        name, extras = wanted.pop()
        distribution = installed.get(name)
        if distribution is None or (name, extras) in seen or name in OWN_TOOLS:
            continue
        seen.add((name, extras))
        versions[name] = torch.version if name == "torch" else distribution.version
        entries |= set(_top_level(distribution))
        wanted += _requirements(distribution, extras, markers)
    versions.setdefault("torch", torch.version)
    entries.add("torch")
    return Loan(torch.location, tuple(sorted(versions.items())), tuple(sorted(entries)))


def marker_environment(python: Interpreter) -> dict[str, str]:
    """What environment markers mean for an interpreter other than the running one."""
    return {
        "python_version": ".".join(python.version.split(".")[:2]),
        "python_full_version": python.version,
        "implementation_name": python.implementation,
        "platform_machine": python.machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
    }


def _requirements(
    distribution: Distribution, extras: frozenset[str], markers: Mapping[str, str]
) -> Iterator[tuple[str, frozenset[str]]]:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    for text in distribution.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        asked = [{**markers, "extra": extra} for extra in extras or {""}]
        if requirement.marker is None or any(requirement.marker.evaluate(environment) for environment in asked):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def _top_level(distribution: Distribution) -> Iterator[str]:
    for file in distribution.files or ():
        first = file.parts[0]
        if first not in {"..", "__pycache__"} and not first.endswith(".pth"):
            yield first


def make_links(loan: Loan, parent: Path) -> Path:
    """The folder of links, made once under a name that follows from what it links to."""
    text = "\0".join([str(loan.site), loan.fingerprint, *loan.entries])
    folder = parent / hashlib.sha256(text.encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
    for entry in loan.entries:
        if (loan.site / entry).exists():
            (temporary / entry).symlink_to(loan.site / entry)
    try:
        temporary.rename(folder)
    except OSError:
        shutil.rmtree(temporary)  # another build made the same folder in the meantime
        if not folder.is_dir():
            raise
    return folder


def lend(python_environment: Path, links: Path) -> None:
    """Put a folder of links on the path of a private environment."""
    for site in sorted(python_environment.glob("lib/python*/site-packages")):
        (site / "cudabuild-borrowed.pth").write_text(f"{links}{os.linesep}", encoding="utf-8")


def check_against_loan(requirements: Sequence[str], loan: Loan, python: Interpreter, *, whose: str) -> None:
    """Requirements on borrowed packages must be met by the versions that are lent; nothing else is installed."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    lent = dict(loan.versions)
    markers = marker_environment(python)
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise DependencyConflict(f"{whose} requires {text!r}, which does not parse", evidence=str(error)) from error
        version = lent.get(canonicalize_name(requirement.name))
        if version is None or (requirement.marker is not None and not requirement.marker.evaluate(markers)):
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            raise DependencyConflict(
                f"{whose} requires {requirement}, and the torch environment holds {requirement.name} {version}",
                hint="choose another torch with --torch, or another version of the package",
            )
