"""What people set once: the configuration file and the CUDABUILD_* variables.

An option wins over a variable, a variable over the file, the file over the default.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from buildkit.errors import ConfigError, CudabuildError, UsageError
from buildkit.plan.request import MOST_JOBS, parse_torch
from buildkit.progress import Reporter, Silent
from buildkit.recipe.quantities import parse_duration, parse_size
from buildkit.recipe.suggest import did_you_mean, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "CUDABUILD_"
CONFIG_VARIABLE = "CUDABUILD_CONFIG"
_OTHER_NAMES = ("CONTAINMENT", "GIT_HOSTS", "GUARD", "INSECURE_DASK", "NODE_CACHE", "TOKEN")
OTHERS = frozenset({CONFIG_VARIABLE, *(f"{PREFIX}{name}" for name in _OTHER_NAMES)})
"""Variables that are no settings: they cannot stand in the file."""
TABLES = ("matrix", "service")
"""Tables of the file, read by the commands that they are for."""
_SERVICE = f"{PREFIX}SERVICE_"
"""How the variables of one of them begin."""


def _spelled(name: str) -> str:
    """A field as the file spells it."""
    return name.replace("_", "-")


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _torch(value: object) -> object:
    return parse_torch(value) if isinstance(value, str) else value


def _count(value: object) -> object:
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value) else value


def _targets(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _switch(value: object) -> object:
    from buildkit.guard.switch import on_or_off

    return value if isinstance(value, bool) else on_or_off(str(value))


def _address(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", value):
        raise ValueError("write an address such as https://host.example/folder")
    return value.rstrip("/") if isinstance(value, str) else value


def _names(value: object) -> object:
    return tuple(re.split(r"[\s,]+", value.strip())) if isinstance(value, str) else value


Bytes = Annotated[int, BeforeValidator(_size), Field(gt=0, strict=True)]
Seconds = Annotated[int, BeforeValidator(_duration), Field(gt=0, strict=True)]
Count = Annotated[int, BeforeValidator(_count), Field(gt=0, le=MOST_JOBS, strict=True)]
Switch = Annotated[bool, BeforeValidator(_switch), Field(strict=True)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Torch = Annotated[str, BeforeValidator(_torch)]
Address = Annotated[str, BeforeValidator(_address)]
PublicKey = Annotated[str, StringConstraints(pattern=r"^ed25519:[A-Za-z0-9+/]{43}=$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(=[^\x00]*)?$")]


_HINT = "see `cudabuild build --help` for what is understood"
_HINTS = {
    "defer": "'off' is what --no-defer does; unset, it is 'on'",
    "store": "write a folder, or an address such as https://cache.example",
    "trusted-keys": "a key looks like ed25519:AAAA...=; `cudabuild cache key show` prints one's own",
    "toolkit-archives": "it is the folder that holds redistrib_12.8.1.json; unset, it is NVIDIA's own",
}


class Settings(BaseModel):
    """What was set anywhere; None or empty where nothing was. ``memory`` in bytes, ``timeout`` in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_spelled)

    cache: Path | None = Field(None, description="Folder of the cache.")
    memory: Bytes | None = Field(None, description="Memory that builds may use, such as '8 GiB'.")
    jobs: Count | None = Field(None, description="Compilations at once, at most.")
    targets: Annotated[tuple[Text, ...], BeforeValidator(_targets)] = Field(
        (), description="Targets where none are typed, such as '8.6;12.0+PTX'."
    )
    torch: Torch | None = Field(None, description="'active', or a torch version.")
    recipes: Path | None = Field(None, description="Folder of recipes that is looked in first.")
    store: Text | None = Field(
        None,
        description="A store that is asked for wheels that are not here: another cudabuild's cache or export, or "
        "its address.",
    )
    trusted_keys: Annotated[tuple[PublicKey, ...], BeforeValidator(_names)] = Field(
        (), description="Public keys (`cudabuild cache key show`) whose stores and exports are believed."
    )
    timeout: Seconds | None = Field(None, description="Longest time for a build, such as '30 min'.")
    defer: Switch | None = Field(
        None, description="'off': compile one file after the other where the package does so (`--no-defer`)."
    )
    pass_env: Annotated[tuple[Variable, ...], BeforeValidator(_names)] = Field(
        (), description="Variables that the build may see: NAME, or NAME=VALUE."
    )
    toolkit_archives: Address | None = Field(
        None,
        description="Address of NVIDIA's archives of CUDA 11.8 to 12.9 (the folder of `redistrib_12.8.1.json`), or of "
        "a copy of them; unset: NVIDIA's own.",
    )
    server: Address | None = Field(None, description="Address of a server that builds in this machine's place.")
    tokens: Path | None = Field(
        None, description="File of the tokens of `cudabuild serve`; unset: `tokens.json` beside the configuration file."
    )
    upload_names: Annotated[tuple[Text, ...], BeforeValidator(_names)] = Field(
        (), description="Names that `cudabuild serve` takes uploads of, beside those of its recipes."
    )


def load_settings(
    environ: Mapping[str, str],
    *,
    options: Mapping[str, object] | None = None,
    cwd: Path | None = None,
    reporter: Reporter | None = None,
) -> Settings:
    """Everything that was set, merged. ``options`` are the typed ones by field name (None and () mean not typed).

    Raises ConfigError (file, variable; located) or UsageError (option). A CUDABUILD_* variable that is not
    known is warned about: it may be another version's.
    """
    here = cwd or Path.cwd()
    typed = {_spelled(name): value for name, value in (options or {}).items() if value is not None and value != ()}
    layers = [
        _from_file(here / config_file(environ), environ),
        _from_variables(environ, here, reporter or Silent()),
        _checked(typed, here, environ, _option, UsageError),
    ]
    merged: dict[str, Any] = {}
    for layer in layers:
        merged |= {name: getattr(layer, name) for name in layer.model_fields_set}
    return Settings.model_construct(set(merged), **merged)


def config_file(environ: Mapping[str, str]) -> Path:
    """``$CUDABUILD_CONFIG``, or ``config.toml`` in the person's configuration folder."""
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    return _xdg(environ, "XDG_CONFIG_HOME", ".config") / "cudabuild" / "config.toml"


def signing_key(environ: Mapping[str, str]) -> Path:
    """The private key that exports and served stores are signed with: beside the configuration file."""
    return config_file(environ).parent / "signing-key.pem"


def tokens_file(settings: Settings, environ: Mapping[str, str]) -> Path:
    """The file of an index's tokens: the one that was set, else the one beside the configuration file."""
    return settings.tokens or config_file(environ).with_name("tokens.json")


def cache_folder(settings: Settings, environ: Mapping[str, str]) -> Path:
    """The cache: the one that was set, else the person's own."""
    return settings.cache or _xdg(environ, "XDG_CACHE_HOME", ".cache") / "cudabuild"


def variables() -> dict[str, str]:
    """Every CUDABUILD_* variable that is understood, to what it sets."""
    described = {_variable(name): field.description or "" for name, field in Settings.model_fields.items()}
    return {CONFIG_VARIABLE: "The configuration file.", **described}


def _from_file(path: Path, environ: Mapping[str, str]) -> Settings:
    document = read_toml(path, required=bool(environ.get(CONFIG_VARIABLE)))
    values = {name: value for name, value in document.items() if name not in TABLES}
    for name in {"memory", "timeout"} & values.keys():
        if isinstance(values[name], (int, float)):
            values[name] = str(values[name])  # so that a number without a unit is refused as such
    return _checked(values, path.parent, environ, lambda name: f"{path}: {name}", ConfigError)


def read_toml(path: Path, *, required: bool) -> dict[str, Any]:
    """The configuration file as it stands; empty where there is none and none is ``required``. Raises ConfigError."""
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if not required:
            return {}
        hint = f"unset {CONFIG_VARIABLE}, or write the file"
        raise ConfigError(f"{path}: there is no such file", evidence=str(error), hint=hint) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read", evidence=str(error), hint=f"check `ls -l {path}`") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}", hint='settings look like: memory = "8 GiB"') from error
    return document


def _from_variables(environ: Mapping[str, str], cwd: Path, reporter: Reporter) -> Settings:
    known = {_variable(name): _spelled(name) for name in Settings.model_fields}
    found: dict[str, object] = {}
    for variable, value in sorted(environ.items()):
        if variable in known and value.strip():
            found[known[variable]] = value.strip()
        elif (
            variable.startswith(PREFIX) and variable not in known.keys() | OTHERS and not variable.startswith(_SERVICE)
        ):
            reporter.warn(f"{variable} is not a variable of cudabuild{_nearest_variable(variable)}")
    return _checked(found, cwd, environ, _variable, ConfigError)


def _checked(
    values: Mapping[str, object],
    folder: Path,
    environ: Mapping[str, str],
    where: Callable[[str], str],
    cause: type[CudabuildError],
) -> Settings:
    """One layer of settings; its paths are relative to ``folder``. ``where`` says in which words a name is located."""
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            known = [_spelled(field) for field in Settings.model_fields]
            text = f"there is no such setting{did_you_mean(name, known)}"
            raise cause(f"{where(name)}: {text}", hint=f"the settings are {', '.join(known)}") from None
        text = first["msg"].removeprefix("Value error, ")
        shown = "" if first["type"] == "value_error" else f" (it is {first['input']!r})"
        raise cause(f"{where(name)}: {text}{shown}", hint=_HINTS.get(name, _HINT)) from None
    paths: dict[str, Any] = {
        name: _absolute(path, folder, environ)
        for name in ("cache", "recipes", "tokens")
        if (path := getattr(settings, name))
    }
    if settings.store and "://" not in settings.store:
        paths["store"] = str(_absolute(Path(settings.store), folder, environ))
    return settings.model_copy(update=paths)


def _absolute(path: Path, folder: Path, environ: Mapping[str, str]) -> Path:
    if path.parts[:1] == ("~",):
        path = _home(environ).joinpath(*path.parts[1:])
    return Path(os.path.normpath(folder / path))


def _xdg(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    """A folder of the XDG base directory specification, which says to ignore relative ones."""
    named = Path(environ.get(variable, ""))
    return named if named.is_absolute() else _home(environ) / below_home


def _home(environ: Mapping[str, str]) -> Path:
    if home := environ.get("HOME"):
        return Path(home)
    try:
        return Path.home()
    except RuntimeError as error:
        raise ConfigError(
            "this user has no home folder", evidence=str(error), hint=f"set {PREFIX}CACHE to a folder for the cache"
        ) from None


def _variable(name: str) -> str:
    return PREFIX + name.replace("-", "_").upper()


def _nearest_variable(variable: str) -> str:
    # Without the prefix, which makes all of them look alike.
    names = {name.removeprefix(PREFIX) for name in variables()}
    found = [PREFIX + name for name in nearest(variable.removeprefix(PREFIX), sorted(names), limit=1)]
    return f"; did you mean {found[0]}?" if found else ""


def _option(name: str) -> str:
    return "--target" if name == "targets" else f"--{name}"
