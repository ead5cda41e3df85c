"""Reading recipes: a file into a checked :class:`LoadedRecipe`, a name into the first folder that has it."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from buildkit.errors import RecipeError, UnknownRecipe, UsageError
from buildkit.recipe.checks import problems_of
from buildkit.recipe.fields import NAME_PATTERN
from buildkit.recipe.model import EDITION, Patch, Recipe
from buildkit.recipe.problems import Problem, from_validation, recipe_error, shown_path
from buildkit.recipe.suggest import did_you_mean, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "recipe.toml"


@dataclass(frozen=True)
class LoadedRecipe:
    """A checked recipe, the folder it lies in, and what its files hold.

    ``sha256`` is over recipe.toml, every patch and the probe; ``files`` maps each patch's and the probe's
    name to the SHA-256 of its bytes.
    """

    recipe: Recipe
    folder: Path
    sha256: str
    files: Mapping[str, str]

    def patch_sha256(self, patch: Patch) -> str:
        """The hash of what a patch of it does: of the diff's bytes, or of what is replaced where."""
        if patch.rewrite is None:
            return self.files[patch.file or ""]
        return hashlib.sha256(patch.rewrite.model_dump_json(by_alias=True).encode()).hexdigest()


@dataclass(frozen=True)
class Listed:
    """A recipe that was found: readable (``loaded``), or not and why (``problem``)."""

    name: str
    folder: Path
    loaded: LoadedRecipe | None
    problem: RecipeError | None


def load_recipe(path: Path) -> LoadedRecipe:
    """Read and check one recipe, given by its folder or its recipe.toml.

    Raises RecipeError with every problem of the file, each with its line and key.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - the folder's name counts as it was typed, not as linked
    file = path if path.name == FILE and not path.is_dir() else path / FILE
    return check_recipe(file, *_read(file))


def check_recipe(file: Path, content: bytes, text: str) -> LoadedRecipe:
    """The same for what is, or will be, written into ``file``: its bytes, and their text."""
    raw = _parse(file, text)
    _check_edition(file, text, raw)
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise recipe_error(file, text, from_validation(error)) from None
    if problems := tuple(problems_of(recipe, file.parent)):
        raise recipe_error(file, text, problems)
    named = {name for name in (recipe.verify.probe, *(patch.file for patch in recipe.patches)) if name}
    files = {name: _sha256(file.parent / name) for name in sorted(named)}
    whole = hashlib.sha256(hashlib.sha256(content).digest())
    for name, digest in files.items():
        whole.update(f"{name}\0{digest}\0".encode())
    return LoadedRecipe(recipe, file.parent, whole.hexdigest(), files)


def bundled_recipes() -> Path:
    """The folder of the recipes that come with cudabuild: in the installed wheel, or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_share" / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def search_path(recipes: Path | None, cwd: Path, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where recipes are looked up, in order: ``--recipes DIR``, ./recipes, the user's, the bundled ones.

    UsageError if ``recipes`` was given and is no folder; the others may be absent.
    """
    if recipes is not None and not (cwd / recipes).is_dir():
        raise UsageError(
            f"--recipes {recipes}: there is no such folder", hint="give a folder that holds NAME/recipe.toml"
        )
    given = [] if recipes is None else [cwd / recipes]
    candidates = [*given, cwd / "recipes", *_user_recipes(environ), bundled_recipes()]
    found: dict[Path, Path] = {}
    for folder in candidates:
        found.setdefault(folder.resolve(), folder)
    return tuple(found.values())


def find_recipe(name: str, folders: Sequence[Path]) -> LoadedRecipe:
    """The recipe of this name in the first folder that has one.

    Raises UnknownRecipe, with the nearest names and the folders that were looked in, or RecipeError.
    """
    if re.match(NAME_PATTERN, name):
        for folder in folders:
            if _is_file(folder / name / FILE):
                return load_recipe(folder / name)
    known = recipe_names(folders)
    if name in known and not re.match(NAME_PATTERN, name):
        return load_recipe(known[name])  # which says what is wrong with the name
    near = nearest(name, known)
    raise UnknownRecipe(
        f"there is no recipe {name!r}{did_you_mean(name, known)}",
        evidence="looked in " + ", ".join(shown_path(folder) for folder in folders),
        hint=f"cudabuild {near[0]}" if near else "cudabuild recipes list",
    )


def recipe_names(folders: Sequence[Path]) -> dict[str, Path]:
    """The names of all recipes, sorted, with the folder of the one that is used; nothing is read."""
    found: dict[str, Path] = {}
    for folder in folders:
        for entry in _entries(folder):
            if _is_file(entry / FILE):
                found.setdefault(entry.name, entry)
    return dict(sorted(found.items()))


def list_recipes(folders: Sequence[Path]) -> tuple[Listed, ...]:
    """All recipes by name; one that cannot be read is listed with its problem and hides none of the others."""
    return tuple(_listed(name, folder) for name, folder in recipe_names(folders).items())


def _listed(name: str, folder: Path) -> Listed:
    try:
        return Listed(name, folder, load_recipe(folder), None)
    except RecipeError as error:
        return Listed(name, folder, None, error)


def _user_recipes(environ: Mapping[str, str]) -> list[Path]:
    configured = environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(configured):  # noqa: PTH117 - an empty text is no path; relative ones are to be ignored
        return [Path(configured) / "cudabuild" / "recipes"]
    home = environ.get("HOME", "")
    return [Path(home) / ".config" / "cudabuild" / "recipes"] if home else []


def _read(file: Path) -> tuple[bytes, str]:
    try:
        content = file.read_bytes()
        return content, content.decode("utf-8-sig")
    except OSError as error:
        raise RecipeError(
            f"{shown_path(file)}: cannot be read: {error.strerror}", hint="cudabuild recipes list"
        ) from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise RecipeError(f"{shown_path(file)}:{line}: is not UTF-8 text", evidence=str(error)) from error


def _parse(file: Path, text: str) -> dict[str, Any]:
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        lines = text.splitlines()
        number = int(place[1]) if place else len(lines)  # without a place it is the end of the file
        where = f":{number}:{place[2] if place else len(lines[-1]) + 1 if lines else 1}"
        problem = re.sub(r" \(at [^)]*\)$", "", str(error))
        raise RecipeError(
            f"{shown_path(file)}{where}: is not TOML: {problem[:1].lower()}{problem[1:]}",
            evidence=lines[number - 1].strip() if 0 < number <= len(lines) else "",
            hint=f"edit {shown_path(file)}: texts stand in quotes, keys before '=', tables in [brackets]",
        ) from error
    except RecursionError as error:
        raise RecipeError(f"{shown_path(file)}: is nested too deeply") from error
    return raw


def _check_edition(file: Path, text: str, raw: Mapping[str, Any]) -> None:
    edition = raw.get("edition")
    if type(edition) is int and edition == EDITION:
        return
    if type(edition) is int and edition > EDITION:
        raise RecipeError(
            f"{shown_path(file)}: edition: the recipe is written in edition {edition}, "
            f"and this cudabuild reads edition {EDITION}",
            evidence=f"edition = {edition}",
            hint="upgrade cudabuild: pip install --upgrade cudabuild",
        )
    said = "is missing" if edition is None else f"{edition!r} is no edition"
    raise recipe_error(file, text, [Problem(("edition",), f"{said}: the first line must be: edition = {EDITION}")])


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise RecipeError(f"{shown_path(file)}: cannot be read: {error.strerror}") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
