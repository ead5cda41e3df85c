"""What is wrong with a recipe, in sentences that name the file, the line and the key.

Only reached when something is wrong, so nothing here needs to be fast.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from buildkit.errors import RecipeError
from buildkit.recipe.fields import MEANING
from buildkit.recipe.model import Recipe, Section
from buildkit.recipe.suggest import did_you_mean

if TYPE_CHECKING:
    from pydantic import ValidationError

Location = tuple[str | int, ...]

_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*([A-Za-z0-9_."' -]+?)\s*=""")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (``("version", 0, "rev")``) and what."""

    location: Location
    text: str


def recipe_error(path: Path, text: str, problems: Sequence[Problem]) -> RecipeError:
    """The error that lists every problem; the evidence is the line of the first."""
    shown, said = shown_path(path), located(path, text, problems)
    message = said[0] if len(said) == 1 else "\n".join([f"{shown}: {len(said)} problems", *said])
    first = next((line for problem in problems if (line := _line_of(text, problem.location))), None)
    return RecipeError(
        message,
        evidence=text.splitlines()[first - 1].strip() if first else "",
        hint=f"edit {shown}, then type: cudabuild recipes check {shlex.quote(path.parent.name)}",
    )


def located(path: Path, text: str, problems: Sequence[Problem]) -> list[str]:
    """Each problem behind its file, line and key; ``text`` is what the file holds."""
    shown = shown_path(path)
    lines = [_line_of(text, problem.location) for problem in problems]
    return [
        f"{shown}{f':{line}' if line else ''}: {dotted(problem.location)}{problem.text}"
        for problem, line in zip(problems, lines, strict=True)
    ]


def shown_path(path: Path) -> str:
    """The path as a person in this folder would write it."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links must stay as they were typed
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def dotted(location: Location) -> str:
    """``build.memory-per-unit: ``, ``version[0].rev: ``; nothing for the whole file."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return f"{text}: " if text else ""


def from_validation(error: ValidationError) -> tuple[Problem, ...]:
    """Pydantic's errors in our words, one for each place."""
    found: dict[Location, str] = {}
    for item in error.errors(include_url=False):
        location = _plain(item["loc"])
        found.setdefault(location, _in_words(item["type"], location, item))
    # A list whose only item is wrong is not empty.
    inner = {location[:-depth] for location in found for depth in range(1, len(location))}
    return tuple(Problem(location, text) for location, text in found.items() if location not in inner)


def _plain(location: Location) -> Location:
    """Without the marks that pydantic adds for a dictionary's keys and for the branches of a union."""
    if location[:2] == ("build", "config-settings"):
        return location[:3]
    return location[:-1] if location[-1:] == ("[key]",) else location


def _in_words(kind: str, location: Location, item: Any) -> str:
    value, context = item["input"], item.get("ctx", {})
    if location[:2] == ("build", "config-settings") and len(location) == 3:
        return "must be a text in quotes, a list of such texts, or true or false"
    if kind == "string_pattern_mismatch":
        return f"{value!r} is not {MEANING[context['pattern']]}"
    if kind == "extra_forbidden":
        return _unknown_key(location)
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        choices = context["expected"]
        return f"{value!r} is not one of {choices}{did_you_mean(str(value), re.findall('[a-z]+', choices))}"
    return _SIMPLE.get(kind, str(item["msg"]))


_SIMPLE = {
    "missing": "is missing",
    "string_type": "must be a text in quotes",
    "string_too_short": "must not be empty",
    "bool_type": "must be true or false, without quotes",
    "int_type": "must be a whole number, without quotes",
    "tuple_type": 'must be a list, such as ["one", "two"]',
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "too_short": "must not be empty",
}


def _unknown_key(location: Location) -> str:
    key = str(location[-1])
    inside = _section(location[:-1])
    known = _keys(inside)
    if near := did_you_mean(key, known):
        return f"unknown key{near}"
    if inside is not Recipe and key in _keys(Recipe):
        return "unknown key here; it belongs at the top of the file, before the first table"
    for name, section in _sections().items():
        if section is not inside and key in _keys(section):
            return f"unknown key here; it belongs under {name}"
    return f"unknown key (known here: {', '.join(known)})"


def _sections() -> dict[str, type[Section]]:
    named = {alias: _section((alias,)) for alias in _keys(Recipe)}
    marks = {"version": "[[version]]", "patch": "[[patch]]"}
    return {marks.get(alias, f"[{alias}]"): section for alias, section in named.items() if section is not None}


def _keys(section: type[Section] | None) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in section.model_fields.items()) if section else ()


def _section(location: Iterable[str | int]) -> type[Section] | None:
    """The model of the table at a place of the file."""
    section: type[Section] | None = Recipe
    for part in location:
        if isinstance(part, int) or section is None:
            continue
        annotations: list[Any] = [field.annotation for field in section.model_fields.values() if field.alias == part]
        candidates = [*annotations, *(one for annotation in annotations for one in get_args(annotation))]
        section = next((one for one in candidates if isinstance(one, type) and issubclass(one, Section)), None)
    return section


def _line_of(text: str, location: Location) -> int | None:
    """The line (from 1) where a key, or the table that should hold it, stands in the TOML text."""
    lines = _lines(text)
    for length in range(len(location), 0, -1):
        if location[:length] in lines:
            return lines[location[:length]]
    return None


@lru_cache(maxsize=1)
def _lines(text: str) -> dict[Location, int]:
    """Where each table and key begins; good enough for recipes (texts of several lines are not followed)."""
    found: dict[Location, int] = {}
    counts: dict[Location, int] = {}
    table: Location = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE.match(line):
            table = _parts(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                found.setdefault(table, number)
                table = (*table, counts[table])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            parts = _parts(key[1])
            for length in range(1, len(parts) + 1):
                found.setdefault((*table, *parts[:length]), number)
    return found


def _parts(key: str) -> Location:
    return tuple(part.strip().strip("\"'") for part in key.split("."))
