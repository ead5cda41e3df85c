"""Releases of one version and one set of tags, told apart by their build tags: the newest counts, others are yanked.

Build tags: the binary distribution format of packaging.python.org.
"""

from __future__ import annotations

from buildkit.store.release import Release
from buildkit.store.store import Store


def tagged_filename(filename: str, build: str) -> str:
    """The file name with another build tag, or (for an empty one) without."""
    name, version, *_tag, python, abi, platform = filename.removesuffix(".whl").split("-")
    return "-".join([name, version, *([build] if build else []), python, abi, platform]) + ".whl"


def build_number(filename: str) -> tuple[int, str]:
    """The build tag of a wheel's file name as installers order it; one without a tag comes first."""
    from packaging.utils import parse_wheel_filename

    return parse_wheel_filename(filename)[2] or (-1, "")


def builds_of(filename: str, store: Store) -> list[Release]:
    """Releases that differ from a file name in the build tag at most, in the order of their tags."""
    bare = tagged_filename(filename, "")
    found = [each for each in store.releases() if tagged_filename(each.filename, "") == bare]
    return sorted(found, key=lambda each: build_number(each.filename))


def yank_older(release: Release, store: Store) -> list[Release]:
    """Of a release's version and tags, yank all but the highest build tag, in whatever order they came. Returns what
    was yanked."""
    *older, newest = builds_of(release.filename, store) or [release]

    def yank(known: Release) -> Release:
        return known.model_copy(update={"yanked": known.yanked or f"built again as {newest.filename}"})

    changed = [store.amend_release(each, yank) for each in older if not each.yanked]
    return [each for each in changed if each is not None]
