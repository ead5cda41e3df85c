"""The command that a build runs as. Pure.

Every value stands behind a ``=``, the package behind ``--``: nothing that came over HTTP can be taken for an option.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from buildkit.service.answers import BuildRequest

GIT_HOSTS = "CUDABUILD_GIT_HOSTS"
"""The hosts that git may fetch from in a build whose source came with the request (buildkit.source.git_hosts)."""
_SECRET = ("CUDABUILD_SERVICE_", "CUDABUILD_TOKEN", "PGPASS")


def build_words(request: BuildRequest, build: str, *, jobs: int | None, recipes: Path | None) -> list[str]:
    """``cudabuild build`` under an id that is given."""
    more = [f"--jobs={jobs}"] if jobs else []
    refresh = ["--refresh"] if request.refresh else []
    command = [sys.executable, "-m", "buildkit.cli.as_build", build]
    return [*command, *_options(request, recipes), *refresh, *more, "--", _named(request)]


def plan_words(request: BuildRequest, *, recipes: Path | None) -> list[str]:
    """``cudabuild plan`` of the same."""
    return [sys.executable, "-m", "buildkit", "plan", *_options(request, recipes), "--json", "--", _named(request)]


def child_environment(environ: Mapping[str, str], cache: Path, git_hosts: Sequence[str] | None) -> dict[str, str]:
    """What a build's process sees: the server's variables without what is the server's own secret."""
    kept = {name: value for name, value in environ.items() if not name.startswith(_SECRET)}
    kept |= {"CUDABUILD_CACHE": str(cache), "CUDABUILD_SERVER": ""}  # it builds itself, whatever the file says
    kept.pop(GIT_HOSTS, None)
    if git_hosts is not None:
        kept[GIT_HOSTS] = " ".join(git_hosts) or "none"
    return kept


def _named(request: BuildRequest) -> str:
    return f"{request.recipe}=={request.version}" if request.version else request.recipe


def _options(request: BuildRequest, recipes: Path | None) -> list[str]:
    pairs = [("--target", target) for target in request.targets]
    pairs += [("--torch", request.torch or ""), ("--device", request.device), ("--require", request.require or "")]
    pairs += [("--source", request.source or ""), ("--recipes", str(recipes or ""))]
    return [f"{name}={value}" for name, value in pairs if value]
