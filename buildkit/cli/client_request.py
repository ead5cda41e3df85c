"""From a command's options to what a server is asked to build."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit.cli.settings import Settings, load_settings
from buildkit.errors import UsageError

if TYPE_CHECKING:
    from buildkit.cli.client import Asked

_HERE = "cudabuild --server none ...   builds on this machine"
_BUILDERS = {
    "cuda_home": "--cuda-home", "memory": "--memory", "jobs": "--jobs", "timeout": "--timeout",
    "stall_timeout": "--stall-timeout", "no_resume": "--no-resume", "offline": "--offline",
    "find_links": "--find-links", "store": "--store", "no_canary": "--no-canary", "no_defer": "--no-defer",
    "recipes_folder": "--recipes", "pass_env": "--pass-env",
}  # fmt: skip
"""Options that say how the machine that builds is to do it: the server's settings decide them."""


def settings_of(asked: Asked) -> Settings:
    """What was set on this machine."""
    return load_settings(asked.environ)


def request_for(package: str, asked: Asked, settings: Settings, *, torch: str | None = None) -> dict[str, Any]:
    """The body of ``POST /api/v1/builds``. Raises UsageError for what no server can be asked.

    ``torch``: the one that the wheel must fit, where nothing else was typed.
    """
    refuse_builders_options(asked)
    name, version = _name_of(package)
    options = asked.options
    body: dict[str, Any] = {"recipe": name, "device": options.get("device", "cuda")}
    chosen = options.get("torch") or settings.torch
    chosen = torch or (_active_torch(asked) if chosen == "active" else chosen)
    optional = {
        "version": version,
        "targets": _targets(options.get("targets") or settings.targets),
        "torch": chosen,
        "require": options.get("require"),
        "refresh": options.get("refresh"),
        "source": _source(options.get("source")),
    }
    return {**body, **{name: value for name, value in optional.items() if value}}


def refuse_builders_options(asked: Asked) -> None:
    """Raise UsageError for options that a server would not hear of."""
    wrong = [option for name, option in _BUILDERS.items() if name in asked.typed]
    if wrong:
        raise UsageError(f"{wrong[0]} is for the machine that builds, and a server decides it itself", hint=_HERE)


def _name_of(package: str) -> tuple[str, str | None]:
    if "/" in package or package.startswith((".", "pypi:")):
        what = "what has no recipe" if package.startswith("pypi:") else "a folder of this machine"
        raise UsageError(f"{package}: a server builds its recipes, by name, and not {what}", hint=_HERE)
    name, _, version = package.partition("==")
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        raise UsageError(f"{package!r} is no recipe's name", hint="cudabuild --server URL recipes list")
    return name, version or None


def _targets(targets: Sequence[str]) -> list[str]:
    if any("native" in re.split(r"[;,\s]+", text.lower()) for text in targets):
        hint = "name the GPU: --target rtx4090, or 8.9 (`cudabuild doctor` where it is says which)"
        raise UsageError("`native` would be the server's GPU, not this machine's", hint=hint)
    return list(targets)


def _source(source: str | None) -> str | None:
    if source and "://" not in source:
        raise UsageError(f"--source {source}: a server does not see this machine's files", hint=_HERE)
    return source


def _active_torch(asked: Asked) -> str | None:
    torch, _ = active_torch(asked.options.get("python"), asked.environ, settings_of(asked))
    if torch is None:
        raise UsageError("there is no torch in the active environment", hint="--torch VERSION, or leave it out")
    return torch


def active_torch(python: Path | None, environ: Mapping[str, str], settings: Settings) -> tuple[str | None, Any]:
    """The version of the active environment's torch (None: none), read without importing it; and its interpreter."""
    from buildkit.cli.settings import cache_folder
    from buildkit.machine.identity import Memo
    from buildkit.machine.interpreter import active_interpreter
    from buildkit.machine.torch_identity import identify_torch

    memo = Memo(cache_folder(settings, environ) / "memo")
    found = active_interpreter(python, environ, Path.cwd(), memo)
    torch = identify_torch(found.site_packages)
    return (torch.version if torch is not None else None), found


def wheels_folder(settings: Settings, environ: Mapping[str, str], key: str) -> Path:
    """Where a local command would have put a wheel without ``--out``."""
    from buildkit.cli.settings import cache_folder

    return cache_folder(settings, environ) / "wheels" / (re.sub(r"[^A-Za-z0-9]", "", key)[:16] or "server")


def quoted_server(url: str) -> str:
    """The beginning of a command for this server, as a person can type it."""
    return "cudabuild" if os.environ.get("CUDABUILD_SERVER", "").rstrip("/") == url else f"cudabuild --server {url}"
