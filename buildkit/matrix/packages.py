"""What the words of a matrix mean: recipes as they are found, folders, index names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildkit.build.package import folder_name, index_name
from buildkit.errors import ConfigError, UsageError
from buildkit.recipe.loader import LoadedRecipe, find_recipe
from buildkit.recipe.model import BuildSection
from buildkit.recipe.selection import choose_version

_UNKNOWN = BuildSection.model_validate({})


@dataclass(frozen=True)
class Wanted:
    """One package and version of a matrix."""

    recipe: str
    """What `cudabuild build` takes, without a version."""
    version: str
    """Empty: the source's own."""
    name: str
    """The recipe's name; of what has none the project's, or the index name."""
    folder: Path | None = None
    """Where the recipe or the project lies."""
    sha256: str = ""
    """Hash of the recipe's files; empty without a recipe."""
    torch: bool = True
    cpu: bool = True
    has_probe: bool = False
    memory_per_unit: int = _UNKNOWN.memory_per_unit
    timeout: float = float(_UNKNOWN.timeout)
    known: bool = True
    """Whether there is a recipe, whose answers these are."""


def find_packages(words: Iterable[str], folders: Sequence[Path], cwd: Path) -> dict[str, tuple[Wanted, ...]]:
    """What each word of a matrix's recipes stands for. Raises UnknownRecipe, RecipeError, ConfigError.

    ``folders``: where recipes are looked up, as :func:`buildkit.recipe.loader.search_path` has them; ``cwd``: what
    projects' folders are relative to.
    """
    return {word: _meant(word, folders, cwd) for word in dict.fromkeys(words)}


def _meant(word: str, folders: Sequence[Path], cwd: Path) -> tuple[Wanted, ...]:
    if word.startswith("pypi:"):
        name, version = _index_name(word)
        return (Wanted(f"pypi:{name}", version, name, known=False),)
    if "/" in word or word in {".", ".."}:
        folder = cwd / word
        if not folder.is_dir():
            hint = "give a recipe's name, a project's folder, or pypi:NAME==VERSION"
            raise ConfigError(f"matrix.recipes: {word} is not a folder", evidence=f"looked for {folder}", hint=hint)
        return (Wanted(word, "", folder_name(folder), folder.resolve(), known=False),)
    name, _, version = word.partition("==")
    loaded = find_recipe(name, folders)
    if version == "*":
        return tuple(_of_recipe(loaded, one.version) for one in loaded.recipe.versions)
    return (_of_recipe(loaded, choose_version(loaded.recipe, version or None).version),)


def _index_name(word: str) -> tuple[str, str]:
    try:
        return index_name(word)
    except UsageError as error:
        raise ConfigError(f"matrix.recipes: {error.message}", hint=error.hint) from None


def _of_recipe(loaded: LoadedRecipe, version: str) -> Wanted:
    recipe = loaded.recipe
    return Wanted(
        recipe.name,
        version,
        recipe.name,
        loaded.folder,
        loaded.sha256,
        torch=recipe.build.torch,
        cpu=recipe.build.cpu,
        has_probe=recipe.verify.probe is not None,
        memory_per_unit=recipe.build.memory_per_unit,
        timeout=float(recipe.build.timeout),
    )


def by_recipe(packages: Mapping[str, Sequence[Wanted]]) -> dict[tuple[str, str], Wanted]:
    """The packages by what cells name them by: recipe and version."""
    return {(one.recipe, one.version): one for found in packages.values() for one in found}
