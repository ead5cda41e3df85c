"""The page for people: which variants are here, what each holds, and the lines to copy."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from buildkit.index.lines import Lines, lines_for
from buildkit.index.model import by_version
from buildkit.index.settings import IndexSettings
from buildkit.index.shelf import Shelf
from buildkit.index.variants import declared
from buildkit.store.release import Release

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class ProjectRow:
    """A project of a variant: its newest version that is not yanked (or its newest), and what that is proven to do."""

    name: str
    version: str
    pythons: str
    grade: str
    files: int


@dataclass(frozen=True)
class VariantSection:
    """A variant, what it holds, and the lines to copy for its first project."""

    path: str
    targets: str
    projects: tuple[ProjectRow, ...]
    lines: Lines


def sections(shelf: Shelf, base: str, *, upstream: bool) -> list[VariantSection]:
    """The variants by path."""
    return [
        VariantSection(
            path=variant,
            targets=declared(variant),
            projects=tuple(_row(name, releases) for name, releases in sorted(projects.items())),
            lines=lines_for(base, variant, min(projects), upstream=upstream),
        )
        for variant, projects in sorted(shelf.variants.items())
    ]


def front_page(shelf: Shelf, settings: IndexSettings, base: str) -> str:
    """The HTML. ``base`` is the URL by which the reader came here; everything is escaped."""
    return _template().render(
        sections=sections(shelf, base, upstream=bool(settings.upstream)),
        settings=settings,
        withheld=len(shelf.withheld),
    )


@lru_cache(maxsize=1)
def policy() -> str:
    """The page's content security policy: its own style, by hash, and nothing else; it has no script."""
    source = (_TEMPLATES / "front.html").read_text("utf-8")
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256((style[1] if style else "").encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("front.html")


def _row(name: str, releases: tuple[Release, ...]) -> ProjectRow:
    ordered = by_version([release for release in releases if not release.yanked] or releases)
    newest = [release for release in ordered if release.version == ordered[-1].version]
    pythons = ", ".join(sorted({release.python for release in newest}))
    return ProjectRow(name, newest[-1].version, pythons, newest[-1].grade, len(releases))
