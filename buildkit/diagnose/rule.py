"""The rules: what a line of a log says, and what to do about it. Data in ``rules/*.toml``, read when asked for."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "rules"
CANARY = "canary"
"""The file of rules that hold in the canary's log only."""

Stage = Literal["fetch", "environment", "configure", "compile", "link", "install", "import", "run", "any"]

_QUOTE = "['\"\u2018\u2019\u201c\u201d`]"
"""What ``<q>`` stands for in a pattern: the quotation marks of compilers, in and out of UTF-8."""


@dataclass(frozen=True)
class Rule:
    """One cause, and the lines that show it.

    A line counts that holds one of ``text``, and in which ``pattern`` (if there is one) is found and ``forbidden`` is
    not. Around it, at most ``reach`` lines away, each of ``near`` must be found; anywhere in the log, one of
    ``anywhere``. ``cause`` and ``hint`` may use the groups of ``pattern``.
    """

    id: str
    text: tuple[str, ...]
    cause: str
    hint: str
    kind: str = "build-failed"
    """The kind of the error that a failed build is told as."""
    stage: Stage = "any"
    rank: int = 50
    """Of several causes in a log the one with the lowest number is shown first."""
    pattern: re.Pattern[str] | None = None
    forbidden: re.Pattern[str] | None = None
    near: tuple[re.Pattern[str], ...] = ()
    reach: int = 8
    anywhere: tuple[str, ...] = ()
    warnings: bool = False
    """Whether a warning, a note or a line of CMake's report counts: most say what a build got by without."""
    after: int = 0
    """Lines behind the one that counts which belong to the evidence."""
    consequence_of: tuple[str, ...] = ()
    """Rules whose cause, where it is found as well, stands before this one's whatever the ranks."""
    links: tuple[str, ...] = ()
    provoked: bool = True
    """Whether its log in the tests was produced by real tools; else ``source`` says where the text is from."""
    source: str = ""


@cache
def rules() -> tuple[Rule, ...]:
    """All rules but the canary's, lowest rank first."""
    files = sorted(path for path in FOLDER.glob("*.toml") if path.stem != CANARY)
    return tuple(sorted((rule for path in files for rule in read_rules(path)), key=lambda rule: rule.rank))


@cache
def canary_rules() -> tuple[Rule, ...]:
    """The rules for the canary's log."""
    return read_rules(FOLDER / f"{CANARY}.toml")


def read_rules(path: Path) -> tuple[Rule, ...]:
    """The rules of one file. Raises ValueError for keys that are none."""
    return tuple(_rule(entry) for entry in tomllib.loads(path.read_text("utf-8"))["rule"])


def _rule(entry: Mapping[str, Any]) -> Rule:
    renamed = {"not": "forbidden"}
    given = {renamed.get(key, key.replace("-", "_")): value for key, value in entry.items()}
    unknown = given.keys() - {field.name for field in fields(Rule)}
    if unknown or given.get("stage") not in get_args(Stage):
        raise ValueError(f"rule {entry.get('id')}: {', '.join(sorted(unknown)) or 'no such stage'}")
    for name in ("pattern", "forbidden"):
        if name in given:
            given[name] = _compiled(given[name])
    given["near"] = tuple(_compiled(pattern) for pattern in given.get("near", ()))
    for name in ("text", "anywhere", "consequence_of", "links"):
        given[name] = tuple(given.get(name, ()))
    return Rule(**given)


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace("<q>", _QUOTE))
