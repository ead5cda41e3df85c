"""What the service knows beside its builds: which wheel fits a machine, recipes by variants, recipes, workers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from buildkit.errors import UnknownRecipe, UsageError
from buildkit.index.lines import lines_for
from buildkit.index.settings import GRADES
from buildkit.index.variants import build_command, nearest, read_variant
from buildkit.machine.target import Target, known_notation, read_notation
from buildkit.recipe.loader import find_recipe, list_recipes
from buildkit.recipe.owned import names_of
from buildkit.service.answers import (
    CellAnswer,
    MatrixAnswer,
    MatrixRow,
    RecipeAnswer,
    RecipeList,
    ResolveAnswer,
    WorkerAnswer,
    WorkerList,
)
from buildkit.service.queue import Row
from buildkit.service.rows import failing_step
from buildkit.store.release import Release

if TYPE_CHECKING:
    from buildkit.service.service import Service

_TORCH = re.compile(r"(?P<release>\d+\.\d+)(?:\.[0-9a-z.]+)?(?:\+(?P<local>cu\d{3}|cpu))?")
_PYTHON = re.compile(r"(?:cp)?(?P<major>3)\.?(?P<minor>\d{1,2})")
MOST_LOOKED_AT = 500
"""Newest builds that the matrix knows of."""


@dataclass(frozen=True)
class Wanted:
    """A machine's torch (``2.13.0+cu130``), Python (``3.11`` or ``cp311``), platform tag and target; None: any."""

    torch: str | None
    python: str | None
    platform: str | None
    target: str | None


@dataclass(frozen=True)
class _Asked:
    """The same, read."""

    release: str
    local: str
    python: str
    platform: str
    target: Target | None


def resolve(service: Service, recipe: str, wanted: Wanted) -> ResolveAnswer:
    """The best wheel that fits: the furthest proven of the newest version. Raises UnknownRecipe, UsageError."""
    asked = _read(wanted)
    names = _names(service, recipe)
    shelf = service.shelf()
    found: list[tuple[str, Release]] = []
    variants: set[str] = set()
    for variant, projects in shelf.variants.items():
        for name in names & projects.keys():
            variants.add(variant)
            found += [(variant, release) for release in projects[name] if _fits(release, asked)]
    path = _path(asked)
    near = sorted(variants & {path}) + nearest(path or next(iter(variants), ""), variants, len(variants))
    best = max(found, key=lambda pair: _rank(pair[1]), default=None)
    common = {"recipe": recipe, "torch": wanted.torch, "python": wanted.python, "platform": wanted.platform}
    if best is None:
        command = build_command(recipe, path, shelf.torches()) or f"cudabuild {recipe}"
        return ResolveAnswer(**common, found=False, variant=path or None, grade=None, wheel=None, version=None,
                             targets=[wanted.target] if wanted.target else [], command=command,
                             variants=near)  # fmt: skip
    variant, release = best
    lines = lines_for(service.base, variant, f"{release.project}=={release.version}", upstream=service.upstream)
    return ResolveAnswer(**common, found=True, variant=variant, grade=release.grade,
                         wheel=service.wheel(release.filename, release.sha256, release.size),
                         version=release.version, targets=list(release.targets), command=lines.pip,
                         variants=near)  # fmt: skip


def _names(service: Service, recipe: str) -> set[str]:
    """The distributions that a recipe's wheels may be. Raises UnknownRecipe where nothing here has that name."""
    own = {str(canonicalize_name(recipe))}
    try:
        return own | {str(canonicalize_name(name)) for name in names_of(find_recipe(recipe, service.recipes_in).recipe)}
    except UnknownRecipe:
        if service.shelf().where(next(iter(own))):
            return own
        raise


def _read(wanted: Wanted) -> _Asked:
    torch = _TORCH.fullmatch(wanted.torch or "")
    if wanted.torch and torch is None:
        raise UsageError(f"{wanted.torch!r} is no torch version", hint="write 2.13.0+cu130")
    python = _PYTHON.fullmatch(wanted.python or "")
    if wanted.python and python is None:
        raise UsageError(f"{wanted.python!r} is no Python", hint="write 3.11 or cp311")
    target = None
    if wanted.target:
        target = read_notation(wanted.target.removeprefix("sm_"))
        if target is None:
            raise UsageError(f"{wanted.target!r} is no target", hint="write 12.0 or 8.9+PTX")
    tag = f"cp{python['major']}{python['minor']}" if python else ""
    release, local = (torch["release"], torch["local"] or "") if torch else ("", "")
    return _Asked(release, local, tag, wanted.platform or "", target)


def _fits(release: Release, asked: _Asked) -> bool:
    torch = _TORCH.fullmatch(release.torch)
    if release.yanked or (asked.release and torch is not None and torch["release"] != asked.release):
        return False
    if asked.local and release.device != ("cpu" if asked.local == "cpu" else "cuda"):
        return False
    if asked.local.startswith("cu") and release.cuda and release.cuda.replace(".", "") != asked.local[2:]:
        return False
    if asked.python and release.python not in {asked.python, "py3"}:
        return False
    if asked.platform and not _platform(release.filename, asked.platform):
        return False
    return asked.target is None or _has_code(release, asked.target)


def _platform(filename: str, asked: str) -> bool:
    """Whether a wheel is for a platform: its tag, or its CPU (``x86_64``) where that is all that is said."""
    tags = filename.removesuffix(".whl").rpartition("-")[2].split(".")
    return any(tag == asked or tag.endswith(f"_{asked.removeprefix('linux_')}") or tag == "any" for tag in tags)


def _has_code(release: Release, target: Target) -> bool:
    """Whether device code for a target is there, by its own name."""
    held = {str(known_notation(text)).removesuffix("+PTX") for text in release.targets}
    return release.device == "cuda" and str(target).removesuffix("+PTX") in held


def _path(asked: _Asked) -> str:
    """The index path of what was asked for; empty where too little was."""
    if not asked.release or not asked.local:
        return ""
    path = f"pt{asked.release}-{asked.local}"
    return path if read_variant(path) is not None else ""


def _rank(release: Release) -> tuple[Version, int, str]:
    try:
        version = Version(release.version.partition("+")[0])
    except InvalidVersion:
        version = Version("0")
    grade = GRADES.index(release.grade) if release.grade in GRADES else 0
    return version, grade, release.created


# The matrix


def matrix(service: Service) -> MatrixAnswer:
    """Recipes by variants: each cell's newest wheel, and the newest build that is not behind it."""
    shelf = service.shelf()
    variants = set(shelf.variants)
    releases: dict[str, dict[str, list[Release]]] = {}
    projects = _projects(service)
    for variant, found in shelf.variants.items():
        for project, listed in found.items():
            releases.setdefault(projects.get(project, project), {}).setdefault(variant, []).extend(listed)
    builds: dict[str, dict[str, Row]] = {}
    for row in service.queue.newest_first(limit=MOST_LOOKED_AT):
        variant = cell_of(row)
        variants.add(variant)
        builds.setdefault(row["recipe"], {}).setdefault(variant, row)
    rows = []
    for recipe in sorted(releases.keys() | builds.keys()):
        held, asked = releases.get(recipe, {}), builds.get(recipe, {})
        cells = [_cell(variant, held.get(variant, []), asked.get(variant)) for variant in sorted(held.keys() | asked)]
        rows.append(MatrixRow(recipe=recipe, cells=cells))
    return MatrixAnswer(variants=sorted(variants), rows=rows)


def _projects(service: Service) -> dict[str, str]:
    """Which recipe a distribution's name belongs to."""
    found: dict[str, str] = {}
    for listed in list_recipes(service.recipes_in):
        for name in names_of(listed.loaded.recipe) if listed.loaded else ():
            found.setdefault(str(canonicalize_name(name)), listed.name)
    return found


def cell_of(row: Row) -> str:
    """The variant that a build is for, as far as is known: its wheel's or plan's, else what was asked for."""
    plan = (row["plan"] or {}).get("plan") or {}
    torch = _TORCH.fullmatch(str(plan.get("torch") or row["request"].get("torch") or ""))
    device = (row["plan"] or {}).get("device") or row["request"].get("device")
    if torch is None:
        return "cpu" if device == "cpu" else "not planned"
    local = "cpu" if device == "cpu" else torch["local"] or "cuda"
    return f"pt{torch['release']}-{local}"


def _cell(variant: str, releases: Sequence[Release], row: Row | None) -> CellAnswer:
    best = max(releases, key=_rank, default=None)
    pythons = sorted({release.python for release in releases if best and release.version == best.version})
    return CellAnswer(
        variant=variant,
        grade=best.grade if best else None,
        version=best.version if best else None,
        filename=best.filename if best else None,
        created=best.created if best else None,
        pythons=pythons,
        build=row["id"] if row else None,
        status=row["status"] if row else None,
        error=(row["error"] or {}).get("kind") if row else None,
        step=failing_step(row["error"]) if row else None,
    )


# Recipes and workers


def recipes(service: Service) -> RecipeList:
    """What can be built here; recipes that cannot be read are left out."""
    grades: dict[str, str] = {}
    for projects in service.shelf().variants.values():
        for name, releases in projects.items():
            grades[name] = max(releases, key=_rank).grade
    found = []
    for listed in list_recipes(service.recipes_in):
        if listed.loaded is None:
            continue
        recipe = listed.loaded.recipe
        own = (grades[name] for each in names_of(recipe) if (name := str(canonicalize_name(each))) in grades)
        found.append(
            RecipeAnswer(
                name=recipe.name,
                summary=recipe.summary,
                versions=[version.version for version in recipe.versions],
                license=recipe.license.spdx,
                redistributable=recipe.license.redistributable,
                status=recipe.status,
                grade=next(own, None),
            )
        )
    return RecipeList(recipes=found)


def workers(
    listed: Iterable[Row], running: Mapping[str, list[str]], counts: Mapping[str, int], lease: float
) -> WorkerList:
    """The workers of the last day."""
    now = time.time()
    return WorkerList(
        workers=[
            WorkerAnswer(
                id=row["id"],
                host=row["host"],
                pid=row["pid"],
                slots=row["slots"],
                running=sorted(running.get(row["id"], [])),
                started=row["started"],
                seen=datetime.fromtimestamp(row["seen"], timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                alive=now - row["seen"] < lease,
            )
            for row in listed
        ],
        queued=counts.get("queued", 0),
        running=counts.get("running", 0),
    )
