"""Which toolkit compiles, and what fills its gaps; and the ways out where there is none."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildkit.build.context import Context, WouldInstall
from buildkit.build.toolkit_place import ORIGIN, place_of
from buildkit.build.toolkit_wheels import find_installed, wheel_requirement
from buildkit.build.toolkits import install_wheel_toolkit, toolkits_here
from buildkit.errors import IncompleteToolkit, NotCached, NoToolkit
from buildkit.machine import compat, facts
from buildkit.machine.facts import TorchRelease, release_number
from buildkit.machine.installable import WHEEL_MAJORS, find_installable, from_wheels, nearest_release
from buildkit.machine.toolkit import Toolkit, read_toolkit
from buildkit.plan.request import Request

if TYPE_CHECKING:
    from buildkit.build.survey import Machine

_EXPLICIT = frozenset({"--cuda-home", "CUDA_HOME", "CUDA_PATH"})
"""Origins of a toolkit that a person named."""
_ANY_MAJOR = range(1, 100)


@dataclass(frozen=True)
class ToolkitChoice:
    """The toolkit that compiles, and those that fill its missing headers and libraries."""

    toolkit: Toolkit
    fill: tuple[Toolkit, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What is missing and filled, said before anything is compiled."""
        if not self.fill:
            return ()
        missing = ", ".join(self.toolkit.missing)
        return (f"the toolkit at {self.toolkit.root} lacks {missing}: filled from package-index wheels",)

    @property
    def identity(self) -> str:
        """Of everything that the view is made from."""
        return "+".join([self.toolkit.identity, *(other.identity for other in self.fill)])


def choose_toolkit(
    request: Request, cuda: str | None, machine: Machine, context: Context, *, torch: str = ""
) -> ToolkitChoice:
    """A toolkit of the major of ``cuda`` (that of ``torch``, a version), complete, or completed from wheels.

    Raises NoToolkit, IncompleteToolkit.
    """
    wanted = cuda or ""
    found = toolkits_here(request.cuda_home, context)
    if request.cuda_home is not None and found:
        compat.check_torch_toolkit(wanted, found[0].release)
        found = found[:1]
    fitting = preferred([toolkit for toolkit in found if _major(toolkit.release) == _major(wanted)], wanted)
    complete = [toolkit for toolkit in fitting if not toolkit.missing]
    if complete and (complete[0] is fitting[0] or not from_wheels(complete[0].release)):
        return ToolkitChoice(complete[0])
    if not fitting:
        none_here = no_toolkit(found, wanted, torch, machine.python.version, machine.gpus.driver)
        return ToolkitChoice(_wheels(wanted, machine, context, problem=none_here))
    partial = fitting[0]
    problem = IncompleteToolkit(
        f"the toolkit at {partial.root} (CUDA {partial.release}) lacks headers that torch includes",
        evidence=", ".join(partial.missing),
        hint=_completing(partial.release),
    )
    return ToolkitChoice(partial, (_wheels(partial.release, machine, context, problem=problem),))


def preferred(fitting: Sequence[Toolkit], wanted: str) -> list[Toolkit]:
    """The same toolkits, the one to take first first.

    One that was installed by `cudabuild toolkit install` and is of the very release that is wanted goes before those
    of another release that only happen to be here; never before one that a person named.
    """
    others_release = bool(fitting) and fitting[0].release != wanted and fitting[0].origin not in _EXPLICIT
    exact = [each for each in fitting if each.origin == ORIGIN and each.release == wanted] if others_release else []
    return [*exact, *(each for each in fitting if each not in exact)]


def refuse_without_toolkit(cuda: str, request: Request, machine: Machine, context: Context) -> None:
    """Raise NoToolkit where none of this CUDA's major is here nor to be had as wheels: before torch is fetched."""
    found = toolkits_here(request.cuda_home, context)
    if not from_wheels(cuda) and all(_major(toolkit.release) != _major(cuda) for toolkit in found):
        raise no_toolkit(found, cuda, request.torch or "", machine.python.version, machine.gpus.driver)


def no_toolkit(found: Sequence[Toolkit], wanted: str, torch: str, python: str, driver: str | None) -> NoToolkit:
    """None of this major is here. Both ways out: get one, or take a torch for what is here or can be had."""
    here = ", ".join(f"CUDA {toolkit.release} at {toolkit.root}" for toolkit in found) or "none"
    majors = {int(_major(toolkit.release)) for toolkit in found}
    other = other_torch(torch, majors or set(WHEEL_MAJORS), python, driver)
    which = "the toolkit here" if majors else "a toolkit that comes as wheels"
    return NoToolkit(
        f"torch is built for CUDA {wanted}, and no toolkit of that major version is here (found: {here})",
        hint=f"get this toolkit, no root needed: {_getting(wanted)}"
        + (f"; or take a torch for {which}: --torch {other}" if other else ""),
    )


def other_torch(torch: str, majors: Set[int], python: str, driver: str | None) -> str | None:
    """A torch ("2.8.0+cu126") for a toolkit of one of these CUDA majors that this driver runs.

    Of the same release if that has such a build, else the newest for this Python that has.
    """
    named = [torch.partition("+")[0]] if torch not in {"", "active"} else []
    for version in (*named, *compat.newest_torch(None, python, toolkit_majors=_ANY_MAJOR)):
        known = facts.torch_release(version)
        if known is not None and (cuda := _variant(known, majors, driver)):
            return f"{version}+cu{cuda.replace('.', '')}"
    return None


def _variant(known: TorchRelease, majors: Set[int], driver: str | None) -> str | None:
    """The CUDA of these majors that a torch release is built for and the driver runs: that of its default wheel, which
    every index has, else the newest."""
    fitting = [
        cuda
        for cuda in known.cuda_variants
        if release_number(cuda)[0] in majors and (driver is None or compat.driver_runs(driver, cuda))
    ]
    return known.default_cuda if known.default_cuda in fitting else max(fitting, key=release_number, default=None)


def _getting(cuda: str) -> str:
    """The command that brings a toolkit for this CUDA."""
    release = (cuda if find_installable(cuda) else nearest_release(cuda)) if cuda else None
    return f"`cudabuild toolkit install {release}`" if release else f"a CUDA {_major(cuda)}.x, with --cuda-home PATH"


def _completing(release: str) -> str:
    """What to do about a partial toolkit that is not filled from wheels."""
    if from_wheels(release):
        return (
            "install the missing libraries' development files, or let cudabuild fill them from wheels "
            "(it needs the package index once: `cudabuild fetch`)"
        )
    return f"get a whole one, no root needed: {_getting(release)}; or install the missing development files"


def _major(release: str) -> str:
    return release.partition(".")[0]


def _wheels(release: str, machine: Machine, context: Context, *, problem: NoToolkit | IncompleteToolkit) -> Toolkit:
    try:
        wheel_requirement(release)
    except NoToolkit:
        raise problem from None
    folder = place_of(release, context.places.toolkits).final
    context.hold(folder)
    if folder.is_dir():
        # Whether it is still what was installed is checked before it compiles anything: see check_shared.
        return read_toolkit(find_installed(folder), "wheels", context.memo)
    if not context.may_install:
        raise WouldInstall(f"the CUDA {release} toolkit would be installed from wheels")
    if context.offline:
        raise NotCached(
            problem.message + ", and --offline forbids making one from wheels",
            evidence=problem.evidence,
            hint="run `cudabuild fetch` with the same options where there is a network",
        )
    return install_wheel_toolkit(release, machine.python, context)
