"""What a page of the simple repository says, before it is JSON or HTML (PEP 503, 691, 700, 714, 792). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from buildkit.store.release import Release

API_VERSION = "1.4"


@dataclass(frozen=True)
class FileLine:
    """One file of a project's page. URLs are relative to the page, so that a prefix in front does not matter."""

    filename: str
    url: str
    sha256: str
    size: int
    upload_time: str
    requires_python: str
    metadata_sha256: str
    yanked: str
    """Why it is yanked; empty while it is not."""
    grade: str
    verdict_url: str


@dataclass(frozen=True)
class ProjectPage:
    """A project of one variant. ``status`` is PEP 792's."""

    name: str
    versions: tuple[str, ...]
    files: tuple[FileLine, ...]
    status: str = "active"


@dataclass(frozen=True)
class VariantPage:
    """The projects of one variant."""

    names: tuple[str, ...]


def file_url(filename: str) -> str:
    """From a project's page to a file: a plus sign is linked as ``%2B``."""
    return f"../../files/{quote(filename, safe='')}"


def project_page(name: str, releases: Iterable[Release]) -> ProjectPage:
    """The page of a project: files by version and name, each version once."""
    ordered = by_version(releases)
    versions = tuple(dict.fromkeys(release.version for release in ordered))
    return ProjectPage(name, versions, tuple(_line(release) for release in ordered))


def by_version(releases: Iterable[Release]) -> Sequence[Release]:
    """Oldest version first (PEP 440); what is no version comes before all of them."""
    return sorted(releases, key=lambda release: (_version_key(release.version), release.filename))


def _version_key(text: str) -> tuple[bool, object]:
    from packaging.version import InvalidVersion, Version

    try:
        return (True, Version(text))
    except InvalidVersion:
        return (False, text)


def _line(release: Release) -> FileLine:
    url = file_url(release.filename)
    return FileLine(
        filename=release.filename,
        url=url,
        sha256=release.sha256,
        size=release.size,
        upload_time=release.created,
        requires_python=release.requires_python,
        metadata_sha256=release.metadata_sha256,
        yanked=release.yanked,
        grade=release.grade,
        verdict_url=f"{url}.verdict.json",
    )
