"""The toolkits of this machine, those that cudabuild made included; making one, by release, wherever it comes from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.build.context import Context
from buildkit.build.toolkit_place import ORIGIN, ToolkitPlace, place_of
from buildkit.build.toolkit_wheels import ensure_wheel_toolkit
from buildkit.errors import EnvironmentChanged, NoToolkit
from buildkit.machine.identity import identity_or_none
from buildkit.machine.installable import Installable, find_installable, from_wheels, installable
from buildkit.machine.interpreter import Interpreter
from buildkit.machine.place import jetson_release
from buildkit.machine.toolkit import Toolkit, find_toolkits, read_toolkit

if TYPE_CHECKING:
    from buildkit.build.toolkit_archives import Source


def toolkits_here(cuda_home: Path | None, context: Context) -> list[Toolkit]:
    """Every toolkit that a build may take as it is, the preferred one first, each once.

    Those of the machine, as :func:`find_toolkits` has them, then those put together from archives, newest first.
    The ones from wheels are not among them: they are made when a build needs them. NoToolkit for a ``cuda_home``
    that holds none.
    """
    return with_archives(find_toolkits(context.environ, cuda_home, context.memo), context)


def with_archives(found: list[Toolkit], context: Context) -> list[Toolkit]:
    """The machine's toolkits, and behind them those from archives that are not among them."""
    known = {os.path.realpath(toolkit.nvcc) for toolkit in found}
    made = (toolkit for toolkit in _from_archives(context) if os.path.realpath(toolkit.nvcc) not in known)
    return [*found, *made]


def _from_archives(context: Context) -> Iterator[Toolkit]:
    """Those that `cudabuild toolkit install` has put together; ones that do not run are passed over."""
    for place in _archive_places(context):
        with contextlib.suppress(NoToolkit):  # a damaged one: `cudabuild toolkit list` says so
            yield read_toolkit(place.final, ORIGIN, context.memo)


def damaged_toolkits(context: Context) -> dict[Path, EnvironmentChanged]:
    """Of the same those that are no longer what was installed, by ``Toolkit.root``. One ``stat`` a file."""
    found = {place.final.resolve(): place.problem() for place in _archive_places(context)}
    return {folder: problem for folder, problem in found.items() if problem is not None}


def _archive_places(context: Context) -> Iterator[ToolkitPlace]:
    for each in installable():
        # Each by its name, and not by listing their folder, so that a receipt depends on no other toolkit.
        place = made_place(each.release, context)
        if each.origin == ORIGIN and identity_or_none(place.final) is not None:
            context.hold(place.final)
            yield place


def made_place(release: str, context: Context) -> ToolkitPlace:
    """Where cudabuild puts the toolkit of a release."""
    return place_of(release, context.places.toolkits)


def install_toolkit(release: str, python: Interpreter, context: Context) -> Toolkit:
    """A toolkit that cudabuild made, checked against its manifest, made again where need be."""
    if from_wheels(release):
        return install_wheel_toolkit(release, python, context)
    return install_archive_toolkit(find_installable(release) or Installable(release, ORIGIN), context)


def install_wheel_toolkit(release: str, python: Interpreter, context: Context) -> Toolkit:
    """The toolkit of this release from wheels, checked against its manifest, installed (again) where need be.

    NoToolkit on a Jetson.
    """
    _refuse_jetson()
    context.hold(made_place(release, context).final)
    installer = context.installer()
    return ensure_wheel_toolkit(
        release,
        folder=context.places.toolkits,
        install=lambda requirements, folder: installer.install_into(folder, requirements, python=python.executable),
        memo=context.memo,
        reporter=context.reporter,
    )


def install_archive_toolkit(asked: Installable, context: Context) -> Toolkit:
    """The same from archives; ``asked`` says of which version."""
    from buildkit.build.toolkit_archives import ensure_archive_toolkit

    _refuse_jetson()
    context.hold(made_place(asked.release, context).final)
    return ensure_archive_toolkit(
        asked, archive_source(context), context.places.toolkits, context.memo, context.reporter
    )


def _refuse_jetson() -> None:
    if jetson_release():
        raise NoToolkit(
            "a Jetson works with the toolkit of its own JetPack only",
            hint="sudo apt-get install nvidia-jetpack   # then --cuda-home /usr/local/cuda",
        )


def archive_source(context: Context) -> Source:
    """Where archives come from, by this command's settings."""
    from buildkit.build.toolkit_archives import Source
    from buildkit.source.redist import ADDRESS

    context.hold(context.places.downloads)
    return Source(context.archives or ADDRESS, context.index, context.places.downloads, offline=context.offline)
