"""``[matrix.github]``: what a person sets of the generated workflow."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from buildkit import __version__
from buildkit.machine.target import read_notation
from buildkit.recipe.fields import Duration

LIMIT = 6 * 3600
"""Seconds after which GitHub ends a job of its own runners."""
AFTER_BUILD = 20 * 60
"""Seconds of them that are for what comes after the build: ending it, saving the cache, uploading."""
BEFORE_BUILD = 20 * 60
"""And for what comes before: tools, the cache, torch's and the toolkit's installation."""


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _capability(value: str) -> str:
    target = read_notation(value)
    if target is None or target.ptx or target.suffix:
        raise ValueError(f"{value!r} is no compute capability, such as '12.0'")
    return str(target)


def _cron(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z*/,-]+( [0-9A-Za-z*/,-]+){4}", value):
        raise ValueError(f"{value!r} is no time of five fields, such as '17 3 * * 1'")
    return value


def _address(value: str) -> str:
    try:
        parts = urlsplit(value)
        user, _port = parts.username, parts.port
    except ValueError as error:
        raise ValueError(f"{value!r} is no address: {error}") from None
    if user is not None:
        raise ValueError("a login would stand in the committed workflow: store a token as a secret instead")
    return value


def _below_the_limit(value: int) -> int:
    if value > LIMIT - AFTER_BUILD - BEFORE_BUILD:
        raise ValueError("GitHub ends a job after 6 h, and 40 min of them are not for the build: at most '320 min'")
    return value


Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$", max_length=100)]
Capability = Annotated[str, AfterValidator(_capability)]
Address = Annotated[
    str,
    StringConstraints(pattern=r"^https?://[A-Za-z0-9][!#-&(-;=?-_a-z~]*$", max_length=400),
    AfterValidator(_address),
]
Requirement = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9./][ !#-&(-~]*$", max_length=400)]
Glob = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9*][A-Za-z0-9*._/+-]*$", max_length=100)]
Platform = Literal["linux_x86_64", "linux_aarch64"]
Glibc = Annotated[str, StringConstraints(pattern=r"^2\.[0-9]{2}$")]


class Table(BaseModel):
    """A table of the file: frozen, unknown keys refused, keys written with dashes."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_dashed, populate_by_name=True)


class Publish(Table):
    """Where the wheels go, with their verdicts where that is an index of ours."""

    to: Literal["cudabuild", "trusted"] = Field(
        "cudabuild",
        description="`cudabuild`: an index that `cudabuild serve` runs, with a token from the secret "
        "`CUDABUILD_TOKEN`. `trusted`: an index that trusts this repository's workflow (no secret at all).",
    )
    index: Address = Field(description="Its address for uploads, such as `https://wheels.example/legacy/`.")
    environment: Label = Field("wheels", description="The GitHub environment, whose rules hold for the job.")


class GithubSettings(Table):
    """What `cudabuild matrix github` writes its workflow from, beside the cells."""

    install: Requirement = Field(
        f"cudabuild=={__version__}",
        description="What pip installs cudabuild from: `cudabuild==VERSION`, `git+https://...@COMMIT`, an address of "
        "a wheel, or `.` for the repository's own.",
    )
    glibc: Glibc = Field("2.28", description="C library of the container: wheels run on every system that is as new.")
    checkpoint: Annotated[Duration, AfterValidator(_below_the_limit)] = Field(
        300 * 60,
        description="When a build that still runs is ended, kept and gone on with in the next round; at most "
        "`'320 min'`.",
    )
    rounds: int = Field(2, ge=1, le=5, strict=True, description="Rounds of a cell that one run of the workflow has.")
    parallel: int | None = Field(None, ge=1, le=256, strict=True, description="Build jobs at a time, at most.")
    runners: dict[Platform, Label] = Field(
        {}, description="Labels of other CPU runners than GitHub's own, by platform."
    )
    gpu_runners: dict[Capability, Annotated[tuple[Label, ...], Field(min_length=1)]] = Field(
        {},
        description="Labels of the runners with a GPU, by its compute capability: `{ '12.0' = ['self-hosted', "
        "'rtx5090'] }`. Every cell that runs there is proven there.",
    )
    schedule: Annotated[str, AfterValidator(_cron)] | None = Field(
        None, description="When it runs by itself, as cron's five fields (UTC); unset: when it is asked to."
    )
    tags: tuple[Glob, ...] = Field((), description="Tags whose push runs it and publishes.")
    publish: Publish | None = Field(None, description="Where the wheels go; unset: they stay artifacts. See below.")
