"""What there is of toolkits, for people: those here and what each lacks; where one is, for a shell; taking one away."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from buildkit.build.context import Context
from buildkit.build.toolkit_archives import downloaded, forget_downloads, recorded_version
from buildkit.build.toolkit_place import ORIGIN, ToolkitPlace, remove_made
from buildkit.build.toolkit_view import make_view
from buildkit.build.toolkit_wheels import find_installed
from buildkit.build.toolkits import archive_source, made_place
from buildkit.errors import NoCompiler, NoToolkit, UsageError
from buildkit.machine.compiler import find_host_compiler
from buildkit.machine.facts import release_number
from buildkit.machine.installable import from_wheels, installable, typed_version
from buildkit.machine.toolkit import Toolkit, find_toolkits, read_toolkit
from buildkit.store.in_use import InUse, claimed
from buildkit.store.locks import LockBusy


@dataclass(frozen=True)
class Listed:
    """A toolkit that is here. ``version`` is its nvcc's; ``made``: by cudabuild, so that it can be taken away.

    ``missing`` are headers that torch's own include; ``problem`` says what is wrong with its files.
    """

    release: str
    version: str
    path: Path
    origin: str
    made: bool
    missing: tuple[str, ...] = ()
    problem: str = ""

    @property
    def complete(self) -> bool:
        """Whether an extension can be built with it as it is."""
        return not self.missing and not self.problem


def list_toolkits(context: Context, notes: list[str] | None = None) -> list[Listed]:
    """Those of the machine, in the order in which builds prefer them, then those that cudabuild made, newest first.

    ``notes`` hears of places that should hold a toolkit and do not, and of a cache that cannot be read.
    """
    notes = [] if notes is None else notes
    ours = (context.places.toolkits, context.places.views)
    found = [
        toolkit
        for toolkit in find_toolkits(context.environ, None, context.memo, notes=notes)
        # One of ours that CUDA_HOME or PATH names is listed as ours.
        if not any(Path(os.path.realpath(toolkit.nvcc)).is_relative_to(os.path.realpath(place)) for place in ours)
    ]
    return [
        *(_listed(toolkit) for toolkit in found),
        *(_listed_made(place, context) for place in _made(context, notes)),
    ]


def home_of(typed: str, context: Context) -> Path:
    """What CUDA_HOME has to be for a release ("12.8"): of a toolkit here, a complete one before others.

    One from wheels gets a view that has what build systems expect of a toolkit. Raises NoToolkit, EnvironmentChanged.
    """
    release, exact = _told(typed)
    place = made_place(release, context)
    fitting = [each for each in list_toolkits(context) if each.release == release and not each.made]
    # A complete one of the machine needs no cache, not even one that can be read.
    if not any(each.complete for each in fitting) and place.final.exists():
        _refuse_other(exact, place)
        return made_home(release, context)
    if not fitting:
        raise NoToolkit(
            f"no CUDA {release} toolkit is here", hint=f"cudabuild toolkit install {release}   # no root needed"
        )
    return next((each for each in fitting if each.complete), fitting[0]).path


def unfinished(context: Context, notes: list[str]) -> dict[str, int]:
    """By release the bytes that installations which were ended have left; ``notes`` as in :func:`list_toolkits`."""
    source = archive_source(context)
    try:
        return {each.release: downloaded(source, each.release) for each in installable() if each.origin == ORIGIN}
    except OSError as error:
        _tell_unreadable(error, context, notes)
        return {}


def made_home(release: str, context: Context) -> Path:
    """The same of the toolkit of a release that cudabuild made. EnvironmentChanged if that is damaged."""
    place = made_place(release, context)
    if (problem := place.problem()) is not None:
        raise problem
    return _view(place, context) if from_wheels(release) else place.final


def uninstall(typed: str, context: Context) -> int:
    """Take away a toolkit that cudabuild made, and what was left of its downloads; returns the bytes set free.

    NoToolkit where there is none of ours.
    """
    release, exact = _told(typed)
    place, source = made_place(release, context), archive_source(context)
    _refuse_other(exact, place)
    size = _size(place.final) + downloaded(source, release)
    if not place.final.exists() and not size:
        others = [each.path for each in list_toolkits(context) if each.release == release]
        raise NoToolkit(
            f"cudabuild has installed no CUDA {release} toolkit",
            evidence=f"the one at {others[0]} is not of its making" if others else "",
            hint="`cudabuild toolkit list` shows what is here",
        )
    try:
        with claimed(context.places.in_use, place.final):
            remove_made(place, context.reporter)
    except InUse as reason:
        hint = f"wait for it, or end it: then `cudabuild toolkit uninstall {release}`"
        raise LockBusy(f"CUDA {release} is {reason}", hint=hint) from None
    forget_downloads(source, release)
    shutil.rmtree(_view_folder(release, context), ignore_errors=True)
    return size


def release_of(typed: str) -> str:
    """``12.8`` of ``12.8`` or ``12.8.1``. UsageError for anything else."""
    return _told(typed)[0]


def _told(typed: str) -> tuple[str, str | None]:
    """The release, and the exact version where one was typed."""
    told = typed_version(typed)
    if told is None:
        raise UsageError(f"{typed!r} is no version of CUDA", hint="write it like 12.8; see `cudabuild toolkit list`")
    return told


def _refuse_other(exact: str | None, place: ToolkitPlace) -> None:
    """NoToolkit where an exact version was typed and the one that is there is another."""
    here = recorded_version(place.final)
    if here is not None and exact not in {None, here}:
        raise NoToolkit(
            f"CUDA {exact} is not here: of CUDA {place.release}, {here} is",
            hint=f"write {place.release} to mean that one, or `cudabuild toolkit install {exact}` to replace it",
        )


def _made(context: Context, notes: list[str]) -> list[ToolkitPlace]:
    """Every place of a toolkit that cudabuild made, newest first."""
    folder = context.places.toolkits
    try:
        found = [re.fullmatch(r"cuda-(\d+\.\d+)", entry.name) for entry in os.scandir(folder) if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        _tell_unreadable(error, context, notes)
        return []
    releases = [name[1] for name in found if name]
    releases.sort(key=release_number, reverse=True)
    return [made_place(release, context) for release in releases]


def _tell_unreadable(error: OSError, context: Context, notes: list[str]) -> None:
    """Once, however often it is met."""
    note = (
        f"the cache {context.places.cache} cannot be read ({error.strerror}), so what cudabuild installed is not "
        "listed: set CUDABUILD_CACHE to a folder of your own"
    )
    if note not in notes:
        notes.append(note)


def _listed(toolkit: Toolkit) -> Listed:
    return Listed(
        toolkit.release, toolkit.version, toolkit.root, toolkit.origin, made=False, missing=tuple(toolkit.missing)
    )


def _listed_made(place: ToolkitPlace, context: Context) -> Listed:
    origin = "wheels" if from_wheels(place.release) else ORIGIN
    changed = place.problem()
    problem = changed.evidence if changed else ""
    try:
        toolkit = read_toolkit(_root(place), origin, context.memo)
    except NoToolkit as error:
        return Listed(place.release, "", place.final, origin, made=True, problem=problem or error.message)
    return Listed(
        toolkit.release,
        toolkit.version,
        toolkit.root,
        origin,
        made=True,
        missing=tuple(toolkit.missing),
        problem=problem,
    )


def _root(place: ToolkitPlace) -> Path:
    """Where bin and include lie: wheels put them deeper."""
    return find_installed(place.final) if from_wheels(place.release) else place.final


def _view(place: ToolkitPlace, context: Context) -> Path:
    compiler = None
    with suppress(NoCompiler):
        compiler = find_host_compiler(context.environ, context.memo).path
    toolkit = read_toolkit(_root(place), "wheels", context.memo)
    with place.locked(context.reporter):
        return make_view(toolkit, [], _view_folder(place.release, context), compiler=compiler)


def _view_folder(release: str, context: Context) -> Path:
    return context.places.views / f"cuda-{release}"


def _size(folder: Path) -> int:
    return sum(os.lstat(file).st_size for file in _files(folder))


def _files(folder: Path) -> Iterator[str]:
    for top, _folders, names in os.walk(folder):
        yield from (os.path.join(top, name) for name in names)  # noqa: PTH118 - thousands of them
