"""Which of an index's files to take, and why there is none. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from buildkit.errors import HashMismatch, IndexUnreachable, NotOnIndex
from buildkit.source.metadata import normalized
from buildkit.source.spec import SdistSpec

if TYPE_CHECKING:
    from packaging.version import Version

    from buildkit.source.index_client import IndexFile, Listing

UNREACHABLE_HINT = "check the network and `pip config list`: cudabuild uses the index that pip is configured with"


def choose(spec: SdistSpec, listing: Listing) -> IndexFile:
    """The file to take: of the asked version (else the newest final one), with the asked hash."""
    sdists = [file for file in listing.files if not file.is_wheel]
    if spec.version is not None:
        candidates = [file for file in sdists if same_version(file.version, spec.version)]
    else:
        candidates = _newest(sdists)
    if not candidates:
        raise _nothing(spec, listing, sdists)
    if spec.sha256 is None:
        return next((file for file in candidates if not file.yanked), candidates[0])
    right = [file for file in candidates if file.sha256 == spec.sha256] or [f for f in candidates if f.sha256 is None]
    if not right:
        if listing.unreachable:
            raise _unreachable(spec, listing)
        raise mismatch(candidates[0].filename, spec.sha256, ", ".join(str(file.sha256) for file in candidates))
    return right[0]


def _newest(files: Sequence[IndexFile]) -> list[IndexFile]:
    """All files of the newest version: not yanked, final ones before pre-releases."""
    offered = [file for file in files if not file.yanked]
    final = [file for file in offered if not parsed(file.version).is_prerelease]
    newest = max(final or offered, key=lambda file: parsed(file.version), default=None)
    return [file for file in offered if newest is not None and same_version(file.version, newest.version)]


def parsed(version: str) -> Version:
    """The version as something that sorts; what is no version sorts first."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version)
    except InvalidVersion:
        return Version("0.dev0")


def same_version(left: str, right: str) -> bool:
    """Equal as PEP 440 has it (``1.0`` and ``1.0.0``)."""
    return left == right or parsed(left) == parsed(right) != parsed("")


def _nothing(spec: SdistSpec, listing: Listing, sdists: Sequence[IndexFile]) -> NotOnIndex | IndexUnreachable:
    """Why there is no candidate: unreachable sources win, because the file may lie there."""
    if listing.unreachable:
        return _unreachable(spec, listing)
    wanted = f"{spec.name} {spec.version}" if spec.version else spec.name
    versions = sorted({file.version for file in sdists}, key=parsed, reverse=True)
    if versions:
        evidence = f"source distributions there: {', '.join(versions[:12])}{' ...' if len(versions) > 12 else ''}"
    elif listing.files:
        evidence = f"only wheels there: {', '.join(sorted({file.version for file in listing.files})[:12])}"
    else:
        evidence = f"no page for {normalized(spec.name)} at {', '.join(listing.asked) or '(no index, no find-links)'}"
    return NotOnIndex(
        f"there is no source distribution of {wanted} on the configured index",
        evidence=evidence,
        hint="check name and version, or name another source: --source PATH|URL@COMMIT, --find-links DIR",
    )


def _unreachable(spec: SdistSpec, listing: Listing) -> IndexUnreachable:
    return IndexUnreachable(
        f"the package index did not answer for {spec.name}",
        evidence="; ".join(listing.unreachable),
        hint=UNREACHABLE_HINT,
    )


def mismatch(filename: str, expected: str, got: str) -> HashMismatch:
    """The bytes, or what the index says of them, are not the pinned ones."""
    return HashMismatch(
        f"{filename} is not the file that was pinned",
        evidence=f"expected sha256 {expected}, got {got}",
        hint="do not build it: compare with the project's release, then correct `sha256` in the recipe",
    )
