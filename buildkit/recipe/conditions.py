"""The conditions of a patch: ``torch >= 2.12 and (gcc == 14.* or device == "cpu")``.

The grammar is that of packaging's markers (``and``, ``or``, parentheses, comparisons) over our own
variables, which packaging's parser does not know; values may stand without quotes. The variable stands on
the left. Versions are ordered as packaging orders them, and a local part (``+cu130``) is left out. Unlike
in a requirement, ``torch < 2.14`` and ``torch >= 2.14`` exclude each other also for pre-releases, so that
two patches can share out all versions. A variable that is absent (``cuda`` of a CPU-only torch) differs
from everything: only ``!=`` holds.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from buildkit.errors import RecipeError
from buildkit.recipe.suggest import did_you_mean

if TYPE_CHECKING:
    from packaging.version import Version

VERSION_VARIABLES = ("torch", "cuda", "python", "gcc", "version")
VARIABLES = (*VERSION_VARIABLES, "device")

_ORDER: dict[str, Callable[[Version, Version], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OPERATORS = (*_ORDER, "==", "!=", "~=")
_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>[()])|(?P<operator>===|<=|>=|==|!=|~=|<|>|=)"""
    r"""|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<word>[^\s()<>=!~"']+))"""
)
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})*((a|b|rc)[0-9]{1,9})?(\.post[0-9]{1,9})?(\.dev[0-9]{1,9})?")
_MAX_DEPTH = 50


@dataclass(frozen=True)
class Comparison:
    """One variable against one value."""

    variable: str
    operator: str
    value: str


@dataclass(frozen=True)
class AllOf:
    """Holds where every part does; with no parts it always holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class AnyOf:
    """Holds where one part does."""

    parts: tuple[Condition, ...]


Condition = Comparison | AllOf | AnyOf


def applies(when: str, values: Mapping[str, str]) -> bool:
    """Whether the condition holds for these values; an empty one always does.

    ``values`` maps names of :data:`VARIABLES` to a version (``{"torch": "2.13.0+cu130", "cuda": "13.0",
    "python": "3.11", "gcc": "12.2.0", "version": "0.1.4", "device": "cuda"}``); what is missing or empty
    is absent. Raises RecipeError for an expression that does not parse.
    """
    return _holds(parse_condition(when), values)


def may_apply(when: str, values: Mapping[str, str]) -> bool:
    """Whether the condition can hold where only these values are known; RecipeError as for :func:`applies`."""
    return _may_hold(parse_condition(when), values)


@lru_cache(maxsize=256)
def parse_condition(when: str) -> Condition:
    """The condition as a tree; RecipeError says what is wrong and what can be written."""
    tokens = _tokens(when)
    if not tokens:
        return AllOf(())
    parser = _Parser(when, tokens)
    condition = parser.any_of()
    if parser.rest():
        raise _bad(when, f"{parser.rest()[0]!r} was not expected here: join comparisons with 'and' or 'or'")
    return condition


class _Parser:
    """Recursive descent over ``or``, ``and``, parentheses, comparison."""

    def __init__(self, when: str, tokens: list[tuple[str, str]]) -> None:
        self._when = when
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def rest(self) -> list[str]:
        return [text for _, text in self._tokens[self._next :]]

    def _take(self, wanted: str) -> str:
        if self._next == len(self._tokens):
            raise _bad(self._when, f"it ends where {wanted} was expected")
        self._next += 1
        return self._tokens[self._next - 1][1]

    def _accept(self, kind: str, text: str) -> bool:
        if self._next < len(self._tokens) and self._tokens[self._next] == (kind, text):
            self._next += 1
            return True
        return False

    def any_of(self) -> Condition:
        parts = [self.all_of()]
        while self._accept("word", "or"):
            parts.append(self.all_of())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def all_of(self) -> Condition:
        parts = [self.one()]
        while self._accept("word", "and"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def one(self) -> Condition:
        if not self._accept("mark", "("):
            return self.comparison()
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _bad(self._when, "its parentheses are nested too deeply")
        inside = self.any_of()
        if not self._accept("mark", ")"):
            raise _bad(self._when, "a parenthesis is not closed")
        self._depth -= 1
        return inside

    def comparison(self) -> Condition:
        variable = self._take("a variable")
        if variable not in VARIABLES:
            known = f"the variables are {', '.join(VARIABLES)}, and stand on the left"
            raise _bad(self._when, f"{variable!r} is no variable{did_you_mean(variable, VARIABLES)} ({known})")
        sign = self._take("a comparison")
        if sign not in _OPERATORS:
            raise _bad(self._when, f"{sign!r} is no comparison (they are {' '.join(_OPERATORS)})")
        kind = self._tokens[self._next][0] if self._next < len(self._tokens) else ""
        value = self._take("a value")
        if kind not in {"word", "value"}:
            raise _bad(self._when, f"{value!r} stands where a value was expected")
        self._check_value(variable, sign, value)
        return Comparison(variable, sign, value)

    def _check_value(self, variable: str, sign: str, value: str) -> None:
        if variable == "device":
            if sign not in {"==", "!="} or value not in {"cuda", "cpu"}:
                raise _bad(self._when, "device can only be == or != cuda or cpu")
            return
        release = value.removesuffix(".*") if sign in {"==", "!="} else value
        if _VERSION.fullmatch(release) is None:
            where = " (an ending .* goes with == and != only)" if value.endswith(".*") else ""
            raise _bad(self._when, f"{value!r} is no version{where}")
        if sign == "~=" and "." not in value:
            raise _bad(self._when, f"~= needs a version of two parts or more, such as {value}.0")


def _tokens(when: str) -> list[tuple[str, str]]:
    found = []
    position = 0
    text = when.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _bad(when, f"{text[position:].strip()!r} cannot be read")
        kind = match.lastgroup or ""
        found.append(("value" if kind in {"double", "single"} else kind, match[kind]))
        position = match.end()
    return found


def _holds(condition: Condition, values: Mapping[str, str]) -> bool:
    if isinstance(condition, AllOf):
        return all(_holds(part, values) for part in condition.parts)
    if isinstance(condition, AnyOf):
        return any(_holds(part, values) for part in condition.parts)
    have = values.get(condition.variable, "")
    if not have:
        return condition.operator == "!="
    if condition.variable == "device":
        return (have == condition.value) == (condition.operator == "==")
    return _version_holds(have, condition)


def _may_hold(condition: Condition, values: Mapping[str, str]) -> bool:
    if isinstance(condition, AllOf):
        return all(_may_hold(part, values) for part in condition.parts)
    if isinstance(condition, AnyOf):
        return any(_may_hold(part, values) for part in condition.parts)
    return condition.variable not in values or _holds(condition, values)


def _version_holds(have: str, condition: Comparison) -> bool:
    from packaging.specifiers import Specifier
    from packaging.version import InvalidVersion, Version

    try:
        version = Version(Version(have).public)
    except InvalidVersion as error:
        raise RecipeError(f"{condition.variable} is {have!r} here, which is no version", evidence=str(error)) from error
    if condition.operator in _ORDER:
        return _ORDER[condition.operator](version, Version(condition.value))
    return Specifier(condition.operator + condition.value).contains(version, prereleases=True)


def _bad(when: str, problem: str) -> RecipeError:
    return RecipeError(
        f"the condition {when!r} cannot be read: {problem}",
        evidence=when,
        hint="write for example: torch >= 2.12 and python < 3.14",
    )
