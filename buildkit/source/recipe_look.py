"""What of a recipe can be checked against its source: pins, patches, names of variables. Nothing of it is run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from buildkit.errors import CommitMissing, HashMismatch, NotCached, NotOnIndex, PatchFailed, SourceError, StoreError
from buildkit.process import ProgramFailed
from buildkit.progress import Reporter
from buildkit.recipe.conditions import may_apply
from buildkit.recipe.fields import Environment
from buildkit.recipe.loader import LoadedRecipe
from buildkit.recipe.model import Patch, Version
from buildkit.recipe.problems import Location, Problem
from buildkit.source.fetch import FetchedSource, fetch_source, project_root, unpack
from buildkit.source.git_refs import confirmed
from buildkit.source.index_settings import IndexSettings
from buildkit.source.patching import apply_patch
from buildkit.source.reading import read_source
from buildkit.source.spec import GitSpec, spec_of

_OF_TOOLS = re.compile(
    r"(CMAKE|SKBUILD|SETUPTOOLS|DISTUTILS|PIP|PYTHON|TORCH|NINJA|CARGO|GIT|PYBIND11|NVCC|CCACHE|OMP|MKL)_\w+|"
    r"CUDA_VISIBLE_DEVICES|(C|CXX|CPP|LD|CUDA|MAKE|AR)FLAGS|(C|LIBRARY|C_INCLUDE|CPLUS_INCLUDE)_?PATH|CPATH|SOURCE_DATE_EPOCH|VERBOSE"
)
"""Variables that compilers and build tools read: a package need not mention them."""
_NEEDLESS = "needless: the source has no need of it"


@dataclass
class Looked:
    """``problems`` make a recipe unsound; ``notes`` tell what was confirmed, what could not be, and what is odd."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Looker:
    """Where sources are looked for: in the cache under ``cache`` and, with ``online``, where recipes say."""

    cache: Path
    index: IndexSettings
    reporter: Reporter
    online: bool = False

    def look(self, loaded: LoadedRecipe) -> Looked:
        """Check a recipe that loads. Raises RecipeError for a version that names no source."""
        looked = Looked()
        unknown: list[set[str]] = []
        for index, version in enumerate(loaded.recipe.versions):
            spec = spec_of(version, loaded.folder)
            if self.online and isinstance(spec, GitSpec) and not self._confirm(index, spec, looked):
                continue
            source = self._source(index, version, loaded, looked)
            if source is not None:
                _patches(loaded, version, source, looked)
                unknown.append(_unknown_variables(loaded, source))
        if unknown:
            looked.notes += _strange(loaded, set.intersection(*unknown))
        return looked

    def _confirm(self, index: int, spec: GitSpec, looked: Looked) -> bool:
        """Whether it makes sense to go on: the repository has the commit."""
        location = ("version", index, "rev")
        try:
            refs = confirmed(spec.url, spec.rev, local=spec.local)
        except CommitMissing as error:
            looked.problems.append(Problem(location, f"{error.message} ({error.evidence})"))
            return False
        except (SourceError, ProgramFailed) as error:
            looked.notes.append(Problem(location, f"not confirmed here: {error.message} ({error.evidence})"))
            return True
        found = ", ".join(refs[:3]) or "the repository has it, and no branch or tag points to it"
        looked.notes.append(Problem(location, f"confirmed: {found}"))
        return True

    def _source(self, index: int, version: Version, loaded: LoadedRecipe, looked: Looked) -> FetchedSource | None:
        """The source, where it can be had; else why not."""
        location = ("version", index, "git" if version.git else "sdist" if version.sdist else "folder")
        try:
            return fetch_source(
                spec_of(version, loaded.folder),
                cache=self.cache,
                index=self.index,
                offline=not self.online,
                reporter=self.reporter,
            )
        except NotCached:
            if _has_something_to_check(loaded):
                said = "not checked here: the source is not in the cache (--online fetches it)"
                looked.notes.append(Problem(location, said))
        except (HashMismatch, NotOnIndex) as error:
            looked.problems.append(Problem(location, f"{error.message} ({error.evidence})"))
        except (SourceError, StoreError, ProgramFailed) as error:
            looked.notes.append(Problem(location, f"not checked here: {error.message}"))
        return None


def _has_something_to_check(loaded: LoadedRecipe) -> bool:
    return bool(loaded.recipe.patches or _variables(loaded))


def _patches(loaded: LoadedRecipe, version: Version, source: FetchedSource, looked: Looked) -> None:
    """Try each patch on top of those before it, then alone: two may share out the versions of torch."""
    wanted = [
        (index, patch)
        for index, patch in enumerate(loaded.recipe.patches)
        if may_apply(patch.when, {"version": version.version})
    ]
    if not wanted:
        return
    with tempfile.TemporaryDirectory(prefix="cudabuild-") as scratch:
        together = project_root(unpack(source, Path(scratch) / "together"), source)
        for index, patch in wanted:
            if _outcome(patch, loaded.folder, together) == "":
                continue
            alone = project_root(unpack(source, Path(scratch) / f"alone-{index}"), source)
            said = _outcome(patch, loaded.folder, alone)
            if said:
                place = Problem(("patch", index, "rewrite" if patch.rewrite else "file"), f"{version.version}: {said}")
                (looked.notes if said == _NEEDLESS else looked.problems).append(place)


def _outcome(patch: Patch, folder: Path, tree: Path) -> str:
    """Nothing for a patch that was applied; else why not."""
    try:
        return "" if apply_patch(tree, patch, folder).done else _NEEDLESS
    except PatchFailed as error:
        return error.message


def _variables(loaded: LoadedRecipe) -> dict[str, Location]:
    """Where a recipe sets each of its variables, those of tools left out."""
    build = loaded.recipe.build
    tables: dict[Location, Environment] = {
        ("build", "env"): build.env,
        ("build", "env-cuda"): build.env_cuda,
        ("build", "env-cpu"): build.env_cpu,
        **{("build", "env-when", index, "env"): more.env for index, more in enumerate(build.env_when)},
    }
    return {name: (*table, name) for table, names in tables.items() for name in names if not _OF_TOOLS.fullmatch(name)}


def _unknown_variables(loaded: LoadedRecipe, source: FetchedSource) -> set[str]:
    """Variables that no file of the source mentions."""
    wanted = _variables(loaded)
    texts = read_source(source).texts.values() if wanted else ()
    return {name for name in wanted if not any(name in text for text in texts)}


def _strange(loaded: LoadedRecipe, names: set[str]) -> Iterator[Problem]:
    for name, location in _variables(loaded).items():
        if name in names:
            yield Problem(location, "nothing in the source mentions it: is it spelled right?")
