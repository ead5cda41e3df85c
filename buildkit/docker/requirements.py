"""What a person's requirement files say that matters to an image. Pure: they come as texts.

pip reads them once more while the image is built; here only what could never fit, or would not last, is refused.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from buildkit.errors import DependencyConflict, UsageError

_NESTED = re.compile(r"(?:-r|-c|--requirement|--constraint)(?:\s+|=|(?<=-[rc]))(?P<file>\S+)")
_EDITABLE = re.compile(r"(-e|--editable)[ =]")
_LOCAL = re.compile(r"(\.{0,2}/|\.{1,2}$|file:)")
_PLAIN = re.compile(r"[\w.+@/-]+")
"""Paths that mean themselves in a mount, in a shell and in a .dockerignore."""
_PER_LINE = re.compile(r"\s--(hash|config-settings|global-option)[ =].*$")
NOTEBOOKS = frozenset({"jupyter", "jupyterlab", "notebook"})


@dataclass(frozen=True)
class Line:
    """One requirement as it stands in a file: ``where`` is "requirements.txt:3"."""

    where: str
    text: str
    project: str
    specifier: SpecifierSet
    address: str = ""


@dataclass(frozen=True)
class Required:
    """What was read: the files, the one that was named first, and the requirements in all of them."""

    files: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def notebook(self) -> bool:
        """Whether a notebook server is among them."""
        return any(line.project in NOTEBOOKS for line in self.lines)

    def of(self, project: str) -> tuple[Line, ...]:
        """The lines on one project, by its normalised name."""
        return tuple(line for line in self.lines if line.project == project)

    def exact(self, project: str) -> str:
        """The version that one of the lines pins; empty where none does."""
        pins = (one.version for line in self.of(project) for one in line.specifier if one.operator in {"==", "==="})
        return next((pin for pin in pins if not pin.endswith(".*")), "")


def read_requirements(file: str, read: Callable[[str], str]) -> Required:
    """Read a file, by its path in the context, and those that it names; ``read`` gives their texts.

    Raises UsageError for what an image cannot have: editable and local projects, files outside of the context.
    """
    files: dict[str, None] = {}
    lines: list[Line] = []
    waiting = [_inside(file, file)]
    while waiting:
        name = waiting.pop(0)
        if name not in files:
            files[name] = None
            for number, text in _logical_lines(read(name)):
                where = f"{name}:{number}"
                if nested := _NESTED.match(text):
                    waiting.append(_inside(posixpath.join(posixpath.dirname(name), nested["file"]), where))
                elif line := _line(text, where):
                    lines.append(line)
    return Required(tuple(files), tuple(lines))


def _inside(path: str, where: str) -> str:
    normal = posixpath.normpath(path)
    if normal.startswith(("../", "/")) or normal == "..":
        raise UsageError(
            f"{path} lies outside of the image's context",
            evidence=where if where != path else "",
            hint="give --out the folder that holds it, or move it there",
        )
    if not _PLAIN.fullmatch(normal):
        raise UsageError(
            f"{path!r} cannot be named in a Dockerfile",
            evidence=where if where != path else "",
            hint="rename it: letters, digits, and . _ + @ / -",
        )
    return normal


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, continued ones joined, with the number of the first."""
    begun, start = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        start = start if begun else number
        begun += re.sub(r"(^|\s+)#.*$", "", raw)
        if begun.endswith("\\"):
            begun = begun[:-1]
            continue
        if begun.strip():
            yield start, begun.strip()
        begun = ""
    if begun.strip():
        yield start, begun.strip()


def _line(text: str, where: str) -> Line | None:
    """The requirement in a line; None for options, and for what only pip itself understands."""
    if _EDITABLE.match(text):
        raise UsageError(
            f"an image cannot have an editable installation: {text}",
            evidence=where,
            hint="take the line out, and at the Dockerfile's end copy the project and install it with --no-deps",
        )
    if _LOCAL.match(text):
        raise UsageError(
            f"a project on this disk is not in the image: {text}",
            evidence=where,
            hint="take the line out, and at the Dockerfile's end copy the project and install it with --no-deps",
        )
    if text.startswith("-"):
        return None
    try:
        found = Requirement(_PER_LINE.sub("", text).strip())
    except InvalidRequirement:
        return None
    return Line(where, text, canonicalize_name(found.name), found.specifier, found.url or "")


def check_against(required: Required, project: str, version: str, why: str) -> None:
    """Raise DependencyConflict, naming both sides, where a line leaves this version out. ``why`` says whose it is."""
    for line in required.of(project):
        if line.address or not line.specifier.contains(version, prereleases=True):
            raise DependencyConflict(
                f"{line.where} asks for {line.text}, and {why}",
                evidence=f"{line.where}: {line.text}",
                hint="change that line, or name a variant that fits it",
            )


def torch_for(required: Required, torch: str, why: str) -> str:
    """The torch to install: the one of the wheels, or the patch release of its series that the files pin.

    ``torch`` is ``2.13.0+cu130``. Raises DependencyConflict where the files ask for another series or another CUDA.
    """
    public, _, local = torch.partition("+")
    pinned, _, pinned_local = required.exact("torch").partition("+")
    same = _series(pinned) == _series(public) and pinned_local in {"", local}
    chosen = f"{_three(pinned)}+{local}" if pinned and same and local else torch
    check_against(required, "torch", chosen, why)
    return chosen


def _series(version: str) -> Sequence[str]:
    return version.split(".")[:2]


def _three(version: str) -> str:
    return version + ".0" * (2 - version.count("."))
