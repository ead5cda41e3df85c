"""Tables of the configuration file, which are read by the commands that they are for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildkit.cli.settings import CONFIG_VARIABLE, config_file, read_toml
from buildkit.errors import ConfigError


def table(name: str, environ: Mapping[str, str], cwd: Path) -> tuple[Path, dict[str, Any]]:
    """The configuration file, and one of its tables; empty where that has none. Raises ConfigError."""
    path = cwd / config_file(environ)
    found = read_toml(path, required=bool(environ.get(CONFIG_VARIABLE))).get(name, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: {name}: is a table", hint=f"write [{name}] on a line of its own")
    return path, found
