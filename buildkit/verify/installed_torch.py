"""For which torch and which CUDA a package was built, by everything that says so. Pure.

Three places can say it: the file that cudabuild writes into its wheels, the local version (the habits of several
publishers: ``+pt2.13.cu130``, ``+pt24cu121``, ``+cu12torch2.8cxx11abiFALSE``, ``+cu130``) and the requirement on
torch. Linked libraries say the CUDA major: their sonames carry it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from buildkit.machine.torch_identity import TorchIdentity

_TORCH_LABEL = re.compile(r"(?:^|\.|(?<=\d))(?:pt|torch)_?(?P<major>[12])\.?(?P<minor>\d{1,2})(?!\d)")
_CUDA_LABEL = re.compile(r"(?:^|\.|(?<=\d))cu(?P<digits>\d{2,3})(?!\d)")
# Of the libraries that extensions link to, these carry the CUDA major in their soname; cufft, curand and others
# count on their own.
_CUDA_SONAME = re.compile(r"lib(?:cudart|cublas|cublasLt|nvrtc|nvJitLink)\.so\.(?P<major>\d+)(?:\.\d+)*")


@dataclass(frozen=True)
class Claim:
    """What one place says: torch as ``2.13`` or ``2.13.0+cu130`` or a specifier, CUDA as ``13`` or ``13.0``."""

    source: str
    torch: str = ""
    cuda: str = ""
    specifier: str = ""


def claims_of(version: str, requires: Sequence[str], facts: Mapping[str, Any]) -> tuple[Claim, ...]:
    """All claims of a package: its version, its requirements, what cudabuild wrote into it."""
    found = []
    if facts.get("torch"):
        _, _, local = str(facts["torch"]).partition("+")
        cuda = cuda_of_label(local) if facts.get("device") != "cpu" else ""
        found.append(Claim(f"cudabuild built it for torch {facts['torch']}", str(facts["torch"]), cuda))
    _, _, local = version.partition("+")
    torch_said, cuda_said = torch_of_label(local), cuda_of_label(local)
    if torch_said or cuda_said:
        found.append(Claim(f"its version is {version}", torch_said, cuda_said))
    found += _pins(requires)
    return tuple(found)


def torch_of_label(local: str) -> str:
    """``2.13`` of ``pt2.13.cu130``, ``2.4`` of ``pt24cu121``, ``2.10`` of ``pt210cu128``; empty where none is named."""
    match = _TORCH_LABEL.search(local)
    return f"{match['major']}.{int(match['minor'])}" if match else ""


def cuda_of_label(local: str) -> str:
    """``13.0`` of ``cu130``, ``12`` of ``cu12torch2.8``; empty where none is named."""
    match = _CUDA_LABEL.search(local)
    if match is None:
        return ""
    digits = match["digits"]
    return digits if len(digits) == 2 else f"{digits[:2]}.{digits[2]}"


def _pins(requires: Sequence[str]) -> Iterator[Claim]:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    for text in requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        conditional = requirement.marker is not None and "extra" in str(requirement.marker)
        if canonicalize_name(requirement.name) == "torch" and requirement.specifier and not conditional:
            yield Claim(f"Requires-Dist: {text}", specifier=str(requirement.specifier))


def disagreements(claims: Sequence[Claim], torch: TorchIdentity) -> list[tuple[Literal["torch", "cuda"], str]]:
    """The claims that the torch here does not meet: what they are about, and the words that show it."""
    found: list[tuple[Literal["torch", "cuda"], str]] = []
    for claim in claims:
        if not _same_torch(claim, torch.version):
            found.append(("torch", claim.source))
        if claim.cuda and claim.cuda.partition(".")[0] != (torch.cuda or "").partition(".")[0]:
            found.append(("cuda", claim.source))
    return found


def _same_torch(claim: Claim, here: str) -> bool:
    """Releases of one minor share their ABI; a pre-release is only like itself."""
    from packaging.version import Version

    if claim.specifier:
        from packaging.specifiers import SpecifierSet

        return SpecifierSet(claim.specifier).contains(here, prereleases=True)
    if not claim.torch:
        return True
    said, found = Version(claim.torch), Version(here)
    if said.is_prerelease or (found.is_prerelease and said.micro):
        return said.public == found.public
    return said.release[:2] == found.release[:2]


def cuda_release_needed(libraries: Iterable[str]) -> dict[str, str]:
    """The CUDA libraries among needed ones, with the CUDA major that each is of."""
    matches = ((name, _CUDA_SONAME.fullmatch(name)) for name in libraries)
    return {name: match["major"] for name, match in matches if match}
