"""What installers left in site-packages: half-removed packages, interrupted uninstalls, UNKNOWN, files of nobody."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.build.installed_scan import Installation, interrupted, own_folders, ownerless, stem_of
from buildkit.build.package import normalised
from buildkit.machine.interpreter import Interpreter
from buildkit.verify.installed import Finding
from buildkit.verify.installed_mend import Mender, Origin, remove

UNKNOWN = "unknown"
"""What setuptools before 61 called a project whose name stands in pyproject.toml."""


@dataclass(frozen=True)
class Leftover:
    """Something that is no whole package, under the name that it has or had."""

    name: str
    version: str
    finding: Finding

    def belongs_to(self, name: str) -> bool:
        """Whether it was once this distribution (pip replaces the first letters when it takes one away)."""
        own = normalised(self.name)
        return own == normalised(name) or (self.name[:1] in "~-" and normalised(name).endswith(own))


def find_leftovers(
    python: Interpreter,
    found: Sequence[Installation],
    *,
    judged: Collection[str],
    known: Collection[str],
    recipes: Mapping[str, Path],
    uv: str,
) -> list[Leftover]:
    """Everything of that kind in the environment's own folders.

    ``judged`` packages are looked at by themselves; ``known`` are top-level names that belong to torch.
    """
    folders = own_folders(python)
    own = [each for each in found if each.site in folders]
    left = [leftover for each in own if (leftover := _of_installation(each, judged, python, uv)) is not None]
    for folder in folders:
        left += _interrupted(folder)
        left += [_ownerless(path, recipes, python) for path in ownerless(folder, found, known)]
    return left


def _of_installation(each: Installation, judged: Collection[str], python: Interpreter, uv: str) -> Leftover | None:
    mender = Mender(Origin(each.name, each.version), str(python.prefix), uv)
    name, version = each.name, each.version
    if name == UNKNOWN:
        what = "left by a build that did not know its own name (setuptools before 61): what it was for is not installed"
        command = mender.uninstall() if (each.info / "RECORD").is_file() else remove([str(each.info)])
        return Leftover("UNKNOWN", version, Finding("unknown-leftover", "error", what, str(each.info), command))
    if not each.sound:
        what = "half-removed: its metadata has no name or version any more, which confuses every installer"
        return Leftover(name, version, Finding("half-removed", "error", what, str(each.info), remove([str(each.info)])))
    if name not in judged and _gone(each):
        what = "half-removed: its metadata is there and none of its files is"
        return Leftover(name, version, Finding("half-removed", "error", what, str(each.info), mender.uninstall()))
    return None


def _gone(each: Installation) -> bool:
    """Whether it lists files and none of them is there; the metadata's own and byte code do not count."""
    if each.info.suffix != ".dist-info":
        return False
    listed = [file for file in each.files if Path(file).parts[0] != each.info.name and not file.endswith(".pyc")]
    return bool(listed) and not any((each.site / file).exists() for file in listed)


def _interrupted(folder: Path) -> Iterator[Leftover]:
    what = "left by an uninstall that was interrupted"
    for path in interrupted(folder):
        name, version = stem_of(path) if path.suffix in {".dist-info", ".egg-info"} else (path.name, "")
        finding = Finding("interrupted-uninstall", "warning", what, str(path), remove([str(path)]))
        yield Leftover(name, version, finding)


def _ownerless(path: Path, recipes: Mapping[str, Path], python: Interpreter) -> Leftover:
    name = path.name.split(".")[0]
    command = remove([str(path)])
    if normalised(name) in recipes:
        again = Mender(Origin(name, "", recipe=normalised(name)), str(python.prefix)).rebuild()
        command = f"{command} && {again}"
    what = "compiled code that belongs to no installed package: no installer knows its version, or removes it"
    return Leftover(name, "", Finding("ownerless-files", "warning", what, str(path), command))
