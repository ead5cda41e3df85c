"""What an index serves: one reading of the store's releases, sorted into variants, with the pages ready as bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from buildkit.index import pages
from buildkit.index.model import VariantPage, project_page
from buildkit.index.negotiation import JSON
from buildkit.index.settings import GRADES, IndexSettings
from buildkit.index.variants import variant_of
from buildkit.store.release import Release


@dataclass(frozen=True)
class Body:
    """An answer's bytes in one form, and the entity tag of this form."""

    content: bytes
    media_type: str
    etag: str


@dataclass(frozen=True)
class Shelf:
    """Immutable but for the pages, which are made when they are first asked for."""

    variants: Mapping[str, Mapping[str, tuple[Release, ...]]]
    """Releases that are served, by variant and project."""
    withheld: Mapping[tuple[str, str], str]
    """Why a file that is here is not served, by variant and file name."""
    owned: frozenset[str]
    """Names that never come from elsewhere."""
    _files: Mapping[tuple[str, str], Release]
    _bodies: dict[tuple[str, str, str], Body] = field(default_factory=dict)

    def file(self, variant: str, filename: str) -> Release | None:
        """The release of a file name, if it stands under this variant and is served."""
        return self._files.get((variant, filename))

    def where(self, project: str) -> list[str]:
        """The variants that have a project."""
        return sorted(variant for variant, projects in self.variants.items() if project in projects)

    def torches(self) -> list[str]:
        """The torch versions that releases here were made for."""
        return sorted({release.torch for release in self._files.values() if release.torch})

    def project_body(self, variant: str, project: str, media_type: str) -> Body | None:
        """A project's page in one form; None where the variant has no such project."""
        releases = self.variants.get(variant, {}).get(project)
        if releases is None:
            return None
        make = pages.project_json if media_type == JSON else pages.project_html
        return self._body((variant, project, media_type), lambda: make(project_page(project, releases)))

    def variant_body(self, variant: str, media_type: str) -> Body | None:
        """A variant's list of projects in one form; None where there is no such variant."""
        projects = self.variants.get(variant)
        if projects is None:
            return None
        make = pages.variant_json if media_type == JSON else pages.variant_html
        return self._body((variant, "", media_type), lambda: make(VariantPage(tuple(sorted(projects)))))

    def _body(self, place: tuple[str, str, str], make: Callable[[], bytes]) -> Body:
        if place not in self._bodies:
            self._bodies[place] = body_of(make(), place[2])
        return self._bodies[place]


def body_of(content: bytes, media_type: str) -> Body:
    """Bytes with their entity tag, which differs from form to form even where the bytes do not."""
    digest = hashlib.sha256(media_type.encode() + b"\n" + content).hexdigest()
    return Body(content, media_type, f'"{digest[:32]}"')


def make_shelf(releases: Iterable[Release], settings: IndexSettings, flaw_of: Callable[[Release], str]) -> Shelf:
    """Sort the releases. ``flaw_of`` says what is known to be wrong with a release's bytes; empty for nothing."""
    variants: dict[str, dict[str, list[Release]]] = {}
    withheld: dict[tuple[str, str], str] = {}
    files: dict[tuple[str, str], Release] = {}
    owned = set(settings.owned)
    for release in releases:
        owned.add(release.project)
        variant = variant_of(release)
        if reason := why_withheld(release, settings) or flaw_of(release):
            withheld[variant, release.filename] = reason
            continue
        files[variant, release.filename] = release
        variants.setdefault(variant, {}).setdefault(release.project, []).append(release)
    sorted_out = {
        variant: {project: tuple(found) for project, found in projects.items()}
        for variant, projects in sorted(variants.items())
    }
    return Shelf(sorted_out, withheld, frozenset(owned), files)


def why_withheld(release: Release, settings: IndexSettings) -> str:
    """Why these settings keep a release back; empty where they do not."""
    if release.device == "cuda" and not release.targets:
        return "what device code it holds is not known here yet: prove it with `cudabuild verify`, or build it"
    if GRADES.index(settings.min_grade) > _rank(release.grade):
        return f"its proof is {release.grade}, and this index serves {settings.min_grade} and better only"
    if not settings.shared:
        return ""
    if any(tag.startswith("linux_") for tag in platform_tags(release.filename)):
        return "its tag linux_* does not say on which systems it runs: a shared index serves manylinux wheels only"
    if not release.redistributable and not settings.allow_non_redistributable:
        return "its licence does not let a shared index pass it on"
    return ""


def platform_tags(filename: str) -> list[str]:
    """The platform tags of a wheel's file name."""
    return filename.removesuffix(".whl").rpartition("-")[2].split(".")


def _rank(grade: str) -> int:
    return GRADES.index(grade) if grade in GRADES else 0
