"""What the service is set to: ``[service]`` of the configuration file, CUDABUILD_SERVICE_* variables, options.

Pure. The commands read the file and hand the table over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from buildkit.errors import ConfigError
from buildkit.recipe.quantities import parse_duration, parse_size
from buildkit.recipe.suggest import did_you_mean

PREFIX = "CUDABUILD_SERVICE_"
OnStop = Literal["keep", "requeue", "end"]


def _names(value: object) -> object:
    return tuple(re.split(r"[\s,]+", value.strip().lower())) if isinstance(value, str) else value


def _seconds(value: object) -> object:
    return float(parse_duration(value, zero=True)) if isinstance(value, str) else value


def _bytes(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _database(value: object) -> object:
    """A URL that SQLAlchemy understands, of a database that this is tested with."""
    if not isinstance(value, str):
        return value
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):  # the latter of a port that is no number
        raise ValueError("write sqlite:////FOLDER/FILE or postgresql://USER@HOST/NAME") from None
    if url.get_backend_name() not in {"sqlite", "postgresql"}:
        raise ValueError("it is a database of SQLite or PostgreSQL")
    if url.get_backend_name() == "sqlite" and (url.host or url.database in {None, "", ":memory:"}):
        raise ValueError("it names no file: write sqlite:////FOLDER/FILE")
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return url.render_as_string(hide_password=False)


Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_names)]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]


class ServiceSettings(BaseModel):
    """Resolved; unset fields have their defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-"),
                              populate_by_name=True)  # fmt: skip

    database: Annotated[str, BeforeValidator(_database)] | None = Field(
        None, description="URL of the database; unset: SQLite, `service/service.db` in the cache."
    )
    slots: int = Field(2, ge=0, le=1000, description="Builds at once; 0: this server only answers.")
    on_stop: OnStop = Field("keep", description="What becomes of running builds when the server is ended.")
    hosts: Names = Field((), description="More names by which the service is reached: a proxy's, for example.")
    git_hosts: Names = Field(
        ("github.com", "gitlab.com"), description="Hosts that sources which came with a request may lie on."
    )
    lease: Seconds = Field(20.0, description="How long a worker that gives no sign keeps its builds.")
    retries: int = Field(2, ge=0, le=20, description="How often a build is tried again after network, kill or restart.")
    retry_delay: Seconds = Field(30.0, description="Time until the first retry after a network failure; it doubles.")
    rate: int = Field(200, ge=1, description="Requests a second and client, over ten seconds.")
    body_limit: Annotated[int, BeforeValidator(_bytes)] = Field(
        1 << 20, ge=1024, description="Largest body of an API request."
    )
    queue_limit: int = Field(10_000, ge=1, description="Builds that may wait.")
    followers: int = Field(500, ge=1, description="Live logs that are followed at once.")

    def url(self, cache: Path) -> str:
        """The database's URL; SQLite's own file below ``cache`` where none was named."""
        return self.database or f"sqlite:///{cache / 'service' / 'service.db'}"


def read_service_settings(
    table: Mapping[str, Any], environ: Mapping[str, str], options: Mapping[str, Any], where: str
) -> ServiceSettings:
    """Options (those that are not None or empty) over variables over the table. Raises ConfigError, located."""
    named = {_variable(name): name for name in ServiceSettings.model_fields}
    typed = {name: value for name, value in options.items() if value not in (None, ())}
    layers: list[tuple[str, dict[str, Any]]] = [
        (f"{where}: [service] ", {name.replace("-", "_"): value for name, value in table.items()}),
        (PREFIX, {named[v]: text.strip() for v, text in environ.items() if v in named and text.strip()}),
        ("--", typed),
    ]
    merged: dict[str, Any] = {}
    for prefix, layer in layers:
        _check(layer, prefix)
        merged |= layer
    return ServiceSettings.model_validate(merged)


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _spelled(prefix: str, name: str) -> str:
    return _variable(name) if prefix == PREFIX else f"{prefix}{name.replace('_', '-')}"


def _check(layer: Mapping[str, Any], prefix: str) -> None:
    try:
        ServiceSettings.model_validate(dict(layer))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]  # an input may hold a password
        name = str(first["loc"][0])
        text = first["msg"].removeprefix("Value error, ")
        known = [field.replace("_", "-") for field in ServiceSettings.model_fields]
        if first["type"] == "extra_forbidden":
            text = f"there is no such setting{did_you_mean(name.replace('_', '-'), known)}"
        hint = f"the settings of the service are {', '.join(known)}"
        raise ConfigError(f"{_spelled(prefix, name)}: {text}", hint=hint) from None
