"""pip's configuration as pip itself reads it: its files in their order, then PIP_* variables. No subprocess.

Source of the rules: pip's ``_internal/configuration.py`` and ``_internal/cli/parser.py`` (23.2 to 26.3): files
are global, user, site, then ``PIP_CONFIG_FILE``; ``[install]`` wins over ``[global]`` whatever the file, and a
``PIP_*`` variable over both; a later value replaces an earlier one, lists too; empty values count as absent.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from buildkit.errors import ConfigError

SECTIONS = ("global", "install")


def read_pip_options(environ: Mapping[str, str], *, prefix: Path | None, root: Path = Path("/")) -> dict[str, str]:
    """Option name (``extra-index-url``) to its raw text.

    ``prefix`` is the environment whose ``pip.conf`` counts as the site file. Raises :class:`ConfigError` for
    a file that does not parse: pip stops there too.
    """
    by_section: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for file in config_files(environ, prefix=prefix, root=root):
        parsed = _parse(file)
        for section in SECTIONS:
            if parsed.has_section(section):
                by_section[section].update((_option(key), value) for key, value in parsed.items(section))
    options: dict[str, str] = {}
    for values in (*by_section.values(), _from_variables(environ)):
        options.update((key, value.strip()) for key, value in values.items() if value.strip())
    return options


def config_files(environ: Mapping[str, str], *, prefix: Path | None, root: Path = Path("/")) -> Iterator[Path]:
    """The files that pip reads here, weakest first; only those that exist."""
    yield from (file for file in candidate_files(environ, prefix=prefix, root=root) if file.is_file())


def candidate_files(environ: Mapping[str, str], *, prefix: Path | None, root: Path = Path("/")) -> list[Path]:
    """The files that pip would read here if they were there, weakest first."""
    named = environ.get("PIP_CONFIG_FILE")
    # pip looks at the first letter range of the list: only the null device itself means "no file at all".
    if named == os.devnull:
        return []
    candidates = [folder / "pip" / "pip.conf" for folder in _site_folders(environ, root)] + [root / "etc" / "pip.conf"]
    if not (named and Path(named).exists()):
        home = Path(environ.get("HOME") or Path.home())
        config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
        candidates += [home / ".pip" / "pip.conf", config / "pip" / "pip.conf"]
    if prefix is not None:
        candidates.append(prefix / "pip.conf")
    if named:
        candidates.append(Path(named))
    return candidates


def _site_folders(environ: Mapping[str, str], root: Path) -> list[Path]:
    folders = environ.get("XDG_CONFIG_DIRS")
    return [Path(folder) for folder in folders.split(os.pathsep) if folder] if folders else [root / "etc" / "xdg"]


def _parse(file: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(file.read_text(encoding="utf-8", errors="surrogateescape"), source=str(file))
    except configparser.Error as error:
        raise ConfigError(
            f"pip's configuration file {file} does not parse",
            evidence=str(error).replace("\n", " "),
            hint="correct it, or set PIP_CONFIG_FILE=/dev/null to do without",
        ) from error
    except OSError:
        # pip skips a file that it may not read, too.
        return configparser.RawConfigParser()
    return parser


def _option(key: str) -> str:
    return key.lower().replace("_", "-").removeprefix("--")


def _from_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        _option(name[len("PIP_") :]): value
        for name, value in environ.items()
        if name.startswith("PIP_") and name not in {"PIP_CONFIG_FILE", "PIP_VERSION"}
    }
