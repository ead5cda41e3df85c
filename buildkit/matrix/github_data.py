"""Commits of actions, images and runners that a workflow names, from ``data/github.toml``; and its scripts."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from buildkit.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_DATA = Path(__file__).parent / "data"
_ATOMIC = ConfigDict(frozen=True, extra="forbid")


class Action(BaseModel):
    """An action at one commit. ``confirmed``: by what it is known that the commit is the release; empty: by nothing."""

    model_config = _ATOMIC

    name: str
    release: str
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
    confirmed: str

    def uses(self, part: str = "") -> str:
        """As a step names it; ``part`` is an action inside, such as ``restore``."""
        return f"{self.name}{f'/{part}' if part else ''}@{self.commit}"


class Image(BaseModel):
    """A container to build in; ``python`` is that of its ``packages``, ``path`` where its newer compiler lies."""

    model_config = _ATOMIC

    glibc: str
    name: str
    installer: Literal["apt", "dnf"]
    python: str
    packages: tuple[str, ...]
    path: str = ""


class Runner(BaseModel):
    """A runner of GitHub's own for a platform."""

    model_config = _ATOMIC

    platform: str
    label: str


class _Data(BaseModel):
    model_config = _ATOMIC

    schema_: Literal[1] = Field(alias="schema")
    action: tuple[Action, ...]
    image: tuple[Image, ...]
    runner: tuple[Runner, ...]


@lru_cache(maxsize=1)
def _data() -> _Data:
    return _Data.model_validate(tomllib.loads((_DATA / "github.toml").read_text(encoding="utf-8")))


def actions() -> tuple[Action, ...]:
    """All that workflows use."""
    return _data().action


def action(name: str) -> Action:
    """The action of this name."""
    return next(each for each in actions() if each.name == name)


def image_of(glibc: str) -> Image:
    """The image with exactly this C library. Raises ConfigError with those that there are."""
    found = next((each for each in _data().image if each.glibc == glibc), None)
    if found is None:
        known = ", ".join(f"{each.glibc} ({each.name})" for each in _data().image)
        raise ConfigError(f"[matrix.github] glibc: no image with {glibc} is known", hint=f"write one of {known}")
    return found


def runner_of(platform: str) -> str:
    """The label of GitHub's own runner for a platform. Raises ConfigError where there is none."""
    found = next((each.label for each in _data().runner if each.platform == platform), None)
    if found is None:
        known = ", ".join(each.platform for each in _data().runner)
        raise ConfigError(f"GitHub has no runner for {platform}", hint=f"it has some for {known}")
    return found


def script(name: str) -> str:
    """The bash of one step."""
    return (_DATA / "github" / f"{name}.sh").read_text(encoding="utf-8")
