"""What a request may name to be fetched: checked when it comes, and again by the build, which knows the addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from buildkit.errors import UsageError
from buildkit.recipe.loader import LoadedRecipe
from buildkit.service.answers import BuildRequest

_SOURCE = re.compile(
    r"(?P<url>https://[!$->A-~]+)@(?P<rev>[0-9a-f]{40}|[0-9a-f]{64})(?:#subdirectory=[A-Za-z0-9._/-]+)?"
)


def check(request: BuildRequest, loaded: LoadedRecipe, hosts: Sequence[str]) -> None:
    """Raise UsageError for a source that a server does not fetch for others."""
    if request.source is not None:
        found = _SOURCE.fullmatch(request.source)
        if found is None:
            hint = "write https://HOST/PATH@FULL_COMMIT_ID"
            raise UsageError("`source` is not the https address of a git repository at a full commit", hint=hint)
        _check_host(found["url"], hosts)
    if request.recipe_toml is None:
        return
    for version in loaded.recipe.versions:
        if version.folder is not None:
            raise UsageError("a recipe that comes with a request builds no folder of the server's")
        if version.git is not None:
            _check_host(version.git, hosts)


def _check_host(url: str, hosts: Sequence[str]) -> None:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower().rstrip(".")
        is_plain = parts.scheme == "https" and not parts.username and not parts.password
    except ValueError:
        host, is_plain = "", False
    if not is_plain or host not in hosts:
        named = ", ".join(hosts) or "none"
        raise UsageError(
            f"sources are fetched by https from allowed hosts, and {host or 'this'} is none",
            evidence=f"allowed: {named}",
            hint="the server's operator names hosts: git-hosts in [service]",
        )
